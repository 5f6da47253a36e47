"""Futures of runs: `client.submit` and `session.submit` return a `RunFuture`; the run goes on in a thread of its own.

This module owns that thread, and what becomes of it at the interpreter's end.

States of a future: running from the start, as its run takes its place in the session's queue, or makes its connection,
before `submit` returns; then done, with the run's result or its exception. There is no pending state: nothing waits
for a free worker. An aborted run ends with a `CancelledException`.

The interpreter's end: threads of runs are daemons, so they cannot keep the interpreter alive. `_at_exit` waits for
them instead, within limits, then aborts what is left and warns. It runs before the interpreter waits for threads
that are no daemons. On Python 3.8 it runs after that, and not in processes of `multiprocessing`. Python 3.12.0 and
3.12.1 start no thread any more at that time: a run that was submitted just before may fail, which is a warning, too.

Interrupts: a thread that is interrupted while it waits by a `Condition`, as the base class does, may leave that locked
forever; the run's thread could then not set the result. So this class waits by a `Wakeup`, and reads the outcome
without a lock. `concurrent.futures.wait` and `as_completed` can do neither.

Threads: one for each run, named `runtimeuse-submit-…`. It runs the callbacks of the call, in a copy of the submitting
thread's context, and those of `add_done_callback`. Any thread may wait for a future, and abort it. The main thread
runs `_at_exit`.
"""

import atexit
import concurrent.futures
import contextlib
import contextvars
import itertools
import math
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, List, Optional, Protocol, Tuple, TypeVar

from ._call import Call, Wakeup, monotonic, shortened
from ._interrupts import undone_on_failure
from ._threads import new_thread, start_thread
from ._wire import validation as check
from ._wire.validation import Seconds
from .errors import CancelledException, SessionStateError

__all__ = ["RunFuture"]

ResultType = TypeVar("ResultType")

if TYPE_CHECKING:

    class _Future(concurrent.futures.Future[ResultType], Generic[ResultType]):
        pass

else:

    class _Future(concurrent.futures.Future, Generic[ResultType]):
        """A future that can be subscripted, which those of Python 3.8 cannot."""


#: The longest slice of the wait at the interpreter's end, in seconds.
_SLICE = 0.25

#: How many seconds the end of the interpreter waits for a run that has no `timeout`.
EXIT_PATIENCE = 60.0

#: How many seconds a run may take to end after its `timeout` or after an abort, when the interpreter ends.
_CONCLUSION = 5.0

_numbers = itertools.count(1)

#: The futures whose threads have not ended. Each step on it is a single atomic operation.
_in_flight: "Dict[RunFuture[Any], None]" = {}

_exit_is_registered = False


class _Run(Protocol):
    """What a future needs of its run."""

    _call: Call
    _channel: Any

    def abort(self) -> None: ...

    def close(self) -> None: ...

    def _reserve(self) -> None: ...


