"""The loggers that calls log to: those of `logging`, and what only looks like one. No threads run here."""

import contextvars
import logging
import sys
import traceback
from typing import Any, Callable, Optional, Protocol, Union

#: The package's own.
PACKAGE_LOGGER = logging.getLogger("runtimeuse_sync")
# Where nobody has set up logging, a library says nothing: not even that it tries again, on stderr.
PACKAGE_LOGGER.addHandler(logging.NullHandler())

#: Whether a record is being written.
_writing: "contextvars.ContextVar[bool]" = contextvars.ContextVar("runtimeuse_sync_writing", default=False)

#: Where calls log that a handler makes while it writes a record: their records would lead to further calls without end,
#: and wait for the lock that the handler holds.
_NOWHERE = logging.Logger("runtimeuse_sync", logging.CRITICAL + 1)  # noqa: LOG001  # known to nobody


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
