"""One attempt to open a WebSocket: name look-up, TCP, proxy, TLS, and the WebSocket handshake.

The handshake is websocket-client's. It works on a stand-in for the socket, which reads the whole head of the response
first. So a server that sends its headers byte by byte cannot exceed the time, redirects are never followed (they would
carry `Authorization` to another host), and no cookie is kept for the whole process.

Threads: everything runs in the thread that will own the socket. The socket is non-blocking from the start, and each
wait is one of the `Opener`, which raises when the time is over or the connection is not wanted any more.
"""

import socket
import ssl
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import unquote, urlsplit

import websocket

from .._wire.redaction import header_secrets, scrub
from .._wire.urls import host_secrets, is_loopback, is_secure, path_secrets, url_origin, url_secrets, websocket_url
from .attempt import Opener, OpeningFailed, OpeningInterrupted
from .dialing import dial
from .http import ask, parse_status, refusal
from .proxy import Proxy, host_and_port, proxy_for, tunnel
from .socks import check_extra, socks_tunnel
from .tls import TlsSessions, default_context, start_tls

#: The `User-Agent` header, unless the user sets one.
USER_AGENT = "runtimeuse_sync"


class Target(NamedTuple):
    """Where to connect, and how.

    Attributes:
        url: The URL, `ws://` or `wss://`, or `http://` or `https://`, which mean the same.
        headers: The HTTP headers to send with the handshake.
        ssl_context: The settings of TLS; `None` for the default ones.
        proxy: The URL of a proxy; `None` reads the environment, `""` uses no proxy.
        sessions: The TLS session to resume; `None` (default) resumes none.
    """

    url: str
    headers: Dict[str, str]
    ssl_context: Optional[ssl.SSLContext]
    proxy: Optional[str]
    sessions: Optional[TlsSessions] = None

    def __repr__(self) -> str:
        return f"Target({url_origin(self.url)!r})"

    @property
    def is_on_loopback(self) -> bool:
        """Whether the connection stays on this machine."""
        return not self.proxy and is_loopback(urlsplit(self.url).hostname or "")

    def secrets(self) -> List[str]:
        """Returns what must not be shown of URL, headers and proxy."""
        headers = {name: value for name, value in self.headers.items() if value != USER_AGENT}
        proxy = url_secrets(self.proxy) if self.proxy else []
        return url_secrets(self.url) + path_secrets(self.url) + host_secrets(self.url) + header_secrets(headers) + proxy


def open_websocket(target: Target, opener: Opener) -> Tuple[socket.socket, bytes]:
    """Opens a connection; returns its non-blocking socket, and the bytes received after the peer's handshake.

    Raises:
        OpeningFailed: the attempt failed.
        OpeningInterrupted: the opener stopped the attempt.
    """
    parts = urlsplit(target.url)
    host, zone = split_zone(parts.hostname or "")
    secure = is_secure(target.url)
    port = parts.port or (443 if secure else 80)
    proxy = proxy_for(target.proxy, host, port, secure)
    if proxy is None:
        sock = dial(opener.look_up(host + zone, port), opener)
    else:
        sock = _connect_to_proxy(proxy, host, port, opener, target.secrets())
    try:
        opener.accepted()
        if secure:
            sock = start_tls(sock, host, target.ssl_context or default_context(), opener.wait, target.sessions)
        return sock, _handshake(sock, target, opener)
    except BaseException:
        sock.close()
        raise


def split_zone(host: str) -> Tuple[str, str]:
    """Returns a URL's host without the zone of an IPv6 address, and the zone as name look-ups take it: `%eth0`.

    In a URL the zone is `%25eth0` (RFC 6874). It has a meaning on this machine only, so it is not sent to any server.
    """
    address, percent, zone = host.partition("%")
    if not percent or ":" not in address:
        return host, ""
    return address, percent + unquote(zone[2:] if zone.startswith("25") else zone)


