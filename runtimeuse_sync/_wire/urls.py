"""Hosts and URLs: how to write them, and which parts of a URL may be secret.

In a runtime's URL everything except scheme, host and port may be secret, and in the host a token that signs the URL; in
a presigned URL, the user, the password and the query string.

A runtime's URL may begin with `https://` as well as with `wss://`: providers of sandboxes give it so. It stays as it
was given, and what is shown of it, too; only the handshake gets the scheme of WebSockets.

Threads: pure functions; each runs in its caller's thread.
"""

import ipaddress
import re
from typing import List, Set
from urllib.parse import unquote, unquote_plus, urlsplit

from .redaction import MASK, MIN_SECRET_LENGTH

#: The supported schemes of proxy URLs. Desktops put `socks://` into the environment and mean SOCKS version 5.
PROXY_SCHEMES = ("http", "socks4", "socks4a", "socks5", "socks5h", "socks")

#: The schemes of a runtime's URL, each with the one that WebSockets have for it.
_WEBSOCKET_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}

#: Their names as error texts list them.
SCHEMES_IN_WORDS = "ws://, wss://, http:// or https://"

#: The host of a signed preview URL of Daytona, on any domain: a port and a token. Whoever has the URL gets in.
_SIGNED_HOST = re.compile(r"([0-9]{1,5}-)([a-z0-9]{16})(?=\.)", re.IGNORECASE)

#: What is shown in place of a token in a host name, where brackets would make the URL an invalid one.
_HOST_MASK = "REDACTED"

#: Segments of a URL's path that have fewer characters than this are words, not secrets.
MIN_PATH_SECRET_LENGTH = 8

_HEADER = "host|range|content-(disposition|encoding|language|length|md5|type)|x-amz-(acl|content-sha256|date)"
_HTTP_DATE = r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z)?"
_MEDIA_TYPE = "application/(gzip|json|octet-stream|pdf|xml|zip)|image/(gif|jpeg|png)|text/(csv|html|markdown|plain|xml)"

#: The public parameters of presigned URLs (S3, Google, Azure), by lower-case name, with the pattern of their values.
#: Such values (`host`, `3600`) are common in ordinary text, so masking them would garble it. A value stays unmasked
#: only if it matches its pattern exactly.
_PUBLIC_PARAMETERS = {
    "x-amz-algorithm": "AWS4-(HMAC|ECDSA-P256)-SHA256",
    "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    "x-amz-date": r"\d{8}T\d{6}Z",
    "x-amz-expires": r"\d{1,6}",
    "x-amz-signedheaders": f"({_HEADER})(;({_HEADER}))*",
    "x-id": "GetObject|PutObject|UploadPart",
    "x-goog-algorithm": "GOOG4-(HMAC|RSA)-SHA256",
    "x-goog-date": r"\d{8}T\d{6}Z",
    "x-goog-expires": r"\d{1,6}",
    "x-goog-signedheaders": f"({_HEADER})(;({_HEADER}))*",
    "spr": "https?(,https?)?",
    "sv": _HTTP_DATE,
    "st": _HTTP_DATE,
    "se": _HTTP_DATE,
    "rsct": _MEDIA_TYPE,
    "content-type": _MEDIA_TYPE,
    "response-content-type": _MEDIA_TYPE,
}


def is_websocket_scheme(scheme: str) -> bool:
    """Returns whether a runtime's URL may have a scheme, given in lower case."""
    return scheme in _WEBSOCKET_SCHEMES


def is_secure(url: str) -> bool:
    """Returns whether connections to a runtime's URL use TLS."""
    return _WEBSOCKET_SCHEMES.get(urlsplit(url).scheme) == "wss"


def websocket_url(url: str) -> str:
    """Returns a runtime's URL with the scheme of WebSockets, in lower case."""
    scheme, _, rest = url.partition(":")
    return f"{_WEBSOCKET_SCHEMES[scheme.lower()]}:{rest}"


def url_origin(url: str) -> str:
    """Returns scheme, host and port of a URL, which may be shown: a token in the host is masked."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return MASK
    return f"{parts.scheme}://{bracketed(_shown_host(host))}{port}"


def _shown_host(host: str) -> str:
    signed = _SIGNED_HOST.match(host)
    return host if signed is None else signed.group(1) + _HOST_MASK + host[signed.end() :]


def host_secrets(url: str) -> List[str]:
    """Returns the token in a URL's host, as written and as it is resolved, in lower case."""
    try:
        host = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return []
    signed = _SIGNED_HOST.match(host)
    return [] if signed is None else sorted({signed.group(2), signed.group(2).lower()})


def mask_url(url: str) -> str:
    """Returns a presigned or download URL without user, password, query string and fragment."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return MASK
    masked = url_origin(url) + path
    return masked if masked == url else masked + "?" + MASK


def url_secrets(url: str) -> List[str]:
    """Returns the secrets of a URL: its query string, the values in it, its user and its password.

    The names of parameters are not secret: a word like `token` also occurs in text unrelated to the URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    found = [part for part in (parts.query, parts.username, parts.password) if part]
    found += [unquote(part) for part in (parts.username, parts.password) if part]
    return found + [value for value in _query_secrets(parts.query) if len(value) >= MIN_SECRET_LENGTH]


def _query_secrets(query: str) -> Set[str]:
    """Returns the values of a query string that may be secret, each as written and decoded."""
    values: Set[str] = set()
    for parameter in query.split("&"):
        if _is_public(parameter):
            continue
        # Some servers also accept semicolons as separators.
        for piece in {parameter, *parameter.split(";")}:
            # A name without a value may be a token itself: base64 with its padding.
            value = piece.partition("=")[2] if piece.rstrip("=").count("=") else piece
            # Also without base64 padding, and split where the value contains a parameter itself.
            for form in (value, value.rstrip("="), *value.split("=")):
                values |= {form, unquote(form), unquote_plus(form)}
    return values


def _is_public(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    pattern = _PUBLIC_PARAMETERS.get(unquote(name).lower())
    return pattern is not None and re.fullmatch(pattern, unquote(value), re.ASCII) is not None


def path_secrets(url: str) -> List[str]:
    """Returns the segments of a URL's path that are long enough to be a token, each as written and decoded."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return []
    parts = [part for segment in path.split("/") for part in (segment, unquote(segment))]
    return [part for part in parts if len(part) >= MIN_PATH_SECRET_LENGTH]


def host_in_url(host: str) -> str:
    """Returns the host that a URL needs in order to reach a server on this machine that listens on `host`.

    A server that listens on all addresses is reached over loopback. IPv6 addresses get brackets.
    """
    return bracketed({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))


def bracketed(host: str) -> str:
    """Returns a host as URLs and HTTP write it (RFC 3986 §3.2.2): an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address refers to this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
