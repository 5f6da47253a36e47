"""Runs an event loop to its end, also where an agent does not come to one.

Runs in the thread that `local.py` starts, or in the main thread of a process; `end` in that of `agents/loop.py`, too.
"""

import asyncio
import logging
from typing import Any, Coroutine, List, TypeVar

T = TypeVar("T")

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: Tasks of loops that have been closed. Were they collected, each would be resumed once more, on its closed loop.
_abandoned: "List[asyncio.Task[Any]]" = []


def run(main: "Coroutine[Any, Any, T]", timeout: float) -> T:
    """Runs a coroutine on an event loop of its own, as `asyncio.run` does, but never waits for ever for tasks.

    Args:
        main: What to run.
        timeout: How long tasks that are still there at its end may take to end, too, once they have been cancelled,
            in seconds. Those that do not are left behind, which is logged.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        end(loop, timeout)


def end(loop: asyncio.AbstractEventLoop, timeout: float) -> None:
    """Ends what is left on a loop that does not run any more, and closes it; for the thread that it ran in."""
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
        _logger.warning("Left behind at the runtime's stop: an async agent, or a task of one, that ignores its cancel")
