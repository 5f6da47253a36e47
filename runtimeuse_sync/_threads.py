"""Starting threads, and waiting for their end, whatever interrupts the thread that does so.

Up to Python 3.11 `threading.Thread.start` is not made for time limits that another thread sets
(`PyThreadState_SetAsyncExc`): one that is set just then may reach the new thread, which dies of it, while the one that
it is meant for waits for the new one without end. So other threads than the main one, whose time limits are signals,
start theirs by a thread in between, which ends at once: what reaches that by mistake is passed on. It costs some time,
and so is done nowhere else.

What is left, in the few steps in which `Thread.start` has made the thread and does not wait for it yet: an interrupt
there comes out, but if it is an `Exception`, the new thread may end before it begins, and say so on stderr.

Threads: any thread begins a `Start`; the one between, which has no `threading.Thread`, runs `Start._between`.
"""

import _thread
import sys
import threading
import time
from typing import Any, Callable, Generator, List, Type

from ._call import Wakeup
from ._interrupts import failed_here
from .errors import RuntimeConnectionError, RuntimeUseError, SessionStateError

#: For how many seconds a wait for the end of a thread does not look at interrupts, as other waits (`_call.SLICE`).
_SLICE = 0.1

#: Whether this Python may raise what is set for a thread in one that it is starting.
_MISLAYS = sys.version_info < (3, 12)

Failure = Callable[[str], RuntimeUseError]


class _Daemon(threading.Thread):
    """A daemon that says by itself that it has done its work.

    Up to Python 3.12 `is_alive` says for ever that a thread is there, if an interrupt has hit who waited for its end.

    Attributes:
        over: Whether it has: it ends within moments.
    """

    over = False

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.over = True


def new_thread(target: Callable[..., object], name: str, *arguments: Any) -> threading.Thread:
    """Returns a daemon thread, not yet started.

    Raises:
        RuntimeConnectionError: this interpreter allows no daemons, as some subinterpreters do not.
    """
    try:
        thread = _Daemon(target=target, args=arguments, name=name, daemon=True)
    except RuntimeError as error:
        if not _refuses_a_thread(error):
            raise
        raise _no_thread(error, RuntimeConnectionError) from error
    # Of all threads `threading` keeps a weak reference that calls back, in whichever thread frees it: what interrupts
    # that one there would be lost, as nothing can be raised out of such a callback.
    dangling = getattr(threading, "_dangling", None)
    if dangling is not None:
        dangling.discard(thread)
    return thread


class Start:
    """The start of a thread, which goes on behind the back of whoever began it.

    Args:
        thread: The thread.
        failed: Told, in another thread, of an error where the system cannot start one more.
        failure: Makes that error of its text.
        over: Called, in another thread, when it has been started, or `failed` has been told.

    Attributes:
        under_way: Whether the thread may still be started.
    """

    def __init__(
        self,
        thread: threading.Thread,
        failed: Callable[[RuntimeUseError], None],
        failure: Failure = RuntimeConnectionError,
        over: Callable[[], None] = lambda: None,
    ) -> None:
        self.under_way = False
        self._thread = thread
        self._failed = failed
        self._failure = failure
        self._over = over

    def begin(self) -> None:
        """Has the thread started; does not wait for that. Interrupted, it may run all the same.

        Raises:
            SessionStateError: the interpreter is ending, and starts no threads any more.
            RuntimeUseError: what `failure` has made: the system cannot start another thread.
        """
        if not _MISLAYS or threading.get_ident() == threading.main_thread().ident:
            _start(self._thread, self._failure)
            return
        between = self._between(threading.get_ident())
        try:
            next(between)
            # What it runs first is inside of a `try` already.
            _thread.start_new_thread(next, (between, None))
        except BaseException as error:
            _give_up(between)
            if isinstance(error, RuntimeError) and _refuses_a_thread(error):
                raise _no_thread(error, self._failure) from error
            raise

    def _between(self, starter: int) -> "Generator[None, None, None]":
        self.under_way = True
        try:
            try:
                yield
                # The interpreter looks here whether there is something to be raised.
                for _ in range(3):
                    pass
            except GeneratorExit:
                raise
            except BaseException as error:
                _raise_in(starter, type(error))
            self._start()
        finally:
            self.under_way = False
            self._over()
            # Whose method it is may have this start: the two would keep each other.
            self._failed = _nobody

    def _start(self) -> None:
        try:
            self._thread.start()
        except BaseException as error:
            if isinstance(error, RuntimeError) and _refuses_a_thread(error):
                refused = _no_thread(error, self._failure)
            else:
                refused = self._failure(f"no thread could be started: {type(error).__name__}: {error}")
            refused.__cause__ = error
            self._failed(refused)


def _nobody(_: RuntimeUseError) -> None:
    return


def _give_up(between: "Generator[None, None, None]") -> None:
    """Keeps a start that was interrupted from going on, unless it is under way already."""
    try:
        between.close()
    except ValueError as error:
        if not failed_here(error):
            raise


def start_directly(thread: threading.Thread) -> None:
    """Starts a thread from one of our own, where no interrupts land; raises as `start_thread`."""
    _start(thread, RuntimeConnectionError)


def _start(thread: threading.Thread, failure: Failure) -> None:
    handled = sys.exc_info()[1]
    try:
        thread.start()
    except RuntimeError as error:
        if _refuses_a_thread(error):
            raise _no_thread(error, failure) from error
        # `Thread.start` waits by a `Condition`. One that is interrupted while it takes its lock back releases it all
        # the same, and fails by a `RuntimeError` in the interrupt's place.
        interrupt = error.__context__
        if interrupt is None or interrupt is handled:
            raise
        raise interrupt from None


def start_thread(thread: threading.Thread) -> None:
    """Starts a thread, and waits until it runs, or cannot.

    Raises:
        SessionStateError: the interpreter is ending, and starts no threads any more.
        RuntimeConnectionError: the system cannot start another thread.
    """
    wakeup = Wakeup()
    refused: List[RuntimeUseError] = []
    start = Start(thread, refused.append, over=wakeup.wake)
    start.begin()
    while start.under_way:
        wakeup.wait(_SLICE)
    if refused:
        raise refused[0]


def _raise_in(ident: int, kind: Type[BaseException]) -> None:
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(kind))


def _refuses_a_thread(error: RuntimeError) -> bool:
    """Returns whether the interpreter has raised it because it cannot have another thread."""
    # Its class since 3.13 for its own end is not there before.
    return type(error).__name__ in ("RuntimeError", "PythonFinalizationError") and "thread" in str(error)


def _no_thread(error: RuntimeError, failure: Failure) -> RuntimeUseError:
    why = str(error)
    if "shutdown" in why:
        return SessionStateError("the interpreter is shutting down, and starts no more threads")
    if "interpreter" in why:
        return failure(f"no thread could be started: {why}; make the call from an interpreter that allows such threads")
    return failure(
        f"no thread could be started: {why}; make fewer calls at once, or raise the limits on processes (ulimit -u, "
        "the container's pids limit) and on memory"
    )


def join_thread(thread: threading.Thread, seconds: float) -> bool:
    """Waits for a thread to end, for `seconds` at most; interrupts are noticed meanwhile.

    Returns:
        Whether it has ended.
    """
    until = time.monotonic() + seconds
    was_over = False
    while thread.is_alive():
        left = until - time.monotonic()
        if left <= 0:
            return False
        thread.join(min(left, _SLICE))
        if was_over:
            return True
        was_over = getattr(thread, "over", False)
    return True
