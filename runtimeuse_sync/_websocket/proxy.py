"""Getting through a proxy: which one, if any, and an HTTP proxy's CONNECT request (RFC 9110 §9.3.6).

Everything runs in the thread that owns the socket.
"""

import socket
from typing import List, NamedTuple, Optional
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

from .._wire.urls import PROXY_SCHEMES, bracketed, is_loopback, url_origin
from .http import OpeningFailed, ask, basic_authorization, parse_status
from .no_proxy import bypassed
from .opener import Opener
from .refusal import refusal


class Proxy(NamedTuple):
    """A proxy; user and password as the URL has them, percent-encoded."""

    scheme: str
    hostname: str
    port: int
    username: Optional[str]
    password: Optional[str]

    def secrets(self) -> List[str]:
        """Returns what must not be shown of it: user and password, in every form in which they are sent."""
        if self.username is None:
            return []
        password = self.password or ""
        plain = [self.username, password, unquote(self.username), unquote(password)]
        return [*plain, basic_authorization(self.username, self.password).split(" ", 1)[1]]

    def __repr__(self) -> str:
        return f"Proxy({self.scheme!r}, {self.hostname!r}, {self.port!r})"


def proxy_for(url: Optional[str], host: str, port: int, secure: bool) -> Optional[Proxy]:
    """Returns the proxy for a host: that of `url`; for `None`, what the environment says; for `""`, none."""
    if url is None:
        if is_loopback(host) or _is_exempt(host, port):
            return None
        proxies = getproxies()
        url = proxies.get("https" if secure else "http") or proxies.get("all")
    if not url:
        return None
    try:
        parts = urlsplit(url if "://" in url else "http://" + url)
        proxy_port = parts.port
    except ValueError:
        raise OpeningFailed("the URL of the proxy makes no sense") from None
    if parts.scheme not in PROXY_SCHEMES or not parts.hostname:
        raise OpeningFailed(f"the proxy must be a URL of http:// or socks5h:// or its like, not {url_origin(url)}")
    default = 80 if parts.scheme == "http" else 1080
    return Proxy(parts.scheme, parts.hostname, proxy_port or default, parts.username, parts.password)


def _is_exempt(host: str, port: int) -> bool:
    environment = getproxies_environment()
    if environment:
        return bypassed(environment.get("no", ""), host, port)
    # The settings of Windows or macOS; nothing elsewhere.
    return bool(proxy_bypass(host_and_port(host, port)))


def host_and_port(host: str, port: int) -> str:
    """Returns host and port as a URL has them (RFC 3986 §3.2)."""
    return f"{bracketed(host)}:{port}"


def tunnel(sock: socket.socket, host: str, port: int, proxy: Proxy, opener: Opener, secrets: List[str]) -> None:
    """Has an HTTP proxy connect to host and port.

    Raises:
        OpeningFailed: it refused, or its answer is no answer.
    """
    name = host_and_port(host, port)
    request = f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n"
    if proxy.username is not None:
        request += f"Proxy-Authorization: {basic_authorization(proxy.username, proxy.password)}\r\n"
    head, rest = ask(sock, (request + "\r\n").encode("latin-1"), opener)
    status, _ = parse_status(head)
    if not 200 <= status < 300:
        raise refusal("the proxy refused the connection", sock, (head, rest), opener, [*secrets, *proxy.secrets()])
    if rest:
        raise OpeningFailed("the proxy sent something of its own after the connection was made")
