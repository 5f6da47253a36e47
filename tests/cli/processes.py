"""The command as a process of its own, in pipes and in a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List

from ..support.processes import CHILD_LIMIT, killed_in_the_end

COMMAND = [sys.executable, "-W", "error", "-m", "runtimeuse_sync"]


@contextlib.contextmanager
def started(*arguments: Any, env: Dict[str, str] = {}, **more: Any) -> Iterator[subprocess.Popen[bytes]]:  # noqa: B006
    """Yields the command as a process with pipes; it is killed if it still runs in the end."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], env={**os.environ, **env}, bufsize=0, **streams)
    with killed_in_the_end(process):
        yield process


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    """Returns the next line on the process's stdout, however many pieces it comes in."""
    assert process.stdout is not None
    said = b""
    while not said.endswith(b"\n"):
        piece = process.stdout.read(1)
        assert piece, f"it has ended after {said!r}"
        said += piece
    return said


class Terminal:
    """The command in a terminal of its own.

    Attributes:
        shown: Everything that it has written to the terminal.
    """

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.shown = ""
        self._process = process
        self._master = master

    def wait_for(self, text: str, count: int = 1) -> None:
        """Waits until the command has written a text, so many times."""
        until = time.monotonic() + CHILD_LIMIT
        while self.shown.count(text) < count:
            assert time.monotonic() < until, f"{text!r} never came: {self.shown!r}"
            assert self._read() or self.shown.count(text) >= count, f"{text!r} never came: {self.shown!r}"

    def type(self, text: str) -> None:
        """Types a text; `\\x03` is Ctrl-C."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Waits until the command has ended; returns its exit code."""
        while self._read():
            pass
        return self._process.wait(CHILD_LIMIT)

    def lines(self) -> List[str]:
        """Returns what one sees in the end: the lines without those that were erased."""
        return [line.rpartition("\r\x1b[2K")[2] for line in self.shown.split("\r\n")]

    def _read(self) -> bool:
        readable, _, _ = select.select([self._master], [], [], CHILD_LIMIT)
        assert readable, f"nothing more comes: {self.shown!r}"
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux reports the end
            return False
        self.shown += data.decode()
        return bool(data)


@contextlib.contextmanager
def in_terminal(*arguments: Any, stdout: Any = None, env: Dict[str, str] = {}) -> Iterator[Terminal]:  # noqa: B006
    """Yields the command in a terminal, as its foreground process; `stdout` may go elsewhere."""
    master, slave = pty.openpty()
    try:
        # An interpreter that takes the terminal for its own and then becomes the command: Python 3.8 to 3.13 differ in
        # what else there is, and a fork beside threads is to be avoided.
        take = (
            "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", take, *COMMAND, *map(str, arguments)],
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **env},
        )
        os.close(slave)
        slave = -1
        with killed_in_the_end(process):
            yield Terminal(process, master)
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
