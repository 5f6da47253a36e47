"""Getting through a SOCKS proxy: the protocol is python-socks', of the extra `[socks]`; the bytes are moved here.

python-socks has a layer that knows no sockets: it makes what is to be sent, and reads what has been received. So the
socket stays non-blocking, and each wait can be ended. Everything runs in the thread that owns the socket.
"""

import importlib
import socket
from typing import Any
from urllib.parse import unquote

from .attempt import Opener, OpeningFailed, OpeningInterrupted, closed_early
from .http import receive, send_all
from .late_imports import load
from .proxy import Proxy

#: What a proxy says while the runtime behind it may just not be up yet: a failure of any kind; network or host
#: unreachable, refused, lost on the way.
_SOCKS5_MAY_PASS = (1, 3, 4, 5, 6)
_SOCKS4_MAY_PASS = (0x5B,)


def socks_tunnel(sock: socket.socket, host: str, port: int, proxy: Proxy, opener: Opener) -> None:
    """Has a SOCKS proxy connect to host and port.

    With `socks5://` and `socks4://` the name is looked up here, with `socks5h://` and `socks4a://` by the proxy.

    Raises:
        OpeningFailed: it refused, or its answer is none; or the extra is not installed.
    """
    version = _version(proxy)
    protocol = _protocol(version)
    if proxy.scheme in ("socks4", "socks5"):
        host = _address(host, port, version, opener)
    talk = _socks4 if version == 4 else _socks5
    try:
        talk(protocol, sock, host, port, proxy, opener)
    except protocol.ReplyError as error:
        may_pass = _SOCKS4_MAY_PASS if version == 4 else _SOCKS5_MAY_PASS
        retryable = getattr(error, "error_code", None) in may_pass
        raise OpeningFailed(f"the proxy refused the connection: {error}", retryable=retryable) from None
    except (UnicodeError, ValueError, OverflowError):
        # Not chained: its text may hold the password.
        raise OpeningFailed(
            "SOCKS cannot carry this host name, user or password: they must be ASCII, and 255 characters at most"
        ) from None


def check_extra(proxy: Proxy) -> None:
    """Raises `OpeningFailed` if the extra that a SOCKS proxy needs is not installed."""
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
    """Returns the address to name to the proxy: an IPv4 one if there is any, for more proxies reach it."""
    found = {each[0]: each[4][0] for each in reversed(opener.look_up(host, port))}
    address = found.get(socket.AF_INET) or (found.get(socket.AF_INET6) if version == 5 else None)
    if address is None:
        raise OpeningFailed(f"the host name {host} has no address that SOCKS {version} can carry")
    return str(address).partition("%")[0]


def _socks4(protocol: Any, sock: socket.socket, host: str, port: int, proxy: Proxy, opener: Opener) -> None:
    connection = protocol.Connection()
    user = unquote(proxy.username or "")
    request = protocol.ConnectRequest(host=host, port=port, user_id=user)
    send_all(sock, connection.send(request), opener)
    connection.receive(_exactly(sock, 8, opener))


def _socks5(protocol: Any, sock: socket.socket, host: str, port: int, proxy: Proxy, opener: Opener) -> None:
    connection = protocol.Connection()
    user, password = unquote(proxy.username or ""), unquote(proxy.password or "")
    methods = protocol.AuthMethodsRequest(username=user, password=password)
    send_all(sock, connection.send(methods), opener)
    reply = connection.receive(_exactly(sock, 2, opener))
    if reply.method == protocol.AuthMethod.USERNAME_PASSWORD:
        credentials = protocol.AuthRequest(username=user, password=password)
        send_all(sock, connection.send(credentials), opener)
        connection.receive(_exactly(sock, 2, opener))
    send_all(sock, connection.send(protocol.ConnectRequest(host=host, port=port)), opener)
    connection.receive(_connect_reply(sock, opener))


def _connect_reply(sock: socket.socket, opener: Opener) -> bytes:
    """Returns a whole reply to CONNECT (RFC 1928 §6), or as much as says that it is none, or a refusal."""
    reply = _exactly(sock, 4, opener)
    if reply[:3] != b"\x05\x00\x00":
        return reply
    if reply[3] == 3:
        size = _exactly(sock, 1, opener)
        return reply + size + _exactly(sock, size[0] + 2, opener)
    size_of_address = {1: 4, 4: 16}.get(reply[3])
    return reply if size_of_address is None else reply + _exactly(sock, size_of_address + 2, opener)


def _exactly(sock: socket.socket, size: int, opener: Opener) -> bytes:
    data = b""
    while len(data) < size:
        more = receive(sock, size - len(data), opener)
        if not more:
            raise closed_early()
        data += more
    return data
