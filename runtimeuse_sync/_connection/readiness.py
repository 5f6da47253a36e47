"""Waiting until a runtime accepts connections (`wait_until_ready`).

The thread of a WebSocket connection tries again by itself until its deadline. A custom transport makes one attempt per
connection, so this module makes new connections until one is open.

Threads: all runs in the calling thread; each connection has its own besides.
"""

import socket
import ssl
from typing import Callable, Collection, List, Optional

from .._call import Call, Deadline
from .._interrupts import cleaned_up
from .._websocket.attempt import RETRYABLE_ERRNO
from .._websocket.http import RETRYABLE_STATUS
from ..errors import RunTimeoutError, said
from .base import Connection
from .closed import ConnectionClosed, connection_error
from .retry import keep_trying

#: For how many seconds after the deadline to wait for a WebSocket's thread to say how its last attempt failed.
_LATE = 0.5

#: What a custom transport raises while its runtime is not up: refused, reset, unknown host, missing socket file.
_NOT_UP = (
    ConnectionError,
    FileNotFoundError,
    TimeoutError,
    socket.gaierror,
    socket.timeout,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


class _AttemptFailed(Exception):
    def __init__(self, closed: ConnectionClosed) -> None:
        super().__init__()
        self.closed = closed
        # A custom transport's failure may be that of a WebSocket transport that it wraps.
        self.status = getattr(closed.cause, "status", None) if closed.status is None else closed.status
        self.not_accepted = self.status is None


class Readiness:
    """The wait for one runtime.

    Args:
        call: The call that `abort` ends; it has no deadline of its own.
        connect: Returns a new connection, not yet started.
        deadline: When to give up.
        origin: Where the connections lead to, without secrets.
        secrets: What must not appear in an exception.
        repeat: Whether a connection makes only one attempt, so that new ones must be made.
        also_retry: Further HTTP statuses of a runtime that may not be up yet.
    """

    def __init__(
        self,
        call: Call,
        connect: Callable[[], Connection],
        deadline: Deadline,
        origin: str,
        secrets: List[str],
        *,
        repeat: bool,
        also_retry: Collection[int] = (),
    ) -> None:
        self._call = call
        self._connect = connect
        self._deadline = deadline
        self._origin = origin
        self._secrets = secrets
        self._repeat = repeat
        self._retried = frozenset((None, *RETRYABLE_STATUS, *also_retry))
        self._failure: Optional[Exception] = None

    def wait(self) -> None:
        """Blocks until a connection is open, and closes it.

        Raises:
            CancelledException: the call was aborted.
            RunTimeoutError: the deadline passed, or the server asks for a longer pause (`Retry-After`) than is left.
            RuntimeConnectionError: the failure is permanent, such as an invalid certificate or the status 404.
            TypeError: the custom transport did not return a connection.
        """
        failed = self._keep_trying()
        if failed is not None:
            assert self._failure is not None
            asked_for = failed.closed.retry_after
            too_late = self._deadline.passed() or (asked_for is not None and asked_for >= self._deadline.remaining())
            # A refusal stays permanent if the time ran out while the reason in its body was awaited.
            if too_late and failed.status in self._retried:
                raise self._too_late() from self._failure
            raise self._failure

    def _keep_trying(self) -> Optional[_AttemptFailed]:
        """Returns how the last attempt failed; `None` if it succeeded."""
        try:
            keep_trying(self._attempt, self._is_worth_another, self._pause, self._deadline.passed)
        except _AttemptFailed as failed:
            return failed
        return None

    def _is_worth_another(self, error: BaseException) -> bool:
        return self._repeat and isinstance(error, _AttemptFailed) and self._may_be_up_later(error.closed)

    def _attempt(self) -> None:
        connection = self._connect()
        # First of all: whatever interrupts this, the connection can be found and closed.
        self._call.connection = connection

        def give_back() -> None:
            connection.close()
            connection.join(0.0 if self._call.aborted else self._deadline.remaining())

        cleaned_up(lambda: self._wait_until_open(connection), give_back)

    def _wait_until_open(self, connection: Connection) -> None:
        call = self._call
        latest = self._deadline.at + (0.0 if self._repeat else _LATE)
        connection.start(call.wakeup)
        while not connection.is_open:
            call.check()
            closed = connection.inbox.closed
            if closed is not None:
                self._failure = connection_error(closed, self._origin, call.kind, self._secrets)
                raise _AttemptFailed(closed)
            if call.now() >= latest:
                raise self._too_late()
            call.wait(latest)

    def _pause(self, seconds: float) -> None:
        until = self._call.now() + seconds
        while self._call.now() < until:
            if self._deadline.passed():
                raise self._too_late() from self._failure
            self._call.wait(min(until, self._deadline.at))

    def _too_late(self) -> RunTimeoutError:
        # Without the failure's advice, which is not for a wait.
        why = "" if self._failure is None else f": {said(self._failure)}"
        ready = "was not ready" if self._deadline.passed() else "will not be ready"
        return RunTimeoutError(f"the runtime {ready} within {self._deadline.seconds:g} s{why}")

    def _may_be_up_later(self, closed: ConnectionClosed) -> bool:
        """Returns whether a custom transport failed in a way that may pass: its runtime may not be up yet.

        The failure may come from a `WebSocketTransport` that it wraps. That is permanent if the certificate was
        invalid, or the runtime refused with a status that is not retried.
        """
        error = closed.cause
        may_pass = isinstance(error, _NOT_UP) or (isinstance(error, OSError) and error.errno in RETRYABLE_ERRNO)
        bad_certificate = isinstance(getattr(error, "__cause__", None), ssl.SSLCertVerificationError)
        return may_pass and not bad_certificate and getattr(error, "status", None) in self._retried
