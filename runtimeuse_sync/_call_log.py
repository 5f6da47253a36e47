"""The records of a call: one when it begins, one when it ends, and a warning where it has lost its connection.

Threads: each record is written by a short-lived thread of its own, `runtimeuse-log`. Logging holds locks; an interrupt
that hit the calling thread while it holds one might leave it locked for ever. Where the level is off, there is none.
"""

import contextvars
import threading
import time
from typing import Callable, Optional

from ._logs import Logger
from ._threads import join_thread, new_thread, start_thread
from .errors import ConnectionLostError, RuntimeUseError

#: Seconds that a call's end waits for its record to be written.
_PATIENCE = 1.0

#: How much is shown of why a connection was lost, in characters.
_SHOWN = 300


class CallLog:
    """The records of one call.

    Args:
        logger: Where they go.
        kind: What the call is, such as "query".
        source_id: The user's name for it, without secrets.
    """

    def __init__(self, logger: Logger, kind: str, source_id: str) -> None:
        self._logger = logger
        self._kind = kind
        self._source_id = source_id
        self._began = time.monotonic()
        self._beginning: Optional[threading.Thread] = None
        self._ending: Optional[threading.Thread] = None

    def begin(self) -> None:
        """Says that the call begins."""
        self._beginning = _thread(lambda: self._logger.info("%s begins (source_id=%s)", self._kind, self._source_id))
        _start(self._beginning)

    def end(self, error: Optional[BaseException], messages: int) -> None:
        """Says how the call has ended, once; waits for it a little, and may be repeated.

        Args:
            error: What it raised; `None` for a result.
            messages: How many messages it has got.
        """
        if self._ending is None:
            seconds = time.monotonic() - self._began
            outcome = "a result" if error is None else type(error).__name__
            lost = error.error[:_SHOWN] if isinstance(error, ConnectionLostError) else ""

            def write() -> None:
                if self._beginning is not None and self._beginning.ident is not None:
                    self._beginning.join()
                if lost:
                    self._logger.warning("%s (source_id=%s)", lost, self._source_id)
                self._logger.info(
                    "%s ended with %s after %.3f s, %d messages (source_id=%s)",
                    *(self._kind, outcome, seconds, messages, self._source_id),
                )

            self._ending = _thread(write)
        if self._ending.ident is None:
            _start(self._ending)
        if self._ending.ident is not None:
            join_thread(self._ending, _PATIENCE)


def _thread(write: Callable[[], None]) -> threading.Thread:
    # The user's filters and handlers may look at context variables.
    return new_thread(contextvars.copy_context().run, "runtimeuse-log", write)


def _start(thread: threading.Thread) -> None:
    try:
        start_thread(thread)
    except RuntimeUseError as error:
        # A record that no thread can be had for is not worth the call. An interrupt of that class has no such cause.
        if not isinstance(error.__cause__, RuntimeError):
            raise
