"""Interrupts: cleaning up in spite of them, and telling them from what a piece of code raises by itself.

An interrupt is an exception that a signal handler raises, or that another thread sets (`PyThreadState_SetAsyncExc`). It
may have any class, and may come between any two steps: also on the way into a `finally`, and inside it. Two rules
follow. Code that gives something back can be repeated, never blocks for long, and runs through `surely`, `cleaned_up`
or `undone_on_failure`, which repeat it if it was interrupted. And an `except` that is meant only for the code in its
`try` asks `raised_by_a_signal_handler` or `failed_here`.

What cannot be told apart: an exception that another thread sets while the user's own code runs (a callback, say) looks
like one of that code. And where CPython has no caller to raise an exception to, it prints it and goes on: in `__del__`,
in callbacks of weak references, and in whatever the garbage collector calls. The handlers of `logging` also print
whatever is raised in them, so the client logs as little as possible in a user's thread.

Threads: none of its own; these functions run in whichever thread calls them.
"""

import functools
import signal
from types import CodeType
from typing import Any, Callable, Optional, Set, TypeVar

_T = TypeVar("_T")


def surely(clean_up: Callable[[], None]) -> None:
    """Runs `clean_up`; again if it is interrupted or fails."""
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
    """Runs `body`, then `clean_up`, which has run to its end whatever happens; returns or raises as `body` does."""
    try:
        try:
            try:
                return body()
            finally:
                clean_up()
        except BaseException:
            # The interrupt may have come before the first line of `clean_up`, which then has not noticed it.
            clean_up()
            raise
    except BaseException:
        # Two signals at once are two interrupts in a row: the second comes at the first step after the first.
        surely(clean_up)
        raise


def undone_on_failure(body: Callable[[], _T], undo: Callable[[], None]) -> _T:
    """Runs `body`, and `undo` to its end if it raises; returns or raises as `body` does."""
    try:
        try:
            return body()
        except BaseException:
            undo()
            raise
    except BaseException:
        surely(undo)
        raise


def raised_by_a_signal_handler(error: BaseException) -> bool:
    """Returns whether an exception comes from a signal handler of the process, or from a function that one called."""
    codes: Set[CodeType] = set()
    for number in range(1, signal.NSIG):
        code = _code_of(signal.getsignal(number))
        if code is not None:
            codes.add(code)
    trace = error.__traceback__
    while codes and trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def failed_here(error: BaseException) -> bool:
    """Returns whether the call of C code in the `try` itself has failed, rather than an interrupt come in its place.

    An exception of a signal handler has the handler's frame in its traceback; one that another thread sets is a class,
    so it has no arguments.
    """
    trace = error.__traceback__
    return bool(error.args) and trace is not None and trace.tb_next is None


def _code_of(handler: Any) -> Optional[CodeType]:
    if not callable(handler):
        return None  # `SIG_DFL` or `SIG_IGN`, members of an enumeration.
    while isinstance(handler, functools.partial):
        handler = handler.func
    for function in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004  # to get it, not to test for it
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None
