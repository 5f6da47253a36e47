"""Getting through an HTTP proxy: which one, if any, and the CONNECT request (RFC 9110 §9.3.6).

Everything runs in the thread that owns the socket.
"""

import socket
from typing import List, NamedTuple, Optional
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .._redaction import url_origin
from .._validation import bracketed, is_loopback
from ._http import RETRYABLE_STATUS, OpeningFailed, Wait, ask, basic_authorization, parse_status


class Proxy(NamedTuple):
    """An HTTP proxy; user and password as the URL has them, percent-encoded."""

    hostname: str
    port: Optional[int]
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
        return f"Proxy({self.hostname!r}, {self.port!r})"


def proxy_for(url: Optional[str], host: str, port: int, secure: bool) -> Optional[Proxy]:
    """Returns the proxy for a host: that of `url`; for `None`, what the environment says; for `""`, none."""
    if url is None:
        if is_loopback(host) or proxy_bypass(host_and_port(host, port)):
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
    if parts.scheme != "http" or not parts.hostname:
        raise OpeningFailed(f"the proxy must be an http:// URL, not {url_origin(url)}")
    return Proxy(parts.hostname, proxy_port, parts.username, parts.password)


def host_and_port(host: str, port: int) -> str:
    """Returns host and port as a URL has them (RFC 3986 §3.2)."""
    return f"{bracketed(host)}:{port}"


def tunnel(sock: socket.socket, host: str, port: int, proxy: Proxy, wait: Wait) -> None:
    """Has the proxy connect to host and port.

    Raises:
        OpeningFailed: it refused, or its answer is no answer.
    """
    name = host_and_port(host, port)
    request = f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n"
    if proxy.username is not None:
        request += f"Proxy-Authorization: {basic_authorization(proxy.username, proxy.password)}\r\n"
    head, rest = ask(sock, (request + "\r\n").encode("latin-1"), wait)
    status, reason = parse_status(head)
    if not 200 <= status < 300:
        raise OpeningFailed(
            f"the proxy refused the connection: HTTP {status} {reason}".rstrip(),
            retryable=status in RETRYABLE_STATUS,
            status=status,
        )
    if rest:
        raise OpeningFailed("the proxy sent something of its own after the connection was made")
