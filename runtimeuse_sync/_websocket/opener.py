"""What opening a connection asks of whoever drives it: to look up, to wait, to be told how far it is.

The one implementation is `_connecting.py`'s; everything runs in the thread that will own the socket.
"""

import math
import socket
from typing import Any, List, Protocol, Sequence

#: As `socket.getaddrinfo` returns them.
Addresses = List[Any]


class Opener(Protocol):
    """Waits and looks up for an opening. All that may block raises `OpeningInterrupted` when it must not go on."""

    def __call__(self, sock: socket.socket, read: bool, write: bool, seconds: float = math.inf) -> bool:
        """Waits until the socket is ready, for `seconds` at most; returns whether it is."""

    def wait_for_any(self, socks: Sequence[socket.socket], seconds: float) -> List[socket.socket]:
        """Waits until one of the sockets can be written to, for `seconds` at most; returns those that can."""

    def now(self) -> float:
        """Returns the time, on the clock that the waits go by."""

    def look_up(self, host: str, port: int) -> Addresses:
        """Returns the addresses of a host.

        Raises:
            OpeningFailed: it has none, or nobody knows.
        """

    def accepted(self) -> None:
        """Is told that a peer has accepted the connection, so that what follows is the handshake."""
