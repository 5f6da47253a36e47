"""Hosts and URLs: how they are written, and which parts of a URL may be secret.

Pure functions; no threads run here. Of a WebSocket URL all but scheme, host and port may be secret; of a presigned URL,
user and query string.
"""

import ipaddress
import re
from typing import List, Set
from urllib.parse import unquote, unquote_plus, urlsplit

from .redaction import MASK, MIN_ENV_SECRET_LENGTH

#: The schemes of proxies. `socks://` is what desktops put into the environment for one of version 5.
PROXY_SCHEMES = ("http", "socks4", "socks4a", "socks5", "socks5h", "socks")

#: Segments of a URL's path that are shorter than this are words, not secrets.
MIN_PATH_TOKEN = 8

_HEADER = "host|range|content-(disposition|encoding|language|length|md5|type)|x-amz-(acl|content-sha256|date)"
_HTTP_DATE = r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z)?"
_MEDIA_TYPE = "application/(gzip|json|octet-stream|pdf|xml|zip)|image/(gif|jpeg|png)|text/(csv|html|markdown|plain|xml)"

#: What presigned URLs of S3, Google and Azure hold besides their secrets, by the parameter's name: words and numbers
#: that stand in many a text, `localhost` for one. Only what is exactly of this form is left unmasked.
_HARMLESS = {
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


def url_origin(url: str) -> str:
    """Returns scheme, host and port of a URL: the only parts of a WebSocket URL that are never secret."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return MASK
    return f"{parts.scheme}://{bracketed(host)}{port}"


def url_secrets(url: str) -> List[str]:
    """Returns the parts of a URL that may be secret: its query string and the values in it, user and password.

    The names of parameters are none: `token` stands in many a text that has nothing to do with the URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    found = [part for part in (parts.query, parts.username, parts.password) if part]
    found += [unquote(part) for part in (parts.username, parts.password) if part]
    return found + [value for value in _query_values(parts.query) if len(value) >= MIN_ENV_SECRET_LENGTH]


def _query_values(query: str) -> Set[str]:
    """Returns the values of a query string that may be secret, each as it stands there and decoded."""
    values: Set[str] = set()
    for parameter in query.split("&"):
        if _is_harmless(parameter):
            continue
        # A few servers take semicolons for separators, too.
        for piece in {parameter, *parameter.split(";")}:
            # What seems to be a name without a value may be a token by itself, in base64 with its padding.
            value = piece.partition("=")[2] if piece.rstrip("=").count("=") else piece
            # Also without the padding of base64, and the parts of what has a parameter inside it.
            for form in (value, value.rstrip("="), *value.split("=")):
                values |= {form, unquote(form), unquote_plus(form)}
    return values


def _is_harmless(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    form = _HARMLESS.get(unquote(name).lower())
    return form is not None and re.fullmatch(form, unquote(value), re.ASCII) is not None


def path_secrets(url: str) -> List[str]:
    """Returns the parts of a URL's path that are long enough to be a token."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return []
    return [part for segment in path.split("/") for part in (segment, unquote(segment)) if len(part) >= MIN_PATH_TOKEN]


def mask_url(url: str) -> str:
    """Returns a presigned or download URL without user, query string and fragment."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return MASK
    masked = url_origin(url) + path
    return masked if masked == url else masked + "?" + MASK


def host_in_url(host: str) -> str:
    """Returns what stands in a URL for a server on this machine that listens on `host`: an IPv6 address in brackets.

    What listens on all addresses is reached by loopback, too.
    """
    return bracketed({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))


def bracketed(host: str) -> str:
    """Returns a host as URLs and HTTP have it (RFC 3986 §3.2.2): an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
