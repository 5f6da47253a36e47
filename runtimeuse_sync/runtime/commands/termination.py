"""Ends processes: the group of one command, or all that a runtime has started.

Runs in the tasks of those that want something ended. What reads all of /proc runs in a thread (`runtimeuse-look`), one
look at a time for all who wait for one: the event loop never does, and many groups cost no more than one.
"""

import asyncio
import contextlib
import math
import signal
from typing import Callable, Dict, List, Optional, TypeVar

from ..settings import RuntimeSettings
from ..workers import Workers
from . import process_groups

T = TypeVar("T")

#: Every process that a command starts carries its runtime's mark, so that `end_all` finds also those that went their
#: own way. A runtime in another one's command adds its mark to that one's.
MARK = "RUNTIMEUSE_RUNTIME_MARK"

#: No event tells that a group has ended: how often to look, and how long to wait for processes that even SIGKILL does
#: not end at once, in seconds.
_CHECK_INTERVAL = 0.02
_KILL_TIMEOUT = 5.0
#: How long the pause before a look at all processes is, beside the time that the last one took.
_PAUSE_PER_SCAN = 5.0


class ProcessTerminator:
    """Ends the processes of one runtime.

    Args:
        settings: How long processes get.
        workers: Where looks at all processes run.
        mark: The runtime's own mark.
    """

    def __init__(self, settings: RuntimeSettings, workers: Workers, mark: str) -> None:
        self._settings = settings
        self._workers = workers
        self._mark = mark
        self._kill_time = math.inf
        self._scan_task: Optional[asyncio.Task[Dict[int, List[int]]]] = None
        self._scan_seconds = 0.0

    def kill_no_later_than(self, time: float) -> None:
        """Bounds all graces, also those that run: whatever is to end gets SIGKILL at this time of the loop's clock."""
        self._kill_time = min(self._kill_time, time)

    async def end_group(self, group: int, exited: "asyncio.Future[int]") -> None:
        """Ends a process group: by SIGTERM, then by SIGKILL.

        Cancelled, it does not wait for what SIGTERM ends.

        Args:
            group: The group, which is the process id of the shell that leads it.
            exited: Is done when the shell has been reaped.
        """
        if exited.done() and not await self._is_ours(group):
            return  # the shell has been reaped, and nothing of its group is left: the number may be somebody else's
        process_groups.signal_group(group, signal.SIGTERM)
        # A stopped process would not see the signal before somebody continues it.
        process_groups.signal_group(group, signal.SIGCONT)
        started = asyncio.get_running_loop().time()
        ended = False
        members: List[int] = []
        try:
            while not ended and self._may_wait(started):
                # As long as the shell is there, so is its group: its exit is all there is to wait for.
                if exited.done():
                    await asyncio.sleep(_CHECK_INTERVAL)
                else:
                    await asyncio.wait({exited}, timeout=_CHECK_INTERVAL)
                ended = await self._has_ended(group, exited, members)
        finally:
            if not ended:
                process_groups.signal_group(group, signal.SIGKILL)
        if not exited.done():
            await asyncio.wait({exited}, timeout=_KILL_TIMEOUT)

    async def end_all(self) -> None:
        """Ends every process that carries the mark."""
        loop = asyncio.get_running_loop()
        left = await self._marked()
        process_groups.signal_processes(left, signal.SIGTERM)
        process_groups.signal_processes(left, signal.SIGCONT)
        started = loop.time()
        while left and self._may_wait(started):
            await self._pause()
            left = await self._marked()
        deadline = loop.time() + _KILL_TIMEOUT
        while left and loop.time() < deadline:
            process_groups.signal_processes(left)
            await self._pause()
            left = await self._marked()

    def _may_wait(self, started: float) -> bool:
        return asyncio.get_running_loop().time() < min(started + self._settings.kill_grace, self._kill_time)

    async def _has_ended(self, group: int, exited: "asyncio.Future[int]", members: List[int]) -> bool:
        """Returns whether the group has ended; `members` are those that the last call has found, and this one finds."""
        if not exited.done():
            return False
        if not process_groups.group_exists(group):
            return True
        # Something has not been reaped, which may be a zombie that nobody cares for: it counts as ended.
        if any(process_groups.is_alive_in(group, pid) for pid in members):
            return False
        if self._scan_task is None or self._scan_task.done():
            self._scan_task = asyncio.ensure_future(self._scan())
        members[:] = (await asyncio.shield(self._scan_task)).get(group, [])
        return not members and process_groups.has_proc()

    async def _is_ours(self, group: int) -> bool:
        return process_groups.group_exists(group) and bool(process_groups.in_group(group, await self._marked()))

    async def _marked(self) -> List[int]:
        return await self._in_worker(lambda: process_groups.processes_with(MARK, self._mark))

    async def _scan(self) -> Dict[int, List[int]]:
        await self._pause()
        return await self._in_worker(process_groups.live_groups)

    async def _pause(self) -> None:
        await asyncio.sleep(max(_CHECK_INTERVAL, _PAUSE_PER_SCAN * self._scan_seconds))

    async def _in_worker(self, look: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            with contextlib.suppress(RuntimeError):
                return await self._workers.run("runtimeuse-look", look)
            return look()  # no thread can be started, and these processes are to end all the same
        finally:
            self._scan_seconds = loop.time() - started
