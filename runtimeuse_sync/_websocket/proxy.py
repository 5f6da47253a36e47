"""Getting through a proxy: which one, if any, and an HTTP proxy's CONNECT request (RFC 9110 §9.3.6).

Everything runs in the thread that owns the socket.
"""

import ipaddress
import re
import socket
from typing import List, NamedTuple, Optional, Tuple, Union
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

from .._wire.urls import PROXY_SCHEMES, bracketed, is_loopback, url_origin
from .attempt import Opener, OpeningFailed
from .http import ask, basic_authorization, parse_status, refusal

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


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


# The rules of `no_proxy`.


def bypassed(no_proxy: str, host: str, port: int) -> bool:
    """Returns whether a host and port are reached without a proxy."""
    name = host.lower().rstrip(".")
    address = _address(name)
    return any(_matches(entry, name, address, port) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)


def _matches(entry: str, name: str, address: Optional[_Address], port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _holds(entry, address)
    entry, entry_port = _split_port(entry)
    if entry_port and entry_port != str(port):
        return False
    if address is not None:
        return _address(entry) == address
    below = re.sub(r"^(\*?\.)+", "", entry).rstrip(".")
    return bool(below) and (name == below or name.endswith("." + below))


def _split_port(entry: str) -> Tuple[str, str]:
    """Returns an entry without its port, and the port; more colons than one are an IPv6 address, brackets or not."""
    found = re.fullmatch(r"\[(.*)\](?::([0-9]+))?|([^:]*):([0-9]+)", entry)
    if found is None:
        return entry, ""
    return found.group(1) or found.group(3) or "", found.group(2) or found.group(4) or ""


def _address(text: str) -> Optional[_Address]:
    """Returns a literal address, without a zone; an IPv4 one that is written as IPv6 as what it is."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _holds(network: str, address: _Address) -> bool:
    try:
        return address in ipaddress.ip_network(network.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False
