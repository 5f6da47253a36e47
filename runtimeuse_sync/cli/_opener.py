"""The waits of a connection that is opened step by step, each with a time limit of its own.

It is the `Opener` of `_websocket/attempt.py`, so that the doctor looks up names, dials and goes through proxies by the
very code of the client.

Threads: the thread that opens the connection; a look-up has a thread of its own.
"""

import math
import select
import socket
import threading
from typing import List, Sequence

from .._call import monotonic
from .._websocket.attempt import Addresses, OpeningInterrupted
from .._websocket.dialing import look_up
from .._websocket.http import RETRYABLE_STATUS

#: The longest wait without looking at the clock, in seconds.
_SLICE = 0.25


class StepOpener:
    """Waits for one step of a connection.

    Args:
        limit: Seconds for the step.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._until = monotonic() + limit

    def now(self) -> float:
        """Returns the time in seconds."""
        return monotonic()

    @property
    def left(self) -> float:
        """The seconds that are left.

        Raises:
            OpeningInterrupted: None are.
        """
        left = self._until - self.now()
        if left <= 0:
            raise OpeningInterrupted(f"no answer within {self._limit:g} s")
        return left

    def wait(self, sock: socket.socket, read: bool, write: bool, seconds: float = math.inf) -> bool:
        """Waits until the socket can be read from or written to, for `seconds` at most; returns whether it can.

        Raises:
            OpeningInterrupted: The time of the step is over.
        """
        end = self.now() + seconds
        while True:
            pause = min(self.left, end - self.now())
            if pause <= 0:
                return False
            readable, writable, _ = select.select([sock] * read, [sock] * write, [], pause)
            if readable or writable:
                return True

    def wait_for_any(self, socks: Sequence[socket.socket], seconds: float) -> List[socket.socket]:
        """Waits until a socket can be written to, for `seconds` at most; returns those that can.

        Raises:
            OpeningInterrupted: The time of the step is over.
        """
        # An exceptional condition is how some systems report a refused connection.
        pause = max(0.0, min(self.left, seconds))
        _, writable, failed = select.select([], socks, socks, pause)
        return list(dict.fromkeys([*writable, *failed]))

    def look_up(self, host: str, port: int) -> Addresses:
        """Returns the addresses of a host.

        Raises:
            OpeningFailed: It has none, or it cannot be resolved.
            OpeningInterrupted: The time of the step is over.
        """
        found = threading.Event()

        def wait() -> None:
            found.wait(min(self.left, _SLICE))
            found.clear()

        return look_up(host, port, found.set, wait)

    def accepted(self) -> None:
        """Notes nothing: each step has its own limit."""

    def may_pass(self, status: int) -> bool:
        """Returns whether a runtime that is not up yet may be refused with this HTTP status."""
        return status in RETRYABLE_STATUS