class RunFuture(_Future[ResultType]):
    """The result of a run that goes on in a thread of its own. A `concurrent.futures.Future`.

    `submit` and `submit_commands` of a client or a session return it. `result`, `exception`, `add_done_callback`,
    `concurrent.futures.wait` and `as_completed`, and `asyncio.wrap_future` work as with any executor's futures. Two
    things differ: the run has begun when `submit` returns, so the future is never pending; and `abort` ends it at any
    time, on the runtime, too.

    The callbacks of the call, and those of `add_done_callback`, run in the run's thread (the latter in the thread that
    adds them if the future is done). An exception of one of the latter is logged by `concurrent.futures`, and dropped.

    If the interpreter ends while runs are in flight, it waits for them: for a run with a `timeout`, until that has
    passed; for one without, 60 s. Then it aborts them, with a `RuntimeWarning`. Ctrl-C aborts them at once, as well if
    it has ended the program before. A run that fails meanwhile is reported by a `RuntimeWarning`, too.

    A forked process has the future but not its thread: there, `result` and `exception` raise `SessionStateError`.
    """

    def __init__(self, run: _Run, complete: Callable[[Any], ResultType]) -> None:
        # complete: runs a run to its end, and gives back all that it took.
        super().__init__()
        self._run: Optional[_Run] = run
        self._complete = complete
        self._process = os.getpid()
        self._limit = math.inf
        #: The outcomes, a result or an exception each; the first one counts. An interrupted `begin` may add another.
        self._outcomes: List[Tuple[Any, Optional[BaseException]]] = []
        #: Whether the future is done, for all who ask: set once the base class knows.
        self._is_over = False
        self._wakeups: List[Wakeup] = []
        self.set_running_or_notify_cancel()
        # The first callback: those of the user may ask for the result.
        self.add_done_callback(_announce)

    def begin(self) -> "RunFuture[ResultType]":
        """Starts the run in a thread, and returns the future; for `submit`, which makes it.

        Raises:
            SessionStateError: The session is not open, or the interpreter is shutting down.
            RuntimeConnectionError: The system cannot start another thread.
        """
        run = self._run
        assert run is not None

        def start() -> None:
            _register_exit()
            # In this thread: runs of one session begin in the order in which they were submitted, an abort of the
            # client reaches a run that was submitted just before, and the end of a session waits for it.
            run._reserve()
            if run._call.deadline.seconds is not None:
                self._limit = monotonic() + run._call.deadline.seconds + _CONCLUSION
            name = f"runtimeuse-submit-{next(_numbers)}"
            thread = new_thread(contextvars.copy_context().run, name, _work, self, run)
            _in_flight[self] = None
            start_thread(thread)

        try:
            undone_on_failure(start, self._give_up)
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
        return self

    def _give_up(self) -> None:
        """Ends the future of a run that was not begun, or whose beginning was interrupted; may be repeated."""
        run = self._run
        if run is not None:
            # Its thread may have started all the same: if so, it finds the run aborted.
            run.abort()
            run.close()
            self._end(None, run._call.prepared(CancelledException("the run was given up before it began")))
        _in_flight.pop(self, None)

    def _end(self, result: Any, error: Optional[BaseException]) -> None:
        """Sets the outcome, unless there is one; may be repeated."""
        self._outcomes.append((result, error))
        result, error = self._outcomes[0]
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)

    def abort(self) -> None:
        """Cancels the run, on the runtime, too: the future ends with a `CancelledException`.

        Never blocks; safe from any thread, callback, signal handler and finalizer. Has no effect on a run that has
        ended. If the result has arrived just before, the future may end with that.
        """
        run = self._run
        if run is not None:
            run.abort()

    def cancel(self) -> bool:
        """Calls `abort`, as the run has always begun.

        Returns:
            Whether the run had not ended. As with `asyncio` tasks, `True` means that the run has been told to end, not
            that it has: wait for the future.
        """
        if self.done():
            return False
        self.abort()
        return True

    def cancelled(self) -> bool:
        """Returns whether the future has ended because its run was cancelled: by this future, its client or session."""
        return self._is_over and isinstance(self._outcomes[0][1], CancelledException)

    def done(self) -> bool:
        """Returns whether the run has ended."""
        return self._is_over

    def running(self) -> bool:
        """Returns whether the run has not ended."""
        return not self._is_over

    def result(self, timeout: Optional[Seconds] = None) -> ResultType:
        """Waits for the run's end, and returns its result. An interrupt of the wait, such as Ctrl-C, leaves it running.

        Args:
            timeout: The most seconds, or a `timedelta`, to wait. Default: no limit.

        Raises:
            TimeoutError: The run has not ended within `timeout`: `concurrent.futures.TimeoutError`, which is the
                built-in one since Python 3.11. It goes on. (A run that has ended because its own option `timeout`
                passed raises `RunTimeoutError`; `done()` tells the two apart.)
            CancelledException: The run was aborted.
            SessionStateError: This thread is in a callback or run of the same session, so the wait would never end; or
                the run was submitted in another process.
            Exception: Whatever else ended the run, as documented at `query` and `execute_commands`.
        """
        self._wait(timeout)
        result: ResultType
        result, error = self._outcomes[0]
        if error is None:
            return result
        try:
            raise error
        finally:
            # The error's traceback references this frame: drop what it has to avoid a reference cycle.
            del error, self

    def exception(self, timeout: Optional[Seconds] = None) -> Optional[BaseException]:
        """Waits for the run's end, and returns its exception; `None` if it has a result.

        Args:
            timeout: The most seconds, or a `timedelta`, to wait. Default: no limit.

        Raises:
            TimeoutError: The run has not ended within `timeout`; it goes on.
            SessionStateError: This thread is in a callback or run of the same session, so the wait would never end; or
                the run was submitted in another process.
        """
        self._wait(timeout)
        return self._outcomes[0][1]

    def _wait(self, timeout: Optional[Seconds]) -> None:
        run = self._run
        if self._is_over or run is None:
            return
        if self._process != os.getpid():
            raise SessionStateError("the run was submitted in another process; a fork does not copy its thread")
        channel = run._channel
        if channel is not None and channel.turn.used_by_this_thread():
            raise SessionStateError(
                "this thread is in a callback or run of the same session: a wait for a later run would never end"
            )
        seconds: Optional[float] = check.seconds(timeout)
        until = math.inf if seconds is None else monotonic() + seconds
        wakeup = Wakeup()
        try:
            # Before the future is looked at: whoever ends it wakes those who wait then.
            self._wakeups.append(wakeup)
            while not self._is_over:
                left = until - monotonic()
                if left <= 0:
                    raise concurrent.futures.TimeoutError
                wakeup.wait(left)
        finally:
            if wakeup in self._wakeups:
                self._wakeups.remove(wakeup)


