"""Threads for what blocks: plain agents, waits for processes, HTTP, looks at directories.

Owns every thread that the runtime starts beside its own. Each runs one function, is named `runtimeuse-…`, and hands
its outcome to the event loop; `Workers.run` is called on the loop and does not return before the thread's function has.
"""

import asyncio
import threading
import time
from typing import Any, Callable, List, Optional, Set, Tuple, TypeVar

T = TypeVar("T")


class WorkerExit(Exception):
    """A worker's function raised what would end more than itself, such as `SystemExit`; that is the cause."""


class Workers:
    """Starts threads and remembers them until they end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: Set[threading.Thread] = set()

    async def run(
        self, name: str, function: Callable[..., T], *args: Any, on_cancel: Optional[Callable[[], None]] = None
    ) -> T:
        """Runs `function(*args)` in a thread of its own and returns what it returns.

        When the calling task is cancelled, `on_cancel` is called once and the thread is waited for all the same: a
        caller that has control again knows that the function does nothing any more. A second cancel ends the wait.

        Raises:
            WorkerExit: the function raised what is no `Exception`, such as `SystemExit`; that is its cause.
            RuntimeError: no thread can be started.
            Exception: whatever else the function raised.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Tuple[Optional[BaseException], Any]] = loop.create_future()

        def deliver(error: Optional[BaseException], value: Any) -> None:
            if not outcome.done():
                outcome.set_result((error, value))

        def work() -> None:
            error: Optional[BaseException] = None
            value: Any = None
            try:
                value = function(*args)
            except BaseException as raised:  # whatever ends the function ends only its run
                error = raised
            try:
                loop.call_soon_threadsafe(deliver, error, value)
            except RuntimeError:
                return  # the loop was closed: the runtime stopped without waiting for this thread any longer

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
        """Starts a thread and remembers it; what the function raises is the thread's own.

        Raises:
            RuntimeError: no thread can be started.
        """
        # A daemon: an agent that never returns must not keep the program from exiting.
        thread = threading.Thread(target=function, args=args, name=name, daemon=True)
        with self._lock:
            # Below the lock, so that the thread itself is known as soon as it asks.
            thread.start()
            # Ended threads are forgotten here, not by themselves: `join` must also see those that are just ending.
            self._threads = {known for known in self._threads if known.is_alive()} | {thread}

    def owns(self, thread: threading.Thread) -> bool:
        """Returns whether the thread is one of these."""
        with self._lock:
            return thread in self._threads

    def join(self, timeout: float) -> List[str]:
        """Waits up to `timeout` seconds for all threads to end; returns the names of those that have not."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name for thread in threads if thread.is_alive()]
