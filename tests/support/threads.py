"""Runs a function in a thread, and raises exceptions in other threads."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import sys
import threading
import time
from types import CodeType
from typing import Any, Callable, Iterator, Optional, Type

from .servers import PATIENCE


def raise_in(ident: int, kind: Type[BaseException]) -> None:
    """Has a thread raise an exception at its next step, as time limits that another thread sets do."""
    told = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(kind))
    assert told == 1, "there is no such thread"


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keeps the garbage collector from running, for a test that sets an exception for a thread; also a decorator.

    The collector runs finalizers in whichever thread allocates, those of earlier tests' objects, too. CPython swallows
    what hits a finalizer, so the thread would never see its exception.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def when(condition: Callable[[], Any], what: str = "it to be true", *, patience: float = PATIENCE) -> Any:
    """Waits for what only a look tells; returns what the condition returned, once that is true."""
    until, pause = time.monotonic() + patience, 0.001
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(pause)
        # What another process does takes longer, and so does asking for it.
        pause = min(1.2 * pause, 0.05)


def wait_until_inside(ident: int, code: CodeType) -> None:
    """Waits until a thread is in a function, and that has called no other one of Python."""

    def is_inside() -> bool:
        frame = sys._current_frames().get(ident)
        return frame is not None and frame.f_code is code

    when(is_inside)


class InThread(threading.Thread):
    """Runs a function in a thread, and hands over what it returns or raises.

    Named like the package's own threads, so that one which is left behind is found as those are.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        super().__init__(name="runtimeuse-test-caller", daemon=True)
        self._work = functools.partial(function, *args, **keywords)
        self._result: Any = None
        self._error: Optional[BaseException] = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self._wait()
        if self._error is not None:
            raise self._error
        return self._result

    def error(self) -> BaseException:
        self._wait()
        assert self._error is not None, f"it returned {self._result!r}"
        return self._error

    def _wait(self) -> None:
        self.join(PATIENCE)
        assert not self.is_alive(), "it never ended"