def _connect_to_proxy(proxy: Proxy, host: str, port: int, opener: Opener, secrets: List[str]) -> socket.socket:
    """Returns a connection to host and port through the proxy, which each failure names."""
    try:
        if proxy.scheme != "http":
            # Before dialing: the missing extra must be reported even if the proxy cannot be reached.
            check_extra(proxy)
        sock = dial(opener.look_up(proxy.hostname, proxy.port), opener)
        try:
            if proxy.scheme == "http":
                tunnel(sock, host, port, proxy, opener, secrets)
            else:
                socks_tunnel(sock, host, port, proxy, opener)
        except BaseException:
            sock.close()
            raise
    except OpeningFailed as failure:
        reason = scrub(str(failure), proxy.secrets())
        through = f"through the proxy {host_and_port(proxy.hostname, proxy.port)}: {reason}"
        raise OpeningFailed(
            through,
            retryable=failure.retryable,
            status=failure.status,
            retry_after=failure.retry_after,
            not_accepted=failure.not_accepted,
        ) from None
    return sock


class _HandshakeSocket:
    """Stands in for the socket in websocket-client's handshake: sends the request when the response is asked for."""

    def __init__(self, sock: socket.socket, opener: Opener, target: Target) -> None:
        self._offered = {name.lower() for name in target.headers}
        self._sock = sock
        self._opener = opener
        self._target = target
        self._request = b""
        self._head = b""
        self.rest = b""

    def gettimeout(self) -> float:
        return 0.0

    def settimeout(self, _: Optional[float]) -> None:
        """Does nothing: the opener limits the waits."""

    def send(self, data: bytes) -> int:
        self._request += data
        return len(data)

    def recv(self, _: int) -> bytes:
        if not self._head:
            self._head = self._checked_head()
        # websocket-client asks for single bytes until it gets a newline, and joins them. It accepts longer pieces, so
        # it gets each line in two: a call for each byte would take a tenth of the time of a query.
        end = max(1, self._head.find(b"\n"))
        taken, self._head = self._head[:end], self._head[end:]
        return taken

    def close(self) -> None:
        """Does nothing: `open_websocket` closes the socket."""

    def _checked_head(self) -> bytes:
        head, self.rest = ask(self._sock, self._request, self._opener.wait)
        status, _ = parse_status(head)
        if status != 101:
            what = "the server refused the WebSocket handshake"
            raise refusal(what, self._sock, (head, self.rest), self._opener, self._target.secrets())
        lines = head.split(b"\r\n")
        for line in lines:
            name = line.split(b":", 1)[0].strip().lower()
            if name in (b"sec-websocket-extensions", b"sec-websocket-protocol") and name.decode() not in self._offered:
                # RFC 6455 §4.1: the server must not choose what the client did not offer.
                raise OpeningFailed(f"the server chose a {name.decode('ascii')} that was not offered")
        return b"\r\n".join(line for line in lines if not line.lower().startswith(b"set-cookie:"))


def _host_without_zone(url: str) -> Optional[str]:
    """Returns the `Host` header for a URL whose host has a zone; `None` for any other URL."""
    if "%" not in url:
        return None
    parts = urlsplit(url)
    address, zone = split_zone(parts.hostname or "")
    if not zone:
        return None
    return host_and_port(address, parts.port) if parts.port else f"[{address}]"


def _handshake(sock: socket.socket, target: Target, opener: Opener) -> bytes:
    headers = dict(target.headers)
    host = next((headers.pop(name) for name in list(headers) if name.lower() == "host"), None)
    host = host or _host_without_zone(target.url)
    stand_in = _HandshakeSocket(sock, opener, target)
    client: Any = websocket.WebSocket(enable_multithread=False)
    try:
        client.connect(
            websocket_url(target.url),
            socket=stand_in,
            header=[f"{name}: {value}" for name, value in headers.items()],
            host=host,
            suppress_origin=True,
            redirect_limit=0,
        )
    except (OpeningFailed, OpeningInterrupted):
        raise
    except Exception as error:
        # Any error of websocket-client's in an invalid response. Not chained: its text may hold headers.
        raise OpeningFailed(f"the server's response is not a WebSocket handshake ({type(error).__name__})") from None
    return stand_in.rest
