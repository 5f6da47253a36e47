"""The runtime as a process that can be frozen: by SIGSTOP, so that the system still acknowledges what it is sent."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator

from runtimeuse_sync import RuntimeUseClient

from ..support.processes import killed_in_the_end
from ..support.servers import PATIENCE


class FrozenRuntime:
    """A runtime process.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.url = process.stdout.readline().split()[-1]

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def runtime_process(root: Path, *arguments: str) -> Iterator[FrozenRuntime]:
    """Runs one; in the end it is thawed and asked to stop, so that it takes what it runs with it."""
    command = [sys.executable, "-m", "runtimeuse_sync.runtime", "--port", "0", "--root", str(root), *arguments]
    with killed_in_the_end(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as process:
        runtime = FrozenRuntime(process)
        # Its guardian is started with the first command, and ends with it: no test of those to come has left it behind.
        RuntimeUseClient(runtime.url).execute_commands(["true"])
        yield runtime
        runtime.thaw()
        process.terminate()
        assert process.wait(PATIENCE) == 0
