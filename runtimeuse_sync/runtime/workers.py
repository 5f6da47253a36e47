"""Owns the worker threads, which run blocking work: plain agents, waits for processes, HTTP, scans of directories.

Threads: `Workers` starts every thread of the runtime except that of its event loop (`local.py`) and asyncio's for name
lookups. The threads are named `runtimeuse-…`. Each runs one function. `Workers.run` is called on the event loop and
returns after the function; the thread passes the function's outcome to the loop.
"""

import asyncio
import threading
from typing import Any, Callable, List, Optional, Set, Tuple, TypeVar

from .._call import monotonic

T = TypeVar("T")


class WorkerExit(Exception):
    """A worker's function raised a `BaseException` such as `SystemExit`, which is the cause."""


class Workers:
    """Starts threads and keeps track of them until they end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: Set[threading.Thread] = set()

    async def run(
        self, name: str, function: Callable[..., T], *args: Any, on_cancel: Optional[Callable[[], None]] = None
    ) -> T:
        """Runs `function(*args)` in a thread of its own and returns what it returns.

        If the calling task is cancelled, `on_cancel` is called once, and the call still waits for the thread: when it
        returns, the function has ended. A second cancel ends the wait.

        Args:
            name: The thread's name.
            function: The function.
            args: Its arguments.
            on_cancel: Makes the function end soon.

        Raises:
            WorkerExit: the function raised a `BaseException` that is no `Exception`, which is the cause.
            RuntimeError: the thread cannot be started.
            Exception: whatever else the function raised.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Tuple[Optional[BaseException], Any]] = loop.create_future()

        def deliver(error: Optional[BaseException], value: Any) -> None:
            """Sets the outcome, in the event loop's thread."""
            if not outcome.done():
                outcome.set_result((error, value))

        def work() -> None:
            """Calls the function, in the new thread."""
            error: Optional[BaseException] = None
            value: Any = None
            try:
                value = function(*args)
            except BaseException as raised:  # it ends only this run
                error = raised
            try:
                loop.call_soon_threadsafe(deliver, error, value)
            except RuntimeError:
                return  # the loop is closed: the runtime stopped and no longer waits for this thread

        self.start(name, work)
        try:
            error, value = await asyncio.shield(outcome)
        except asyncio.CancelledError:
            try:
                if on_cancel is not None:
                    on_cancel()
            finally:
                await asyncio.wait({outcome})
            raise
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise WorkerExit(type(error).__name__) from error
        result: T = value
        return result

    def start(self, name: str, function: Callable[..., None], *args: Any) -> None:
        """Starts a thread; `threading.excepthook` reports what the function raises.

        Raises:
            RuntimeError: the thread cannot be started.
        """
        # A daemon, so that an agent that never returns does not keep the program alive.
        thread = threading.Thread(target=function, args=args, name=name, daemon=True)
        with self._lock:
            # Under the lock, so that `owns` knows the thread as soon as it runs.
            thread.start()
            # Ended threads are removed here, not by themselves: `join` must also see those that are about to end.
            self._threads = {known for known in self._threads if known.is_alive()} | {thread}

    def owns(self, thread: threading.Thread) -> bool:
        """Returns whether the thread is a worker."""
        with self._lock:
            return thread in self._threads

    def join(self, timeout: float) -> List[str]:
        """Waits up to `timeout` seconds for all threads to end; returns the names of those that have not."""
        deadline = monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        return [thread.name for thread in threads if thread.is_alive()]
