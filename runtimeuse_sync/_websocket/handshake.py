"""The WebSocket handshake (RFC 6455 §4), made by websocket-client on a stand-in for the socket.

The stand-in sends the request and reads the whole head of the response before websocket-client sees any of it. So a
server that sends its headers byte by byte cannot exceed the time, redirects are never followed (they would carry
`Authorization` to another host), and no cookie is kept for the whole process. What the server may choose, an extension
or a subprotocol, it must not choose unless it was offered.

Threads: everything runs in the thread that will own the socket.
"""

import re
import socket
from typing import Any, Callable, Dict, List, Mapping, Optional

import websocket

from .._wire.urls import websocket_url
from .attempt import Opener, OpeningFailed, OpeningInterrupted
from .http import ask, parse_status, refusal

#: The headers by which a server chooses what the client has offered.
_CHOICES = (b"sec-websocket-extensions", b"sec-websocket-protocol")

#: What websocket-client checks. It reads slowly, so it gets no other line.
_CHECKED = (b"upgrade", b"connection", b"sec-websocket-accept", b"sec-websocket-protocol")

#: The first line of the response, without a reason: that may have any bytes, and websocket-client reads UTF-8.
_SWITCHING = b"HTTP/1.1 101"

#: Where a header continues on the next line.
_FOLD = re.compile(rb"\r\n[ \t]+")


class Handshake:
    """The handshake that opens each connection to one URL.

    Args:
        url: The URL, with any scheme.
        host: Its host, and its port unless that is the scheme's own: the `Host` header, unless `headers` has one.
        headers: The user's headers.
    """

    def __init__(self, url: str, host: str, headers: Mapping[str, str]) -> None:
        self._url = websocket_url(url)
        self._host = next((value for name, value in headers.items() if name.lower() == "host"), host)
        self._headers = [f"{name}: {value}" for name, value in headers.items() if name.lower() != "host"]
        self._offered = frozenset(name.lower().encode("utf-8") for name in headers)

    def make(self, sock: socket.socket, opener: Opener, secrets: Callable[[], List[str]]) -> bytes:
        """Makes the handshake; returns the bytes received after the peer's.

        Args:
            sock: The connected socket.
            opener: What waits.
            secrets: Returns what must not be shown of a refusal.

        Raises:
            OpeningFailed: the server refused, or its response is not a handshake.
            OpeningInterrupted: the opener stopped the attempt.
        """
        stand_in = _StandIn(sock, opener, self._offered, secrets)
        client: Any = websocket.WebSocket(enable_multithread=False)
        try:
            client.connect(
                self._url,
                socket=stand_in,
                header=self._headers,
                host=self._host,
                suppress_origin=True,
                redirect_limit=0,
            )
        except (OpeningFailed, OpeningInterrupted):
            raise
        except Exception as error:
            # Any error of websocket-client's in an invalid response. Not chained: its text may hold headers.
            text = f"the server's response is not a WebSocket handshake ({type(error).__name__})"
            raise OpeningFailed(text) from None
        return stand_in.rest


class _StandIn:
    """Stands in for the socket: sends the request when the response is asked for."""

    def __init__(
        self, sock: socket.socket, opener: Opener, offered: "frozenset[bytes]", secrets: Callable[[], List[str]]
    ) -> None:
        self._sock = sock
        self._opener = opener
        self._offered = offered
        self._secrets = secrets
        self._request = b""
        self._pieces: Optional[List[bytes]] = None
        self.rest = b""

    def gettimeout(self) -> float:
        return 0.0

    def settimeout(self, _: Optional[float]) -> None:
        """Does nothing: the opener limits the waits."""

    def send(self, data: bytes) -> int:
        self._request += data
        return len(data)

    def recv(self, _: int) -> bytes:
        if self._pieces is None:
            self._pieces = self._checked_head()
            self._pieces.reverse()
        return self._pieces.pop() if self._pieces else b""

    def close(self) -> None:
        """Does nothing: the caller closes the socket."""

    def _checked_head(self) -> List[bytes]:
        head, self.rest = ask(self._sock, self._request, self._opener.wait)
        status, _ = parse_status(head)
        if status != 101:
            what = "the server refused the WebSocket handshake"
            raise refusal(what, self._sock, (head, self.rest), self._opener, self._secrets())
        # websocket-client asks for single bytes until it gets a newline, and joins them. It accepts longer pieces, so
        # it gets each line in two: a call for each byte would take a tenth of the time of a query.
        pieces = [_SWITCHING, b"\n"]
        checked: Dict[bytes, bytes] = {}
        for line in _unfolded(head[:-4]).split(b"\r\n")[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise OpeningFailed("the server's response is not a WebSocket handshake: a line is no header")
            name = name.strip().lower()
            if name in _CHOICES and name not in self._offered:
                # RFC 6455 §4.1: the server must not choose what the client did not offer.
                raise OpeningFailed(f"the server chose a {name.decode('ascii')} that was not offered")
            if name in _CHECKED:
                # The values of a repeated header are one list (RFC 9110 §5.3); websocket-client takes the last one.
                checked[name] = checked[name] + b"," + value if name in checked else value
        for name, value in checked.items():
            pieces += (name + b":" + value, b"\n")
        return [*pieces, b"\r", b"\n"]


def _unfolded(head: bytes) -> bytes:
    """Returns a head with each header in one line (RFC 9112 §5.2)."""
    return _FOLD.sub(b" ", head) if b"\n " in head or b"\n\t" in head else head
