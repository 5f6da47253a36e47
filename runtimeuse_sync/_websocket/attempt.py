"""What the steps of one attempt to open a connection share: what they wait with, and how they fail.

Threads: all steps run in the thread that will own the socket.
"""

import errno
import math
import socket
import ssl
from typing import Any, Callable, List, Optional, Protocol, Sequence

#: Waits until the socket can be read from (first flag) or written to (second flag).
Wait = Callable[[socket.socket, bool, bool], Any]

#: As `socket.getaddrinfo` returns them.
Addresses = List[Any]

RETRYABLE_ERRNO = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ENOTCONN,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
)


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


class OpeningFailed(Exception):
    """One attempt to open the connection failed.

    Attributes:
        retryable: Whether the runtime may just not be up yet.
        status: The HTTP status of the answer, where there was one.
        retry_after: For how many seconds the answer asks to leave it alone.
        unheard: Whether nobody has accepted the connection, so that an attempt costs no more than a packet.
    """

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool = False,
        status: Optional[int] = None,
        retry_after: Optional[float] = None,
        unheard: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retryable = retryable
        self.status = status
        self.retry_after = retry_after
        self.unheard = unheard


class OpeningInterrupted(Exception):
    """The time is over, or nobody wants the connection any more; raised by the `Wait` that an opening is given."""


def os_failure(error: OSError, *, unheard: bool = False) -> OpeningFailed:
    """Returns what an error of the operating system, or of TLS, means for the attempt."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return OpeningFailed("the connection was closed during the handshake", retryable=True)
    if isinstance(error, ssl.SSLError):
        return OpeningFailed(f"TLS: {error.reason or error}")
    names = {errno.ECONNREFUSED: "connection refused", errno.ECONNRESET: "connection reset"}
    text = names.get(error.errno or 0) or error.strerror or str(error)
    return OpeningFailed(text, retryable=error.errno in RETRYABLE_ERRNO, unheard=unheard)


def closed_early() -> OpeningFailed:
    """Returns the failure for a peer that has closed before it had said all."""
    return OpeningFailed("the connection was closed during the handshake", retryable=True)
