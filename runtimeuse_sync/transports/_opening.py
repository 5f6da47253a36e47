"""Opening a WebSocket: name look-up, TCP, proxy, TLS, handshake, within one deadline and wakeable at every wait.

Everything runs in the thread that will own the socket; the socket is non-blocking from the start, and each wait goes
through the `Wait` it is given, which raises when the time is over or the opening is not wanted any more. (The name
look-up alone cannot be interrupted: the operating system offers no way.)

The handshake itself is websocket-client's. It is given a stand-in for the socket that reads the whole answer first, so
that a slow drip of header bytes is bounded, redirects are never followed (they would carry `Authorization` to another
host), and cookies are not kept for the whole process.
"""

import base64
import errno
import socket
import ssl
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import websocket

from .._redaction import scrub, url_origin

#: Waits until the socket can be read from (first flag) or written to (second flag).
Wait = Callable[[socket.socket, bool, bool], None]

#: The longest answer to a handshake that is read, in bytes.
MAX_ANSWER = 64 * 1024

_RETRYABLE_STATUS = (502, 503, 504)
_RETRYABLE_ERRNO = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
)


class OpeningFailed(Exception):
    """One attempt to open the connection failed.

    Attributes:
        retryable: Whether the runtime may just not be up yet.
        status: The HTTP status of the answer, where there was one.
    """

    def __init__(self, reason: str, *, retryable: bool = False, status: Optional[int] = None) -> None:
        super().__init__(reason)
        self.retryable = retryable
        self.status = status


class OpeningInterrupted(Exception):
    """The time is over, or nobody wants the connection any more; raised by the `Wait` that an opening is given."""


class Target(NamedTuple):
    """Where to connect, and how.

    Attributes:
        url: The `ws://` or `wss://` URL.
        headers: Sent with the handshake.
        ssl_context: For `wss://`.
        proxy: URL of an HTTP proxy; `None` asks the environment, `""` uses none.
    """

    url: str
    headers: Dict[str, str]
    ssl_context: Optional[ssl.SSLContext]
    proxy: Optional[str]


def open_websocket(target: Target, wait: Wait) -> Tuple[socket.socket, bytes]:
    """Opens a connection; returns the socket, non-blocking, and what the peer sent after its handshake.

    Raises:
        OpeningFailed: the attempt failed. Whatever `wait` raises passes through.
    """
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    secure = parts.scheme == "wss"
    port = parts.port or (443 if secure else 80)
    proxy = _proxy_for(target, host, secure)
    sock = _connect(proxy.hostname or "", proxy.port or 80, wait) if proxy else _connect(host, port, wait)
    try:
        if proxy:
            _tunnel(sock, host, port, proxy.username, proxy.password, wait)
        if secure:
            sock = _start_tls(sock, host, target.ssl_context, wait)
        return sock, _handshake(sock, target, wait)
    except BaseException:
        sock.close()
        raise


class _Proxy(NamedTuple):
    hostname: Optional[str]
    port: Optional[int]
    username: Optional[str]
    password: Optional[str]


def _proxy_for(target: Target, host: str, secure: bool) -> Optional[_Proxy]:
    url = target.proxy
    if url is None:
        if proxy_bypass(host):
            return None
        proxies = getproxies()
        url = proxies.get("https" if secure else "http") or proxies.get("all")
    if not url:
        return None
    parts = urlsplit(url if "://" in url else "http://" + url)
    if parts.scheme != "http" or not parts.hostname:
        raise OpeningFailed(f"the proxy must be an http:// URL, not {url_origin(url)}")
    return _Proxy(parts.hostname, parts.port, parts.username, parts.password)


def _connect(host: str, port: int, wait: Wait) -> socket.socket:
    try:
        addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        temporary = isinstance(error, socket.gaierror)
        raise OpeningFailed(f"the host name {host} cannot be resolved: {error}", retryable=temporary) from None
    failure = OSError(errno.EADDRNOTAVAIL, "the host name has no address")
    for family, kind, protocol, _, address in addresses:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(address)
            if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN):
                wait(sock, False, True)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return sock
            failure = OSError(code, errno.errorcode.get(code, str(code)))
        except BaseException:
            sock.close()
            raise
        sock.close()
    raise _os_failure(failure)


def _os_failure(error: OSError) -> OpeningFailed:
    names = {errno.ECONNREFUSED: "connection refused", errno.ECONNRESET: "connection reset"}
    text = names.get(error.errno or 0) or error.strerror or str(error)
    return OpeningFailed(text, retryable=error.errno in _RETRYABLE_ERRNO)


def _start_tls(sock: socket.socket, host: str, context: Optional[ssl.SSLContext], wait: Wait) -> socket.socket:
    context = context or ssl.create_default_context()
    try:
        secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except (ssl.SSLError, ValueError) as error:
        raise OpeningFailed(f"TLS: {error}") from error
    try:
        while True:
            try:
                secured.do_handshake()
                return secured
            except ssl.SSLWantReadError:
                wait(secured, True, False)
            except ssl.SSLWantWriteError:
                wait(secured, False, True)
    except ssl.SSLCertVerificationError as error:
        secured.close()
        raise OpeningFailed(f"the certificate of {host} is not valid: {error.verify_message}") from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
        secured.close()
        raise OpeningFailed("the connection was closed during the TLS handshake", retryable=True) from error
    except ssl.SSLError as error:
        secured.close()
        raise OpeningFailed(f"TLS: {error.reason or error}") from error
    except BaseException:
        secured.close()
        raise


