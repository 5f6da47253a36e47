"""Owns the event loop of the users' `async` agents. On a loop of their own, they cannot block the runtime's.

Threads: one thread per runtime (`runtimeuse-agents`), started with the first run of an `async` agent. All runs share
it, since agents may share objects that belong to one loop: clients, locks, connections. The methods of `AgentLoop` are
called on the runtime's loop.
"""

import asyncio
import contextlib
import contextvars
import logging
from typing import Any, Callable, Coroutine, Optional, Tuple, TypeVar

from .. import event_loop
from ..workers import Workers

T = TypeVar("T")

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: How long the remaining tasks may take to end when the runtime stops, in seconds.
_END_TIMEOUT = 1.0


class AgentLoop:
    """Runs coroutines in the agents' thread.

    Args:
        workers: Starts the thread.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        # Set once, and read in the thread.
        self._stopped = False

    async def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs the coroutine that `function` returns as a new task, in a copy of the caller's context.

        If the calling task is cancelled, this cancels the new task and waits for it. A second cancel ends the wait.

        Raises:
            RuntimeError: the thread cannot be started.
            BaseException: whatever the coroutine raised.
        """
        here = asyncio.get_running_loop()
        there = self._started()
        outcome: asyncio.Future[Tuple[Optional[BaseException], Any]] = here.create_future()
        running: Optional[asyncio.Task[T]] = None

        def deliver(error: Optional[BaseException], value: Any) -> None:
            """Sets the outcome, in the runtime's loop."""
            if not outcome.done():
                outcome.set_result((error, value))

        def done(task: "asyncio.Task[T]") -> None:
            """Passes the outcome on, in the agents' loop."""
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            with contextlib.suppress(RuntimeError):  # the runtime has stopped and no longer waits for this task
                here.call_soon_threadsafe(deliver, error, None if error is not None else task.result())

        def begin() -> None:
            """Starts the task, in the agents' loop."""
            nonlocal running
            running = there.create_task(function())
            running.add_done_callback(done)

        def cancel() -> None:
            """Cancels the task, in the agents' loop."""
            if running is not None:
                running.cancel()

        there.call_soon_threadsafe(begin, context=contextvars.copy_context())
        try:
            error, value = await asyncio.shield(outcome)
        except asyncio.CancelledError:
            with contextlib.suppress(RuntimeError):  # the agents' thread has ended and no longer waits for this task
                there.call_soon_threadsafe(cancel)
            await asyncio.wait({outcome})
            raise
        if error is not None:
            raise error
        result: T = value
        return result

    def stop(self) -> None:
        """Makes the thread end; `Workers.join` waits for it."""
        self._stopped = True
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = event_loop.new()
            try:
                self._workers.start("runtimeuse-agents", self._run, loop)
            except BaseException:
                loop.close()
                raise
            self._loop = loop
        return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while not self._stopped:
                try:
                    # An agent may call `loop.stop()`. Run it again, so that the other agents continue.
                    loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:
                    # Raised by a task that an agent has started: it ends only that task.
                    _logger.warning("A task of an agent raised %s", type(error).__name__)
        finally:
            event_loop.end(loop, _END_TIMEOUT)
