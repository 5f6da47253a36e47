"""Starting threads and waiting for their end, in spite of interrupts in the thread that does so.

Up to Python 3.11, `threading.Thread.start` does not cope with time limits that another thread sets
(`PyThreadState_SetAsyncExc`). One that is set during the start may be raised in the new thread, which dies of it, while
the starting thread, for which it was meant, waits for the new one for ever. So on these versions every thread but the
main one (whose time limits are signals) starts its threads through an intermediate thread, which ends at once and
passes on what was raised in it by mistake. This takes time, so it is done nowhere else.

Two gaps remain, both inside of `Thread.start`; an interrupt there is raised as it should be. In the few steps in which
it has made the thread and does not yet wait for it, an `Exception` may end the new thread before it begins, which is
printed on stderr. And in the few before, `threading` goes on listing a thread that will never begin; from Python 3.13
on, which tells the two apart, it is taken from the list.

Threads: any thread may begin a `Start`. `Start._between` runs in the intermediate thread, which has no
`threading.Thread`.
"""

import _thread
import sys
import threading
from typing import Any, Callable, Generator, List, Type

from ._call import Wakeup, monotonic
from ._interrupts import failed_here
from .errors import RuntimeConnectionError, RuntimeUseError, SessionStateError

#: The longest slice of a wait for the end of a thread, in seconds, as `_call.SLICE` is that of other waits.
_SLICE = 0.1

#: Whether this Python may raise an exception that is set for one thread in another that it is starting.
_MISDIRECTS = sys.version_info < (3, 12)

#: Makes an error from its text.
Failure = Callable[[str], RuntimeUseError]


class _Daemon(threading.Thread):
    """A daemon thread that notes by itself that it has done its work.

    Up to Python 3.12, `is_alive` stays true for ever if an interrupt hit a thread that waited for this one's end.

    Attributes:
        over: Whether the work is done; the thread ends within moments.
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
        RuntimeConnectionError: The interpreter allows no daemon threads, as some subinterpreters.
    """
    try:
        thread = _Daemon(target=target, args=arguments, name=name, daemon=True)
    except RuntimeError as error:
        if not _refuses_a_thread(error):
            raise
        raise _no_thread(error, RuntimeConnectionError) from error
    # `threading` keeps a weak reference to each thread, whose callback runs in whichever thread frees it. An interrupt
    # in that callback would be lost: nothing can be raised out of it.
    dangling = getattr(threading, "_dangling", None)
    if dangling is not None:
        dangling.discard(thread)
    return thread


class Start:
    """The start of a thread, which continues in the background.

    Args:
        thread: The thread to start.
        failed: Called in another thread with the error if the system cannot start one more thread.
        failure: Makes that error from its text.
        over: Called in another thread once the thread has been started, or after `failed`.

    Attributes:
        under_way: Whether the thread may still be about to start.
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
        """Begins to start the thread, and does not wait until it runs. If interrupted, the thread may still run.

        Raises:
            SessionStateError: The interpreter is shutting down, and starts no more threads.
            RuntimeUseError: The system cannot start another thread; the error is what `failure` made.
        """
        if not _MISDIRECTS or threading.get_ident() == threading.main_thread().ident:
            _start(self._thread, self._failure)
            return
        between = self._between(threading.get_ident())
        try:
            next(between)
            # The generator already stands inside its `try`, so the new thread is in there from its first step.
            _thread.start_new_thread(next, (between, None))
        except BaseException as error:
            _give_up(between)
            if isinstance(error, RuntimeError) and _refuses_a_thread(error):
                raise _no_thread(error, self._failure) from error
            raise

    def _between(self, starter: int) -> "Generator[None, None, None]":
        """Runs in two threads: to the `yield` in the starter's, then to the end in the thread in between."""
        self.under_way = True
        try:
            try:
                yield
                # The interpreter checks at each jump back whether an exception has been set for this thread.
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
            # `_failed` may be a method of this object's owner: drop it to avoid a reference cycle.
            self._failed = _ignore

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


def _ignore(_: RuntimeUseError) -> None:
    return


def _give_up(between: "Generator[None, None, None]") -> None:
    """Keeps an interrupted start from continuing, unless it is under way already."""
    try:
        between.close()
    except ValueError as error:
        if not failed_here(error):
            raise


def start_directly(thread: threading.Thread) -> None:
    """Starts a thread from one of the client's own threads, where no interrupts arrive.

    Raises:
        SessionStateError: The interpreter is shutting down, and starts no more threads.
        RuntimeConnectionError: The system cannot start another thread.
    """
    _start(thread, RuntimeConnectionError)


def _start(thread: threading.Thread, failure: Failure) -> None:
    handled = sys.exc_info()[1]
    try:
        thread.start()
    except (KeyError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and _refuses_a_thread(error):
            raise _no_thread(error, failure) from error
        # `Thread.start` may raise an error of its own in place of an interrupt. It waits on a `Condition`: if an
        # interrupt hits while that takes its lock back, it releases the lock all the same, a `RuntimeError`. If one
        # hits once the thread runs, it takes the thread out of a dict a second time, a `KeyError`.
        interrupt = error.__context__
        if interrupt is None or interrupt is handled:
            raise
        before = interrupt.__context__
        try:
            raise interrupt from None
        finally:
            # `raise` replaced the context by the error. It may be an earlier interrupt, which must not be lost.
            interrupt.__context__ = before
    except BaseException:
        _forget_unless_made(thread)
        raise


def _forget_unless_made(thread: threading.Thread) -> None:
    """Takes a thread whose start was interrupted from the list of those that start, if the system has not made it."""
    handle, starting = getattr(thread, "_handle", None), getattr(threading, "_limbo", None)
    if starting is not None and getattr(handle, "ident", None) == 0:
        starting.pop(thread, None)


def start_thread(thread: threading.Thread) -> None:
    """Starts a thread, and waits until it runs or has failed to start.

    Raises:
        SessionStateError: The interpreter is shutting down, and starts no more threads.
        RuntimeConnectionError: The system cannot start another thread.
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
    """Returns whether the interpreter raised the error because it cannot start another thread."""
    # By name: `PythonFinalizationError`, raised at the interpreter's end, exists only since 3.13.
    return type(error).__name__ in ("RuntimeError", "PythonFinalizationError") and "thread" in str(error)


def _no_thread(error: RuntimeError, failure: Failure) -> RuntimeUseError:
    why = str(error)
    if "shutdown" in why:
        return SessionStateError("the interpreter is shutting down and starts no more threads")
    if "interpreter" in why:
        return failure(f"no thread could be started: {why}; make the call from an interpreter that allows such threads")
    return failure(
        f"no thread could be started: {why}; make fewer calls at once, or raise the limits on processes (ulimit -u, "
        "the container's pids limit) and on memory"
    )


def join_thread(thread: threading.Thread, seconds: float) -> bool:
    """Waits for a thread to end; interrupts are noticed meanwhile.

    Args:
        thread: The thread.
        seconds: The longest time to wait.

    Returns:
        Whether the thread has ended.
    """
    until = monotonic() + seconds
    was_over = False
    while thread.is_alive():
        left = until - monotonic()
        if left <= 0:
            return False
        thread.join(min(left, _SLICE))
        if was_over:
            return True
        was_over = getattr(thread, "over", False)
    return True
