"""Which proxy leads to a host, if any, and the CONNECT request to an HTTP proxy (RFC 9110 §9.3.6).

The environment's `no_proxy` exempts hosts, by the rules of curl, requests and Go. An entry is `*` for every host; a
name, for the host itself and all below it, with or without a leading dot or `*.`; an address; or a network such as
`10.0.0.0/8`. A port behind it, `name:8080` or `[::1]:8080`, limits it to that port. Entries are separated by commas or
whitespace. An invalid entry matches nothing.

Threads: everything runs in the thread that will own the socket.
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
    """A proxy; user and password are percent-encoded, as in its URL."""

    scheme: str
    hostname: str
    port: int
    username: Optional[str]
    password: Optional[str]

    def secrets(self) -> List[str]:
        """Returns what must not be shown of it: user and password, in each form in which they are sent."""
        if self.username is None:
            return []
        password = self.password or ""
        plain = [self.username, password, unquote(self.username), unquote(password)]
        return [*plain, basic_authorization(self.username, self.password).split(" ", 1)[1]]

    def __repr__(self) -> str:
        return f"Proxy({self.scheme!r}, {self.hostname!r}, {self.port!r})"


def proxy_for(url: Optional[str], host: str, port: int, secure: bool) -> Optional[Proxy]:
    """Returns the proxy that leads to a host; `None` for none.

    Args:
        url: The URL of the proxy; `None` reads the environment, `""` uses no proxy.
        host: The host to connect to.
        port: Its port.
        secure: Whether the connection uses TLS.

    Raises:
        OpeningFailed: the URL of the proxy is invalid.
    """
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
        raise OpeningFailed("the URL of the proxy is invalid") from None
    if parts.scheme not in PROXY_SCHEMES or not parts.hostname:
        raise OpeningFailed(
            f"the proxy must be an http:// or socks5h:// URL (socks4, socks4a, socks5), not {url_origin(url)}"
        )
    default = 80 if parts.scheme == "http" else 1080
    return Proxy(parts.scheme, parts.hostname, proxy_port or default, parts.username, parts.password)


def _is_exempt(host: str, port: int) -> bool:
    environment = getproxies_environment()
    if environment:
        return bypassed(environment.get("no", ""), host, port)
    # The system settings of Windows or macOS; no host is exempt elsewhere.
    return bool(proxy_bypass(host_and_port(host, port)))


def host_and_port(host: str, port: int) -> str:
    """Returns host and port as they are written in a URL (RFC 3986 §3.2)."""
    return f"{bracketed(host)}:{port}"


def tunnel(sock: socket.socket, host: str, port: int, proxy: Proxy, opener: Opener, secrets: List[str]) -> None:
    """Makes an HTTP proxy connect to host and port.

    Args:
        sock: The connection to the proxy.
        host: The host to connect to.
        port: Its port.
        proxy: The proxy, for its credentials.
        opener: Waits for the socket.
        secrets: What must not be shown, besides the proxy's credentials.

    Raises:
        OpeningFailed: the proxy refused, or its response is not HTTP.
    """
    name = host_and_port(host, port)
    request = f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n"
    if proxy.username is not None:
        request += f"Proxy-Authorization: {basic_authorization(proxy.username, proxy.password)}\r\n"
    head, rest = ask(sock, (request + "\r\n").encode("latin-1"), opener.wait)
    status, _ = parse_status(head)
    if not 200 <= status < 300:
        raise refusal("the proxy refused the connection", sock, (head, rest), opener, [*secrets, *proxy.secrets()])
    if rest:
        raise OpeningFailed("the proxy sent data of its own after it had connected")


# The rules of `no_proxy`.


def bypassed(no_proxy: str, host: str, port: int) -> bool:
    """Returns whether `no_proxy` exempts a host and port."""
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
    """Returns an entry without its port, and the port. Two colons or more make an IPv6 address, bracketed or not."""
    found = re.fullmatch(r"\[(.*)\](?::([0-9]+))?|([^:]*):([0-9]+)", entry)
    if found is None:
        return entry, ""
    return found.group(1) or found.group(3) or "", found.group(2) or found.group(4) or ""


def _address(text: str) -> Optional[_Address]:
    """Returns a literal address without its zone, an IPv4-mapped IPv6 address as IPv4; `None` for a name."""
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
