"""Ends processes: the group of one command, or all processes that a runtime has started.

Threads: runs in the tasks of its callers. Scans of /proc run in a worker thread (`runtimeuse-look`), never on the event
loop. All groups that are being ended share one scan, so that many cost no more than one.
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

#: The environment variable with the runtime's mark. All processes of commands inherit it, so that `end_all` also finds
#: those that have left their group. A runtime in a command of another runtime adds its mark to the other's.
MARK = "RUNTIMEUSE_RUNTIME_MARK"

#: In seconds: the time between two checks whether a group has ended, which no event reports; and how long to wait for
#: processes that SIGKILL does not end at once.
_CHECK_INTERVAL = 0.02
_KILL_TIMEOUT = 5.0
#: The pause before a scan of all processes, as a multiple of the duration of the last one.
_PAUSE_PER_SCAN = 5.0


class ProcessTerminator:
    """Ends the processes of one runtime.

    Args:
        settings: The runtime's settings.
        workers: Runs the scans.
        mark: The runtime's mark.
    """

    def __init__(self, settings: RuntimeSettings, workers: Workers, mark: str) -> None:
        self._settings = settings
        self._workers = workers
        self._mark = mark
        self._kill_time = math.inf
        self._scan_task: Optional[asyncio.Task[Dict[int, List[int]]]] = None
        self._scan_seconds = 0.0

    def kill_no_later_than(self, time: float) -> None:
        """Sets the latest time for SIGKILL, on the loop's clock, also for groups that are being ended."""
        self._kill_time = min(self._kill_time, time)

    async def end_group(self, group: int, exited: "asyncio.Future[int]") -> None:
        """Ends a process group: with SIGTERM, and after `kill_grace` with SIGKILL. A cancel sends SIGKILL at once.

        Args:
            group: The group's id, which is the process id of its shell.
            exited: A future that is done when the shell has been reaped.
        """
        if exited.done() and not await self._is_ours(group):
            return  # the shell is reaped and its group is empty: the number may be that of another group by now
        process_groups.signal_group(group, signal.SIGTERM)
        # A stopped process does not get the signal before it continues.
        process_groups.signal_group(group, signal.SIGCONT)
        started = asyncio.get_running_loop().time()
        ended = False
        members: List[int] = []
        try:
            while not ended and self._may_wait(started):
                # The group cannot end before its shell, so wait for the shell's exit first.
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
        """Ends every process that has the runtime's mark."""
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
        """Returns whether the group has ended; `members` is updated with the processes that a scan finds."""
        if not exited.done():
            return False
        if not process_groups.group_exists(group):
            return True
        # The group may consist of zombies that no process reaps; these count as ended.
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
            return look()  # no thread can be started, but the processes must be ended
        finally:
            self._scan_seconds = loop.time() - started
