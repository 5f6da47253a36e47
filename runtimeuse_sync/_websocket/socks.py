"""The requests to a SOCKS proxy; python-socks, of the extra `[socks]`, knows the protocol, and this module moves bytes.

python-socks has a layer without sockets, which makes what is to be sent and parses what was received. So the socket
stays non-blocking, and each wait can be ended.

Threads: everything runs in the thread that will own the socket.
"""

import importlib
import socket
from typing import Any
from urllib.parse import unquote

from .attempt import Opener, OpeningFailed, OpeningInterrupted, Wait, closed_early
from .http import receive, send_all
from .late_imports import load
from .proxy import Proxy

#: The replies of a proxy while the runtime behind it may not be up yet: general failure; network or host unreachable;
#: connection refused; TTL expired.
_SOCKS5_RETRYABLE = (1, 3, 4, 5, 6)
_SOCKS4_RETRYABLE = (0x5B,)


def socks_tunnel(sock: socket.socket, host: str, port: int, proxy: Proxy, opener: Opener) -> None:
    """Makes a SOCKS proxy connect to host and port.

    For `socks5://` and `socks4://` this machine looks up the name, for `socks5h://` and `socks4a://` the proxy does.

    Raises:
        OpeningFailed: the proxy refused, its reply is not SOCKS, or the extra is not installed.
        OpeningInterrupted: the interpreter is shutting down.
    """
    version = _version(proxy)
    protocol = _protocol(version)
    if proxy.scheme in ("socks4", "socks5"):
        host = _address(host, port, version, opener)
    talk = _socks4 if version == 4 else _socks5
    try:
        talk(protocol, sock, host, port, proxy, opener.wait)
    except protocol.ReplyError as error:
        retryable_codes = _SOCKS4_RETRYABLE if version == 4 else _SOCKS5_RETRYABLE
        retryable = getattr(error, "error_code", None) in retryable_codes
        raise OpeningFailed(f"the proxy refused the connection: {error}", retryable=retryable) from None
    except (UnicodeError, ValueError, OverflowError):
        # Not chained: its text may hold the password.
        raise OpeningFailed(
            "SOCKS cannot carry this host name, user or password: they must be ASCII, and 255 characters at most"
        ) from None


def check_extra(proxy: Proxy) -> None:
    """Checks that the extra which a SOCKS proxy needs is installed.

    Raises:
        OpeningFailed: it is not installed.
        OpeningInterrupted: the interpreter is shutting down.
    """
    _protocol(_version(proxy))


def _version(proxy: Proxy) -> int:
    return 4 if proxy.scheme.startswith("socks4") else 5


def _protocol(version: int) -> Any:
    module = f"python_socks._protocols.socks{version}"
    try:
        if not load(module):
            raise OpeningInterrupted("the interpreter is shutting down")
    except ImportError:
        raise OpeningFailed('a SOCKS proxy needs the extra [socks]: pip install "runtimeuse-sync[socks]"') from None
    return importlib.import_module(module)


def _address(host: str, port: int, version: int, opener: Opener) -> str:
    """Returns the address to request from the proxy: an IPv4 one if there is any, since more proxies reach it."""
    found = {each[0]: each[4][0] for each in reversed(opener.look_up(host, port))}
    address = found.get(socket.AF_INET) or (found.get(socket.AF_INET6) if version == 5 else None)
    if address is None:
        raise OpeningFailed(f"the host name {host} has no address that SOCKS {version} can carry")
    return str(address).partition("%")[0]


def _socks4(protocol: Any, sock: socket.socket, host: str, port: int, proxy: Proxy, wait: Wait) -> None:
    connection = protocol.Connection()
    user = unquote(proxy.username or "")
    request = protocol.ConnectRequest(host=host, port=port, user_id=user)
    send_all(sock, connection.send(request), wait)
    connection.receive(_exactly(sock, 8, wait))


def _socks5(protocol: Any, sock: socket.socket, host: str, port: int, proxy: Proxy, wait: Wait) -> None:
    connection = protocol.Connection()
    user, password = unquote(proxy.username or ""), unquote(proxy.password or "")
    methods = protocol.AuthMethodsRequest(username=user, password=password)
    send_all(sock, connection.send(methods), wait)
    reply = connection.receive(_exactly(sock, 2, wait))
    if reply.method == protocol.AuthMethod.USERNAME_PASSWORD:
        credentials = protocol.AuthRequest(username=user, password=password)
        send_all(sock, connection.send(credentials), wait)
        connection.receive(_exactly(sock, 2, wait))
    send_all(sock, connection.send(protocol.ConnectRequest(host=host, port=port)), wait)
    connection.receive(_connect_reply(sock, wait))


def _connect_reply(sock: socket.socket, wait: Wait) -> bytes:
    """Returns a complete reply to CONNECT (RFC 1928 §6), or its beginning if that is invalid or a refusal."""
    reply = _exactly(sock, 4, wait)
    if reply[:3] != b"\x05\x00\x00":
        return reply
    if reply[3] == 3:
        size = _exactly(sock, 1, wait)
        return reply + size + _exactly(sock, size[0] + 2, wait)
    size_of_address = {1: 4, 4: 16}.get(reply[3])
    return reply if size_of_address is None else reply + _exactly(sock, size_of_address + 2, wait)


def _exactly(sock: socket.socket, size: int, wait: Wait) -> bytes:
    data = b""
    while len(data) < size:
        more = receive(sock, size - len(data), wait)
        if not more:
            raise closed_early()
        data += more
    return data
