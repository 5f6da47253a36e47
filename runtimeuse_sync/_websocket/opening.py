"""One attempt to open a WebSocket: name look-up, TCP, proxy, TLS, and the WebSocket handshake.

What of that is the same for all connections to a `Target`, such as the arguments of the handshake, is made once.

Threads: everything runs in the thread that will own the socket. The socket is non-blocking from the start, and each
wait is one of the `Opener`, which raises when the time is over or the connection is not wanted any more.
"""

import copy
import socket
import ssl
from typing import Dict, List, Optional, Tuple
from urllib.parse import unquote, urlsplit

from .._wire.redaction import header_secrets, scrub
from .._wire.urls import bracketed, host_secrets, is_loopback, is_secure, path_secrets, url_origin, url_secrets
from .attempt import Opener, OpeningFailed
from .dialing import dial
from .handshake import Handshake
from .proxy import Proxy, host_and_port, proxy_for, tunnel
from .socks import check_extra, socks_tunnel
from .tls import TlsSessions, default_context, start_tls

#: The `User-Agent` header, unless the user sets one.
USER_AGENT = "runtimeuse_sync"


class Target:
    """Where to connect, and how.

    Args:
        url: The URL, `ws://` or `wss://`, or `http://` or `https://`, which mean the same.
        headers: The HTTP headers to send with the handshake.
        ssl_context: The settings of TLS; `None` for the default ones.
        proxy: The URL of a proxy; `None` reads the environment, `""` uses no proxy.
        sessions: The TLS session to resume; `None` (default) resumes none.

    Attributes:
        url, headers, ssl_context, proxy, sessions: As given.
        origin: Scheme, host and port of the URL: what may be shown of it.
        host: The host, without the zone of an IPv6 address; and likewise `zone` and `port`.
        secure: Whether connections use TLS.
        host_is_loopback: Whether the host is this machine.
        handshake: The WebSocket handshake of each connection.
    """

    def __init__(
        self,
        url: str,
        headers: Dict[str, str],
        ssl_context: Optional[ssl.SSLContext],
        proxy: Optional[str],
        sessions: Optional[TlsSessions] = None,
    ) -> None:
        self.url = url
        self.headers = headers
        self.ssl_context = ssl_context
        self.proxy = proxy
        self.sessions = sessions
        self.origin: str = url_origin(url)
        parts = urlsplit(url)
        self.host: str
        self.zone: str
        self.host, self.zone = split_zone(parts.hostname or "")
        self.secure: bool = is_secure(url)
        default_port = 443 if self.secure else 80
        self.port: int = parts.port or default_port
        self.host_is_loopback: bool = is_loopback(self.host)
        shown_host = bracketed(self.host) if self.port == default_port else host_and_port(self.host, self.port)
        self.handshake: Handshake = Handshake(url, shown_host, headers)

    def __repr__(self) -> str:
        return f"Target({self.origin!r})"

    @property
    def is_on_loopback(self) -> bool:
        """Whether the connection stays on this machine."""
        return not self.proxy and self.host_is_loopback

    def with_context(self, ssl_context: ssl.SSLContext) -> "Target":
        """Returns the same target with other settings of TLS."""
        changed = copy.copy(self)
        changed.ssl_context = ssl_context
        return changed

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
    host, port = target.host, target.port
    # The environment's proxies are not asked for a host on this machine.
    direct = target.proxy is None and target.host_is_loopback
    proxy = None if direct else proxy_for(target.proxy, host, port, target.secure)
    if proxy is None:
        sock = dial(opener.look_up(host + target.zone, port), opener)
    else:
        sock = _connect_to_proxy(proxy, host, port, opener, target.secrets())
    try:
        opener.accepted()
        if target.secure:
            sock = start_tls(sock, host, target.ssl_context or default_context(), opener.wait, target.sessions)
        return sock, target.handshake.make(sock, opener, target.secrets)
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
