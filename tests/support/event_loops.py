"""Event loops of tests' own, and waits in them for what other threads do."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Awaitable, Callable, List

from .servers import PATIENCE


def threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("runtimeuse-asgi")]


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Runs a coroutine function in a loop of its own, for no longer than a test has patience."""

    async def limited() -> Any:
        return await asyncio.wait_for(main(), 3 * PATIENCE)

    return asyncio.run(limited())


async def in_time(happened: threading.Event) -> None:
    """Waits for something that another thread does, and lets the loop run meanwhile."""
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, happened.wait, PATIENCE)


async def said(server: Any, message_type: str) -> None:
    await asyncio.get_running_loop().run_in_executor(None, server.wait_for, message_type)
