"""The WebSocket handshake (RFC 6455 §4): the client's request, and the check of the server's response.

A response but 101 is a refusal, so redirects are never followed: they would carry `Authorization` to another host. No
cookie is kept. What the server may choose, an extension or a subprotocol, it must not choose unless it was offered.

Threads: none; the module is pure, and has no socket.
"""

import base64
import hashlib
import os
from typing import Collection, Dict, Mapping, Tuple
from urllib.parse import urlsplit

from .attempt import OpeningFailed

#: What the server adds to the client's key, to show that it knows the protocol (§1.3).
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#: The headers by which a server chooses what the client has offered.
_CHOICES = (b"sec-websocket-extensions", b"sec-websocket-protocol")


def request_without_key(url: str, host: str, headers: Mapping[str, str]) -> bytes:
    """Returns the request, but for its last header, the key; it is the same for all connections.

    Args:
        url: The URL, with any scheme.
        host: Its host, and its port unless that is the scheme's own: the `Host` header, unless `headers` has one.
        headers: The user's headers.
    """
    parts = urlsplit(url)
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = next((value for name, value in headers.items() if name.lower() == "host"), host)
    lines = [
        f"GET {resource} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers.items() if name.lower() != "host"),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8")


def new_key() -> Tuple[bytes, bytes]:
    """Returns the end of a request, which has a new key, and the value of the header that must answer it."""
    key = base64.b64encode(os.urandom(16))
    return b"Sec-WebSocket-Key: " + key + b"\r\n\r\n", base64.b64encode(hashlib.sha1(key + _GUID).digest())


def check_response(head: bytes, accept: bytes, offered: Collection[bytes]) -> None:
    """Checks the head of a response with the status 101.

    Args:
        head: The head.
        accept: The value of the header that answers the key.
        offered: The names of the user's headers, in lower case.

    Raises:
        OpeningFailed: it is not a handshake, or the server chose what was not offered.
    """
    headers: Dict[bytes, bytes] = {}
    for line in head[:-4].split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if not colon:
            raise _no_handshake("a line is no header")
        # A header that is repeated is one list (RFC 9110 §5.3).
        headers[name] = headers[name] + b"," + value if name in headers else value
    for name in _CHOICES:
        if name in headers and name not in offered:
            raise OpeningFailed(f"the server chose a {name.decode('ascii')} that was not offered")
    if not _has(headers, b"upgrade", b"websocket"):
        raise _no_handshake("no Upgrade to websocket")
    if not _has(headers, b"connection", b"upgrade"):
        raise _no_handshake("no Connection: Upgrade")
    if headers.get(b"sec-websocket-accept") != accept:
        raise _no_handshake("a wrong Sec-WebSocket-Accept, or none")


def _has(headers: Mapping[bytes, bytes], name: bytes, wanted: bytes) -> bool:
    """Returns whether one of the values in a header's list is the wanted one, whatever its case."""
    return any(value.strip() == wanted for value in headers.get(name, b"").lower().split(b","))


def _no_handshake(why: str) -> OpeningFailed:
    return OpeningFailed(f"the server's response is not a WebSocket handshake: {why}")
