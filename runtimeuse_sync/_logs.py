"""Logging: the loggers that calls log to, and the records that each call writes.

A logger is one of `logging`, or any object with the methods of `LoggerLike`. A call writes one record when it begins,
one when it ends, and a warning where it retries a connection or loses one. The call's secrets are masked in all of
them, by `CallLog` and by whoever hands it a text.

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
import traceback
from typing import Any, Callable, Optional, Protocol, Sequence, Union

from ._call import monotonic
from ._threads import join_thread, new_thread, start_directly, start_thread
from ._wire.redaction import scrub
from .errors import ConnectionLostError, RuntimeUseError

#: The package's own logger.
PACKAGE_LOGGER = logging.getLogger("runtimeuse_sync")
# Unless the application configures logging, a library logs nothing, not even warnings to stderr.
PACKAGE_LOGGER.addHandler(logging.NullHandler())

#: Whether this context is writing a record.
_writing: "contextvars.ContextVar[bool]" = contextvars.ContextVar("runtimeuse_sync_writing", default=False)

#: The logger of calls that a log handler makes while it writes a record. It drops everything: records of such calls
#: would lead to further calls without end, and wait for the lock that the handler holds.
_NOWHERE = logging.Logger("runtimeuse_sync", logging.CRITICAL + 1)  # noqa: LOG001  # not to be found by name

#: The logger of requests that are parts of one call, which has records of its own: only warnings go to the package's.
PARTS_LOGGER = logging.Logger("runtimeuse_sync", logging.WARNING)  # noqa: LOG001  # not to be found by name
PARTS_LOGGER.parent = PACKAGE_LOGGER

#: For how many seconds the end of a call waits until its record has been written.
_PATIENCE = 1.0

#: How many characters of the reason are logged when a connection is lost.
_SHOWN = 300


class LoggerLike(Protocol):
    """The methods that the option `logger` needs; loggers and adapters of `logging` have them, and structlog's loggers.

    A logger or adapter of `logging` is called with a format and values; any other object with the finished text as the
    only argument. If it has a method `isEnabledFor(level)`, as those of `logging` do, that is asked first; otherwise
    every record is passed to it.
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
    """Adapts a `LoggerLike` to the interface of a logger of `logging`.

    Exceptions that it raises are printed, as `logging` prints those of its handlers: no call fails because of them.

    Args:
        logger: The object to call.
    """

    def __init__(self, logger: LoggerLike) -> None:
        self._logger: Any = logger

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # named as in `logging`
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
    """Writes a record; calls that its handlers make log nothing. Exceptions, such as a filter's, are printed."""
    token = _writing.set(True)
    try:
        record()
    except Exception:
        _print_failure()
    finally:
        _writing.reset(token)


Logger = Union[logging.Logger, "logging.LoggerAdapter[Any]", DuckLogger]


def logger_for(given: Optional[LoggerLike]) -> Logger:
    """Returns the logger of a call, given its option `logger`; one that drops all for a call made by a log handler."""
    if _writing.get():
        return _NOWHERE
    if given is None:
        return PACKAGE_LOGGER
    return given if isinstance(given, (logging.Logger, logging.LoggerAdapter)) else DuckLogger(given)


class Records:
    """Writes records in order, each in a thread of its own.

    Args:
        logger: The logger to write them to.

    Attributes:
        logger: As given.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger
        self._latest: Optional[threading.Thread] = None

    def thread(self, record: Callable[[], None]) -> threading.Thread:
        """Returns the thread that writes a record after all earlier ones; not yet started."""
        before = self._latest
        # The user's filters and handlers may read context variables.
        context = contextvars.copy_context()

        def write() -> None:
            if before is not None:
                join_thread(before, math.inf)
            context.run(written, record)

        self._latest = new_thread(write, "runtimeuse-log")
        return self._latest

    def write(self, log: Callable[..., None], *message: Any) -> None:
        """Writes a record in the background; for the client's own threads, where no interrupts arrive.

        Args:
            log: The method of the logger, such as `logger.info`.
            *message: Its arguments.
        """
        try:
            start_directly(self.thread(lambda: log(*message)))
        except RuntimeUseError:
            return  # No thread can be started: better to lose the record than the call.


class CallLog:
    """The records of one call.

    Args:
        logger: Where the call logs.
        kind: What the call does, such as "query".
        source_id: The user's name for the call; `None` if it has none.

    Attributes:
        logger: As given.
        records: Writes the call's records.
    """

    def __init__(self, logger: Logger, kind: str, source_id: Optional[str]) -> None:
        self.logger = logger
        self.records = Records(logger)
        self._kind = kind
        self._source_id = str(source_id)
        self._secrets: Optional[Sequence[str]] = None
        self._began: Optional[float] = None
        self._ending: Optional[threading.Thread] = None
        self._until = 0.0

    def begin(self, secrets: Sequence[str] = ()) -> Optional[Callable[[], None]]:
        """Logs that the call begins.

        Args:
            secrets: What to mask in the user's name for the call. Default: nothing.

        Returns:
            What to call when the request has been sent; `None` if that is not logged.
        """
        self._secrets = secrets
        if not self.logger.isEnabledFor(logging.INFO):
            return None
        self._note_begin(secrets)
        _start(
            self.records.thread(
                lambda: self.logger.info("%s begins (source_id=%s)", self._kind, self._source_id),
            )
        )
        return self.sent if self.logger.isEnabledFor(logging.DEBUG) else None

    def _note_begin(self, secrets: Sequence[str]) -> None:
        self._source_id = scrub(self._source_id, secrets)
        self._began = monotonic()

    def sent(self) -> None:
        """Logs that the request has been sent; for the connection's thread."""
        self.records.write(self.logger.debug, "%s sent (source_id=%s)", self._kind, self._source_id)

    def end(self, error: Optional[BaseException], messages: int) -> None:
        """Logs once how the call ended, and waits a moment until that is written; may be repeated.

        Logs nothing for a call whose begin was not logged, unless the connection was lost.

        Args:
            error: The exception that the call raised; `None` if it returned a result.
            messages: How many messages the call received.
        """
        if self._began is None:
            is_lost = isinstance(error, ConnectionLostError) and self.logger.isEnabledFor(logging.WARNING)
            if not is_lost or self._secrets is None:
                return
            # A lost connection is logged even where the level leaves out a call's begin and end.
            self._note_begin(self._secrets)
        if self._ending is None:
            now = monotonic()
            seconds = now - (self._began or now)
            outcome = "a result" if error is None else type(error).__name__
            lost = error.error[:_SHOWN] if isinstance(error, ConnectionLostError) else ""

            def write() -> None:
                if lost:
                    self.logger.warning("%s (source_id=%s)", lost, self._source_id)
                self.logger.info(
                    "%s ended with %s after %.3f s, %d messages (source_id=%s)",
                    *(self._kind, outcome, seconds, messages, self._source_id),
                )

            self._until = now + _PATIENCE
            self._ending = self.records.thread(write)
        if self._ending.ident is None:
            _start(self._ending)
        if self._ending.ident is not None:
            # The limit holds for all repetitions together.
            join_thread(self._ending, self._until - monotonic())


def _start(thread: threading.Thread) -> None:
    try:
        start_thread(thread)
    except RuntimeUseError as error:
        # No thread can be started: better to lose the record than the call. An interrupt has no such cause.
        if not isinstance(error.__cause__, RuntimeError):
            raise
