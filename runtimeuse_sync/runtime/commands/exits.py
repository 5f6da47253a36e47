"""Waits for the exit of a process, and reaps it.

On Linux the system tells the event loop of an exit by a descriptor of the process (a pidfd). Where there is none, a
thread waits: in Python 3.8, on other systems and old kernels, and when the process has no descriptors left.

Threads: used on the event loop. The thread, if there is one, is `runtimeuse-wait`.
"""

import asyncio
import contextlib
import os
import subprocess
from typing import Callable, Optional

from ..workers import Workers

#: Returns a descriptor for a process id.
_open_descriptor: Optional[Callable[[int], int]] = getattr(os, "pidfd_open", None)


class ExitWatch:
    """Waits for the exit of one process.

    Args:
        process: The process. Nobody else reaps it.
        workers: Starts the thread.

    Attributes:
        exited: The exit code, as `subprocess` gives it; a `RuntimeError` if the thread cannot be started.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", workers: Workers) -> None:
        self._process = process
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._descriptor = _descriptor_of(process.pid)
        self.exited: asyncio.Future[int]
        if self._descriptor is None:
            self.exited = asyncio.ensure_future(workers.run("runtimeuse-wait", process.wait))
        else:
            self.exited = self._loop.create_future()
            self._loop.add_reader(self._descriptor, self._on_exit)

    def _on_exit(self) -> None:
        code = self._process.poll()
        if code is not None:
            self._forget_descriptor()
            self.exited.set_result(code)

    def _forget_descriptor(self) -> None:
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def end(self) -> None:
        """Waits no longer. A process that has been killed but has not ended yet is left to a thread, which reaps it."""
        if self._descriptor is not None:
            self._forget_descriptor()
            # Where no thread can be started, `subprocess` reaps it some time later.
            with contextlib.suppress(RuntimeError):
                self._workers.start("runtimeuse-wait", self._reap)

    def _reap(self) -> None:
        self._process.wait()


def _descriptor_of(pid: int) -> Optional[int]:
    if _open_descriptor is None:
        return None
    try:
        return _open_descriptor(pid)
    except OSError:
        return None
