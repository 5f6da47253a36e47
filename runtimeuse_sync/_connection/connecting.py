"""The way to one open WebSocket: attempts, the pauses between them, and the two timeouts that limit them.

This module drives the opening, and ends with an open socket; `websocket.py` owns the thread, and serves that socket.
What one attempt does is in `_websocket/opening.py`: it waits and looks up host names by the methods of `Connecting`,
which stop it when the time is over or the connection is not wanted any more.

`connect_timeout` limits all until a peer accepts the connection: name look-up, TCP, a proxy's answer, and all retries.
An accepted connection then has `handshake_timeout` for TLS and the WebSocket handshake, beyond `connect_timeout` if
need be: a sandbox that is being woken holds the connection for as long as that takes. No attempt begins after
`connect_timeout`. If the limits are `joint`, `connect_timeout` limits the handshake as well.

Threads: all runs in the connection's thread, but for the name look-up, which has its own (`_websocket/dialing.py`).
"""

import math
import socket
from typing import Callable, Collection, List, NamedTuple, Optional, Sequence, Tuple

from .._call import Clock, Deadline, monotonic
from .._websocket.attempt import Addresses, OpeningFailed, OpeningInterrupted
from .._websocket.dialing import look_up
from .._websocket.http import RETRYABLE_STATUS
from .._websocket.opening import Target, open_websocket
from .._websocket.poller import Poller
from .retry import keep_trying


class Limits(NamedTuple):
    """How long connecting may take.

    Attributes:
        connect: When a peer must have accepted the connection.
        handshake: Seconds for the handshake, from when the connection was accepted; `None` (default) for no limit.
        joint: Whether `connect` limits the handshake, too (default).
    """

    connect: Deadline
    handshake: Optional[float] = None
    joint: bool = True


class Connecting:
    """Opens one WebSocket; the `Opener` of all its attempts.

    Args:
        target: Where to connect, and how.
        poller: What the connection's thread waits with.
        limits: How long it may take.
        is_closing: Returns whether the connection is not wanted any more.
        note_failure: Called with how an attempt failed, before the pause until the next.
        also_retry: Further HTTP statuses of a runtime that may not be up yet.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        target: Target,
        poller: Poller,
        limits: Limits,
        is_closing: Callable[[], bool],
        note_failure: Callable[[OpeningFailed], None],
        also_retry: Collection[int] = (),
        clock: Clock = monotonic,
    ) -> None:
        self._target = target
        self._poller = poller
        self._limits = limits
        self._is_closing = is_closing
        self._note_failure = note_failure
        self._retried = frozenset((*RETRYABLE_STATUS, *also_retry))
        self._clock = clock
        self._last_failure: Optional[OpeningFailed] = None
        #: When the handshake must have been answered; `None` until a peer has accepted the connection.
        self._handshake_until: Optional[float] = None

    def open(self) -> Tuple[socket.socket, bytes]:
        """Returns the open socket, and the bytes that the peer sent after its handshake.

        Raises:
            OpeningFailed: it could not be opened.
            OpeningInterrupted: the time is over, or the connection is not wanted any more.
        """
        try:
            return keep_trying(self._attempt, self._is_worth_another, self._pause, self._limits.connect.passed)
        except OpeningInterrupted as interrupted:
            last = self._last_failure
            if last is None:
                raise
            raise OpeningFailed(f"{interrupted}; the last attempt: {last}", status=last.status) from None
        finally:
            self._last_failure = None  # Its traceback references this object: a reference cycle.

    def _attempt(self) -> Tuple[socket.socket, bytes]:
        try:
            return open_websocket(self._target, self)
        except OpeningFailed as failure:
            failure.on_loopback = self._target.is_on_loopback
            self._last_failure = failure
            raise
        finally:
            self._handshake_until = None

    def _is_worth_another(self, failure: BaseException) -> bool:
        """Returns whether to try again: not if no time is left, or the server asks for a longer pause than that."""
        if not isinstance(failure, OpeningFailed) or not failure.retryable or self._limits.connect.passed():
            return False
        return failure.retry_after is None or failure.retry_after < self._limits.connect.remaining()

    def _pause(self, seconds: float) -> None:
        assert self._last_failure is not None
        self._note_failure(self._last_failure)
        until = self._clock() + seconds
        while self._check() < until:
            self._poller.wait(None, False, False, self._seconds_to(until))

    # Methods of `Opener`.

    def wait(self, sock: socket.socket, read: bool, write: bool, seconds: float = math.inf) -> bool:
        """Waits until the socket can be read from or written to, for `seconds` at most; returns whether it can."""
        until = self._clock() + seconds
        while self._check() < until:
            if True in self._poller.wait(sock, read, write, self._seconds_to(until)):
                return True
        return False

    def wait_for_any(self, socks: Sequence[socket.socket], seconds: float) -> List[socket.socket]:
        """Waits until one of the sockets can be written to, for `seconds` at most; returns those that can."""
        until = self._clock() + seconds
        while self._check() < until:
            ready = self._poller.wait_for_any(socks, self._seconds_to(until))
            if ready:
                return ready
        return []

    def now(self) -> float:
        """Returns the time in seconds, on the clock of the waits."""
        return self._clock()

    def look_up(self, host: str, port: int) -> Addresses:
        """Returns the addresses of a host.

        Raises:
            OpeningFailed: it has none, or the look-up failed.
            OpeningInterrupted: the time is over, or the connection is not wanted any more.
        """

        def wait() -> None:
            try:
                self._check()
            except OpeningInterrupted as interrupted:
                raise OpeningInterrupted(f"{interrupted}: the look-up of the host name {host} has not ended") from None
            self._poller.wait(None, False, False, self._seconds_to(math.inf))

        return look_up(host, port, self._poller.wake, wait)

    def accepted(self) -> None:
        """Starts the time for the handshake: a peer has accepted the connection."""
        seconds = self._limits.handshake
        self._handshake_until = math.inf if seconds is None else self._clock() + seconds

    def may_pass(self, status: int) -> bool:
        """Returns whether a refusal with this HTTP status is tried again: the runtime may not be up yet."""
        return status in self._retried

    # Time.

    def _check(self) -> float:
        """Returns the time, after checking that the attempt may go on.

        Raises:
            OpeningInterrupted: `connect_timeout` is over, or the connection is not wanted any more.
            OpeningFailed: the handshake takes too long.
        """
        if self._is_closing():
            raise OpeningInterrupted("given up while connecting")
        now = self._clock()
        connect = self._limits.connect
        accepted = self._handshake_until is not None
        if (self._limits.joint or not accepted) and connect.passed():
            reached = ": it was accepted, but the handshake was not answered" if accepted else ""
            raise OpeningInterrupted(f"no connection within {connect.seconds:g} s{reached}")
        if self._handshake_until is not None and now >= self._handshake_until:
            raise OpeningFailed(f"the handshake was not answered within {self._limits.handshake:g} s", retryable=True)
        return now

    def _seconds_to(self, until: float) -> float:
        """Returns the seconds to `until`, or to a limit that comes before."""
        if self._handshake_until is not None:
            until = min(until, self._handshake_until)
        if self._limits.joint or self._handshake_until is None:
            until = min(until, self._limits.connect.at)
        return until - self._clock()
