"""Runs an event loop and ends it even if an agent's tasks do not end.

Threads: runs in the thread that `local.py` starts, or in a process's main thread. `end` also runs in the thread of
`agents/loop.py`.
"""

import asyncio
import logging
from typing import Any, Coroutine, List, TypeVar

from .._call import monotonic

T = TypeVar("T")

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: The abandoned tasks of closed loops, kept here because garbage collection would resume each once, on its closed loop.
_abandoned: "List[asyncio.Task[Any]]" = []


def new() -> asyncio.AbstractEventLoop:
    """Returns a new event loop, whose clock stands still for no test: see `_call.monotonic`."""
    loop = asyncio.new_event_loop()
    setattr(loop, "time", monotonic)  # noqa: B010  # an assignment to a method, for type checkers
    return loop


def run(main: "Coroutine[Any, Any, T]", timeout: float) -> T:
    """Runs a coroutine on a new event loop, as `asyncio.run` does, but waits for the remaining tasks with a limit.

    Args:
        main: The coroutine.
        timeout: How long the remaining tasks may take to end after their cancel, in seconds. Those that do not end
            are abandoned, which is logged.
    """
    loop = new()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        end(loop, timeout)


def end(loop: asyncio.AbstractEventLoop, timeout: float) -> None:
    """Ends the remaining tasks of a loop that has stopped, and closes it; to be called in the loop's thread."""
    try:
        _end_tasks(loop, timeout)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _end_tasks(loop: asyncio.AbstractEventLoop, timeout: float) -> None:
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    _, left = loop.run_until_complete(asyncio.wait(tasks, timeout=timeout))
    if left:
        _abandoned.extend(left)
        _logger.warning(
            "Abandoned when the runtime stopped: an async agent, or one of its tasks, that ignores its cancel"
        )