def _announce(future: Any) -> None:
    """Wakes the threads that wait for a future, which the base class has ended."""
    future._is_over = True
    for wakeup in list(future._wakeups):
        wakeup.wake()


def _work(future: "RunFuture[Any]", run: _Run) -> None:
    """Runs in the run's thread."""
    try:
        try:
            future._end(future._complete(run), None)
        except BaseException as error:
            future._end(None, error)
    finally:
        future._run = None
        _in_flight.pop(future, None)
        # The error's traceback references this frame: drop what it has to avoid a reference cycle.
        del future, run


def _register_exit() -> None:
    global _exit_is_registered
    if _exit_is_registered:
        return
    # As `concurrent.futures` does for its own threads. It is called in processes of `multiprocessing`, too, and before
    # the interpreter stops starting threads, which runs may need.
    register = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(_at_exit)
    except RuntimeError as error:
        # The interpreter is ending: the run has what time is left.
        if "shutdown" not in str(error):
            raise
    _exit_is_registered = True


def _at_exit() -> None:
    """Waits for the runs that are in flight when the interpreter ends; aborts those that take too long, and warns."""
    patience = monotonic() + EXIT_PATIENCE
    ended_by = getattr(sys, "last_type", None)
    if isinstance(ended_by, type) and issubclass(ended_by, KeyboardInterrupt) and not hasattr(sys, "ps1"):
        # Ctrl-C has ended the program: whoever pressed it does not want to wait.
        _abort_all()
    limits: Dict[RunFuture[Any], float] = {}
    seen: Dict[RunFuture[Any], None] = {}
    late: List[RunFuture[Any]] = []
    try:
        while True:
            pending = [future for future in list(_in_flight) if future._process == os.getpid()]
            pending = [future for future in pending if limits.get(future) != -math.inf]
            if not pending:
                break
            now = monotonic()
            for future in pending:
                seen[future] = None
                limit = limits.setdefault(future, patience if future._limit == math.inf else future._limit)
                if now < limit:
                    continue
                if future in late:
                    limits[future] = -math.inf
                else:
                    late.append(future)
                    limits[future] = now + _CONCLUSION
                    future.abort()
            concurrent.futures.wait(pending, _SLICE, concurrent.futures.FIRST_COMPLETED)
    except BaseException:
        _abort_all()
        raise
    if late:
        warnings.warn(
            f"the interpreter ended: {len(late)} submitted run(s) that had not ended were aborted; wait for their "
            "results before",
            RuntimeWarning,
            stacklevel=2,
        )
    failures = [future.exception(0) for future in seen if future not in late and future.done()]
    kinds = sorted({type(error).__name__ for error in failures if error is not None})
    if kinds:
        warnings.warn(
            f"submitted runs that nobody waited for failed while the interpreter ended: {', '.join(kinds)}",
            RuntimeWarning,
            stacklevel=2,
        )


def _abort_all() -> None:
    pending = [future for future in list(_in_flight) if future._process == os.getpid()]
    for future in pending:
        future.abort()
    concurrent.futures.wait(pending, _CONCLUSION)
