"""What the steps of one attempt to open a connection share: the `Opener` they wait with, and the failures they raise.

The one `Opener` is `_connection/connecting.py`. It ends every wait of an attempt when the time is over.

Threads: all steps run in the thread that will own the socket.
"""

import errno
import math
import socket
import ssl
from typing import Any, Callable, List, Optional, Protocol, Sequence

#: `Opener.wait`, without a limit: until the socket can be read from (first flag) or written to (second flag).
Wait = Callable[[socket.socket, bool, bool], Any]

#: What `socket.getaddrinfo` returns.
Addresses = List[Any]

#: The errors of the operating system that a runtime which is not up yet may cause.
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
    """Waits and looks up host names for an attempt.

    Each method that may block raises `OpeningInterrupted` when the attempt must not go on, and `OpeningFailed` when the
    handshake has taken too long.
    """

    def wait(self, sock: socket.socket, read: bool, write: bool, seconds: float = math.inf) -> bool:
        """Waits until the socket can be read from or written to, for `seconds` at most; returns whether it can."""

    def wait_for_any(self, socks: Sequence[socket.socket], seconds: float) -> List[socket.socket]:
        """Waits until a socket can be written to, for `seconds` at most; returns those that can."""

    def now(self) -> float:
        """Returns the time in seconds, on the clock of the waits."""

    def look_up(self, host: str, port: int) -> Addresses:
        """Returns the addresses of a host.

        Raises:
            OpeningFailed: the host has no address, or it cannot be resolved.
        """

    def accepted(self) -> None:
        """Notes that a peer has accepted the connection: from now on the handshake's limit counts."""

    def may_pass(self, status: int) -> bool:
        """Returns whether a refusal with this HTTP status may pass, because the runtime may not be up yet."""


class OpeningFailed(Exception):
    """One attempt to open the connection failed.

    Attributes:
        retryable: Whether another attempt may succeed, since the runtime may not be up yet.
        status: The HTTP status of the response, if there was one.
        retry_after: The seconds to wait that the response asks for.
        not_accepted: Whether no peer accepted the connection, so that an attempt costs only a packet.
        on_loopback: Whether the attempt went to this machine.
    """

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool = False,
        status: Optional[int] = None,
        retry_after: Optional[float] = None,
        not_accepted: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retryable = retryable
        self.status = status
        self.retry_after = retry_after
        self.not_accepted = not_accepted
        self.on_loopback = False


class OpeningInterrupted(Exception):
    """The time is over, or the connection is not wanted any more. An `Opener` raises it."""


def os_failure(error: OSError, *, not_accepted: bool = False) -> OpeningFailed:
    """Returns the failure of an attempt for an error of the operating system or of TLS."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return OpeningFailed("the connection was closed during the handshake", retryable=True)
    if isinstance(error, ssl.SSLError):
        return OpeningFailed(f"TLS: {error.reason or error}")
    names = {errno.ECONNREFUSED: "connection refused", errno.ECONNRESET: "connection reset"}
    text = names.get(error.errno or 0) or error.strerror or str(error)
    return OpeningFailed(text, retryable=error.errno in RETRYABLE_ERRNO, not_accepted=not_accepted)


def closed_early() -> OpeningFailed:
    """Returns the failure for a peer that closed the connection before its response was complete."""
    return OpeningFailed("the connection was closed during the handshake", retryable=True)
