"""The records of a call: one when it begins, one when it ends, and warnings where it cannot connect or is cut off.

Threads: each record is written by a short-lived thread of its own, `runtimeuse-log`, those of one call in order. The
user's handlers may take their time, wait for a lock that the caller holds, or call the client, and nobody else waits
for that: the calling thread does a little, at the end of the call; the connection's thread never. Besides, logging
holds locks: an interrupt that hit the calling thread while it holds one might leave it locked for ever. Where the level
is off, there is no thread.
"""

import contextvars
import math
import threading
import time
from typing import Any, Callable, Optional

from ._logs import Logger, written
from ._threads import join_thread, new_thread, start_directly, start_thread
from .errors import ConnectionLostError, RuntimeUseError

#: Seconds that a call's end waits for its record to be written.
_PATIENCE = 1.0

#: How much is shown of why a connection was lost, in characters.
_SHOWN = 300


class Records:
    """Writes records one after the other, each in a thread of its own.

    Args:
        logger: Where they go.

    Attributes:
        logger: As given.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger
        self._latest: Optional[threading.Thread] = None

    def thread(self, record: Callable[[], None]) -> threading.Thread:
        """Returns the thread that writes a record, not yet started; after those before it."""
        before = self._latest
        # The user's filters and handlers may look at context variables.
        context = contextvars.copy_context()

        def write() -> None:
            if before is not None:
                join_thread(before, math.inf)
            context.run(written, record)

        self._latest = new_thread(write, "runtimeuse-log")
        return self._latest

    def write(self, log: Callable[..., None], *message: Any) -> None:
        """Has a record written; for threads of ours, where no interrupts land."""
        try:
            start_directly(self.thread(lambda: log(*message)))
        except RuntimeUseError:
            return  # A record that no thread can be had for is not worth the call.


class CallLog:
    """The records of one call.

    Args:
        records: What writes them.
        kind: What the call is, such as "query".
        source_id: The user's name for it, without secrets.
    """

    def __init__(self, records: Records, kind: str, source_id: str) -> None:
        self._records = records
        self._logger = records.logger
        self._kind = kind
        self._source_id = source_id
        self._began = time.monotonic()
        self._ending: Optional[threading.Thread] = None
        self._until = 0.0

    def begin(self) -> None:
        """Says that the call begins."""
        _start(
            self._records.thread(
                lambda: self._logger.info("%s begins (source_id=%s)", self._kind, self._source_id),
            )
        )

    def sent(self) -> None:
        """Says that the request has been sent; for the connection's thread."""
        self._records.write(self._logger.debug, "%s sent (source_id=%s)", self._kind, self._source_id)

    def end(self, error: Optional[BaseException], messages: int) -> None:
        """Says how the call has ended, once; waits for it a little, and may be repeated.

        Args:
            error: What it raised; `None` for a result.
            messages: How many messages it has got.
        """
        if self._ending is None:
            now = time.monotonic()
            seconds = now - self._began
            outcome = "a result" if error is None else type(error).__name__
            lost = error.error[:_SHOWN] if isinstance(error, ConnectionLostError) else ""

            def write() -> None:
                if lost:
                    self._logger.warning("%s (source_id=%s)", lost, self._source_id)
                self._logger.info(
                    "%s ended with %s after %.3f s, %d messages (source_id=%s)",
                    *(self._kind, outcome, seconds, messages, self._source_id),
                )

            self._until = now + _PATIENCE
            self._ending = self._records.thread(write)
        if self._ending.ident is None:
            _start(self._ending)
        if self._ending.ident is not None:
            # All repetitions together.
            join_thread(self._ending, self._until - time.monotonic())


def _start(thread: threading.Thread) -> None:
    try:
        start_thread(thread)
    except RuntimeUseError as error:
        # A record that no thread can be had for is not worth the call. An interrupt of that class has no such cause.
        if not isinstance(error.__cause__, RuntimeError):
            raise