def _send_all(sock: socket.socket, data: bytes, wait: Wait) -> None:
    while data:
        try:
            data = data[sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            wait(sock, False, True)
        except ssl.SSLWantReadError:
            wait(sock, True, False)
        except OSError as error:
            raise _os_failure(error) from error


def _read_answer(sock: socket.socket, wait: Wait) -> Tuple[bytes, bytes]:
    """Returns the head of an HTTP answer (with its empty line), and what came after it."""
    received = bytearray()
    while True:
        at = received.find(b"\r\n\r\n")
        if at >= 0:
            return bytes(received[: at + 4]), bytes(received[at + 4 :])
        if len(received) > MAX_ANSWER:
            raise OpeningFailed(f"the answer to the handshake has more than {MAX_ANSWER} bytes of headers")
        try:
            data = sock.recv(16384)
        except (BlockingIOError, ssl.SSLWantReadError):
            wait(sock, True, False)
            continue
        except ssl.SSLWantWriteError:
            wait(sock, False, True)
            continue
        except OSError as error:
            raise _os_failure(error) from error
        if not data:
            raise OpeningFailed("the connection was closed during the handshake", retryable=True)
        received += data


def _parse_status(head: bytes) -> Tuple[int, str]:
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise OpeningFailed("the answer to the handshake is not HTTP")
    return int(words[1]), words[2] if len(words) > 2 else ""


def _tunnel(
    sock: socket.socket, host: str, port: int, username: Optional[str], password: Optional[str], wait: Wait
) -> None:
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n"
    if username is not None:
        request += f"Proxy-Authorization: {basic_authorization(username, password)}\r\n"
    _send_all(sock, (request + "\r\n").encode("latin-1"), wait)
    head, rest = _read_answer(sock, wait)
    status, reason = _parse_status(head)
    if not 200 <= status < 300:
        raise OpeningFailed(
            f"the proxy refused the connection: HTTP {status} {reason}".rstrip(),
            retryable=status in _RETRYABLE_STATUS,
            status=status,
        )
    if rest:
        raise OpeningFailed("the proxy sent something of its own after the connection was made")


def basic_authorization(username: str, password: Optional[str]) -> str:
    """Returns the value of an `Authorization` header for percent-encoded URL credentials (RFC 7617)."""
    credentials = f"{unquote(username)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(credentials.encode("utf-8")).decode("ascii")


class _HandshakeSocket:
    """What websocket-client's handshake takes for the socket: sends for real, then reads from the answer read whole."""

    def __init__(self, sock: socket.socket, wait: Wait, secrets: List[str]) -> None:
        self._sock = sock
        self._wait = wait
        self._secrets = secrets
        self._head = b""
        self.rest = b""

    def gettimeout(self) -> float:
        return 0.0

    def settimeout(self, _: Optional[float]) -> None:
        """The waits have their own limit."""

    def send(self, data: bytes) -> int:
        _send_all(self._sock, data, self._wait)
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self._head:
            self._head = self._checked_answer()
        taken, self._head = self._head[:size], self._head[size:]
        return taken

    def close(self) -> None:
        """The socket is closed by who opened it."""

    def _checked_answer(self) -> bytes:
        head, self.rest = _read_answer(self._sock, self._wait)
        status, reason = _parse_status(head)
        if status != 101:
            text = scrub(f"HTTP {status} {reason}".rstrip(), self._secrets)
            raise OpeningFailed(
                f"the server refused the WebSocket handshake: {text}",
                retryable=status in _RETRYABLE_STATUS,
                status=status,
            )
        lines = head.split(b"\r\n")
        for line in lines:
            name = line.split(b":", 1)[0].strip().lower()
            if name in (b"sec-websocket-extensions", b"sec-websocket-protocol"):
                # RFC 6455 §4.1: what the client did not offer must not be answered.
                raise OpeningFailed(f"the server answered with a {name.decode('ascii')} that was not offered")
        return b"\r\n".join(line for line in lines if not line.lower().startswith(b"set-cookie:"))


def _handshake(sock: socket.socket, target: Target, wait: Wait) -> bytes:
    headers = dict(target.headers)
    host = next((headers.pop(name) for name in list(headers) if name.lower() == "host"), None)
    stand_in = _HandshakeSocket(sock, wait, list(target.headers.values()))
    client: Any = websocket.WebSocket(enable_multithread=False)
    try:
        client.connect(
            target.url,
            socket=stand_in,
            header=[f"{name}: {value}" for name, value in headers.items()],
            host=host,
            suppress_origin=True,
            redirect_limit=0,
        )
    except (OpeningFailed, OpeningInterrupted):
        raise
    except Exception as error:
        # Whatever websocket-client trips over in a strange answer. Not chained: its text may hold headers.
        raise OpeningFailed(f"the server's answer is no WebSocket handshake ({type(error).__name__})") from None
    return stand_in.rest
