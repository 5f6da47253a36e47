"""Logging: the loggers that calls log to, and the records that each call writes.

A logger is one of `logging`, or any object with the methods of `LoggerLike`. A call writes one record when it begins,
one when it ends, and a warning where it retries a connection or loses one.

Threads: each record is written by a short-lived thread of its own, `runtimeuse-log`; the records of one call are
written in order. So the user's handlers may be slow, wait for a lock that the caller holds, or call the client, and no
other thread waits for them: the connection's thread never does, the calling thread only for a moment at the end of the
call. Logging also holds locks: an interrupt that hit the calling thread inside a handler might leave one locked for
ever. Where the level is off, no thread is started.
"""

import contextvars
import logging
import math
import sys
import threading
import time
import traceback
from typing import Any, Callable, Optional, Protocol, Union

from ._threads import join_thread, new_thread, start_directly, start_thread
from .errors import ConnectionLostError, RuntimeUseError

#: The package's own.
PACKAGE_LOGGER = logging.getLogger("runtimeuse_sync")
# Where nobody has set up logging, a library says nothing: not even that it tries again, on stderr.
PACKAGE_LOGGER.addHandler(logging.NullHandler())

#: Whether a record is being written.
_writing: "contextvars.ContextVar[bool]" = contextvars.ContextVar("runtimeuse_sync_writing", default=False)

#: Where calls log that a handler makes while it writes a record: their records would lead to further calls without end,
#: and wait for the lock that the handler holds.
_NOWHERE = logging.Logger("runtimeuse_sync", logging.CRITICAL + 1)  # noqa: LOG001  # known to nobody

#: Seconds that a call's end waits for its record to be written.
_PATIENCE = 1.0

#: How much is shown of why a connection was lost, in characters.
_SHOWN = 300


class LoggerLike(Protocol):
    """What an option `logger` must have: `logging.Logger` has it, its adapters, structlog's loggers and others.

    Anything but a logger or adapter of `logging` is called with the whole text as the only argument. Where it has a
    method `isEnabledFor`, as those of `logging` do, it is asked first; else it is told everything.
    """

    def debug(self, message: str, /) -> Any:
        """Logs at DEBUG."""

    def info(self, message: str, /) -> Any:
        """Logs at INFO."""

    def warning(self, message: str, /) -> Any:
        """Logs at WARNING."""


#: The methods of `LoggerLike`.
METHODS = ("debug", "info", "warning")


class DuckLogger:
    """Has a `LoggerLike` called as a logger of `logging` is.

    What it raises is printed, as `logging` does with what its handlers raise: no call fails for it.
    """

    def __init__(self, logger: LoggerLike) -> None:
        self._logger: Any = logger

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # the name is that of `logging`
        """Returns whether records of a level are logged."""
        is_enabled = getattr(self._logger, "isEnabledFor", None)
        return is_enabled is None or bool(is_enabled(level))

    def debug(self, message: str, *values: Any) -> None:
        """Logs at DEBUG."""
        self._log(logging.DEBUG, self._logger.debug, message, values)

    def info(self, message: str, *values: Any) -> None:
        """Logs at INFO."""
        self._log(logging.INFO, self._logger.info, message, values)

    def warning(self, message: str, *values: Any) -> None:
        """Logs at WARNING."""
        self._log(logging.WARNING, self._logger.warning, message, values)

    def _log(self, level: int, log: Any, message: str, values: Any) -> None:
        try:
            if self.isEnabledFor(level):
                log(message % values if values else message)
        except Exception:
            _print_failure()


def _print_failure() -> None:
    if logging.raiseExceptions and sys.stderr is not None:
        traceback.print_exc()


def written(record: Callable[[], None]) -> None:
    """Writes a record; the calls that its handlers make log nothing. What it raises is printed: filters may."""
    token = _writing.set(True)
    try:
        record()
    except Exception:
        _print_failure()
    finally:
        _writing.reset(token)


Logger = Union[logging.Logger, "logging.LoggerAdapter[Any]", DuckLogger]


def logger_for(given: Optional[LoggerLike]) -> Logger:
    """Returns where a call logs whose option `logger` is this; nowhere, if it is made by a handler of a record."""
    if _writing.get():
        return _NOWHERE
    if given is None:
        return PACKAGE_LOGGER
    return given if isinstance(given, (logging.Logger, logging.LoggerAdapter)) else DuckLogger(given)


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
