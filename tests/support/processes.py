"""Starts, ends and awaits processes, without polling."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import AnyStr, Iterator, List

import psutil

from .servers import PATIENCE

#: The same number on every architecture; Python has a function for it only from 3.9 on.
_PIDFD_OPEN = 434


#: Seconds for a child interpreter that starts, does its work and ends. Only one that hangs takes longer.
CHILD_LIMIT = 150.0


class Pipe:
    """A named pipe that a command writes to when it has come so far."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path

    def numbers(self) -> List[int]:
        """Returns the numbers that the command writes, once it has; usually ids of processes."""
        return [int(word) for word in self._path.read_text().split()]


def wait_until_ended(*pids: int) -> None:
    """Returns when all of the processes have ended, whether or not somebody has taken note of it."""
    for pid in pids:
        if sys.platform != "linux":
            psutil.Process(pid).wait(PATIENCE)
            continue
        descriptor = ctypes.CDLL(None).syscall(_PIDFD_OPEN, pid, 0)
        if descriptor < 0:
            continue  # there is none of this number any more
        try:
            assert select.select([descriptor], [], [], PATIENCE)[0], f"of {pids}, {pid} still runs"
        finally:
            os.close(descriptor)


def end(process: subprocess.Popen[AnyStr]) -> None:
    """Asks a process to end, and sees to it that it does."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE)


@contextlib.contextmanager
def killed_in_the_end(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Yields a process, which is killed if it still runs when the block is left."""
    with process:
        try:
            yield process
        finally:
            process.kill()
