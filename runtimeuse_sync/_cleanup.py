"""Cleaning up, and starting threads, in spite of interrupts. No threads run here.

An interrupt is what a signal handler raises, or another thread sets (`PyThreadState_SetAsyncExc`): of any class, and
between any two steps, also on the way into a `finally` and inside it. So what gives something back can be repeated,
never blocks for long, and runs by these functions: again if it was interrupted.
"""

import sys
import threading
import time
from typing import Any, Callable, TypeVar

from .errors import RuntimeConnectionError, RuntimeUseError, SessionStateError

_T = TypeVar("_T")

#: For how many seconds a wait for the end of a thread does not look at interrupts, as other waits (`_wakeup.SLICE`).
_SLICE = 0.1


def surely(clean_up: Callable[[], None]) -> None:
    """Cleans up; again where that is interrupted, or fails."""
    try:
        try:
            clean_up()
        except BaseException:
            clean_up()
            raise
    except BaseException:
        clean_up()
        raise


def cleaned_up(body: Callable[[], _T], clean_up: Callable[[], None]) -> _T:
    """Returns what `body` returns, and raises what it raises; whatever happens, `clean_up` has run to its end."""
    try:
        try:
            try:
                return body()
            finally:
                clean_up()
        except BaseException:
            # The interrupt may have come before the first line of `clean_up`, so even that is not enough to know.
            clean_up()
            raise
    except BaseException:
        # Two signals at once are two interrupts in a row: the second hits the very first step after the first.
        surely(clean_up)
        raise


def undone_on_failure(body: Callable[[], _T], undo: Callable[[], None]) -> _T:
    """Returns what `body` returns, and raises what it raises; if it raises, `undo` has run to its end."""
    try:
        try:
            return body()
        except BaseException:
            undo()
            raise
    except BaseException:
        surely(undo)
        raise


def new_thread(target: Callable[..., object], name: str, *arguments: Any) -> threading.Thread:
    """Returns a daemon thread, not yet started.

    Raises:
        RuntimeConnectionError: this interpreter allows no daemons, as some subinterpreters do not.
    """
    try:
        return threading.Thread(target=target, args=arguments, name=name, daemon=True)
    except RuntimeError as error:
        if not _refuses_a_thread(error):
            raise
        raise _no_thread(error, RuntimeConnectionError) from error


def start_thread(thread: threading.Thread, failure: Callable[[str], RuntimeUseError] = RuntimeConnectionError) -> None:
    """Starts a thread; an interrupt comes out as what it is, and the thread may run by then.

    `Thread.start` waits until the thread runs, by a `Condition`. One that is interrupted while it takes its lock back
    releases it all the same, and fails by a `RuntimeError` in the interrupt's place.

    Args:
        thread: The thread.
        failure: Makes the error for a system that cannot start another one, from its text.

    Raises:
        SessionStateError: the interpreter is ending, and starts no threads any more.
        RuntimeUseError: what `failure` has made.
    """
    handled = sys.exc_info()[1]
    try:
        thread.start()
    except RuntimeError as error:
        if _refuses_a_thread(error):
            raise _no_thread(error, failure) from error
        interrupt = error.__context__
        if interrupt is None or interrupt is handled:
            raise
        raise interrupt from None


def _refuses_a_thread(error: RuntimeError) -> bool:
    """Returns whether the interpreter has raised it because it cannot have another thread."""
    # Its class since 3.13 for its own end is not there before. What else comes out here are locks, and interrupts.
    return type(error).__name__ in ("RuntimeError", "PythonFinalizationError") and "thread" in str(error)


def _no_thread(error: RuntimeError, failure: Callable[[str], RuntimeUseError]) -> RuntimeUseError:
    why = str(error)
    if "shutdown" in why:
        return SessionStateError("the interpreter is shutting down, and starts no more threads")
    if "interpreter" in why:
        return failure(f"no thread could be started: {why}; make the call from an interpreter that allows such threads")
    return failure(
        f"no thread could be started: {why}; make fewer calls at once, or raise the limits on processes (ulimit -u, "
        "the container's pids limit) and on memory"
    )


def join_thread(thread: threading.Thread, seconds: float) -> None:
    """Waits for a thread to end, for `seconds` at most; interrupts are noticed meanwhile."""
    until = time.monotonic() + seconds
    while thread.is_alive():
        left = until - time.monotonic()
        if left <= 0:
            return
        thread.join(min(left, _SLICE))
