"""Telling what has interrupted a piece of code from what that code raises by itself. No threads run here.

A signal handler and another thread may raise an exception of any class between any two steps. Where an `except` is
meant for what was tried, and no more, it asks here.

What cannot be told: an exception that another thread has set (`PyThreadState_SetAsyncExc`) while the user's own code
runs, a callback say, looks like one of that code. And where CPython has nobody to raise it to, it only prints an
exception and goes on: in `__del__`, in callbacks of weak references, and in what the garbage collector calls. (The
handlers of `logging` do the same with whatever hits them: so as little as possible is logged in a user's thread.)
"""

import functools
import signal
from types import CodeType
from typing import Any, Optional, Set


def raised_by_a_signal_handler(error: BaseException) -> bool:
    """Returns whether one of the process's signal handlers has raised it, or what such a one has called."""
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
    """Returns whether the very call of C code in the `try` has failed, and no interrupt has come in its place.

    What a handler raises has passed the handler's frame; and what another thread sets is a class, without arguments.
    """
    trace = error.__traceback__
    return bool(error.args) and trace is not None and trace.tb_next is None


def _code_of(handler: Any) -> Optional[CodeType]:
    if not callable(handler):
        return None  # `SIG_DFL` and the like, which are enumerated.
    while isinstance(handler, functools.partial):
        handler = handler.func
    for function in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004  # to have it, not whether it is
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None
