"""A program that is talked to while it runs: by its stdin and its output.

Owns the program's stdin. `processes.py` reads its output, reaps it, and ends its processes.

Threads: called on the event loop; starts no thread.
"""

import asyncio
import subprocess
from typing import IO, Awaitable, Callable, Mapping, Optional, Sequence, cast

from .output import OnOutput


def start_program(
    arguments: Sequence[str], directory: str, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Starts a program in a process group of its own, with pipes for its input and output.

    Raises:
        OSError: it cannot be started.
        ValueError: an argument or a variable has a value that no process can get, such as a null byte.
    """
    return subprocess.Popen(
        arguments,
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


class Program:
    """A program that was started.

    Args:
        stdin: The pipe to its stdin.
        run: Passes on its output, and returns its exit code.
    """

    def __init__(self, stdin: "IO[bytes]", run: Callable[[OnOutput], Awaitable[int]]) -> None:
        self._stdin = stdin
        self._run = run
        self._pipe = _Pipe()

    async def run(self, on_output: OnOutput) -> int:
        """Passes on the program's output until its end; to be called once, at once after the start.

        If it is cancelled, or if `on_output` raises, the program's group is ended, and whatever else it has started. A
        second cancel kills the group.

        Args:
            on_output: `on_output(stream, text)` is awaited for each piece of output. Meanwhile the pipe fills, and the
                program is slowed down.

        Returns:
            The exit code; -1 if a signal ended the program.
        """
        try:
            return await self._run(on_output)
        finally:
            if self._pipe.transport is not None:
                self._pipe.transport.abort()
                await asyncio.sleep(0)  # closing takes effect in the loop's next iteration
            self._stdin.close()

    async def write(self, data: bytes) -> None:
        """Writes to the program's stdin; returns when it has taken most of it, or takes nothing more.

        What a program has not read when it ends, or when its input was ended, is lost. One task writes at a time.
        """
        if self._pipe.transport is None and not self._stdin.closed:
            await asyncio.get_running_loop().connect_write_pipe(lambda: self._pipe, self._stdin)
        if self._pipe.transport is not None and not self._pipe.transport.is_closing():
            self._pipe.transport.write(data)
            await self._pipe.takes_more.wait()

    def end_input(self) -> None:
        """Ends the program's input, after what was written."""
        if self._pipe.transport is None:
            self._stdin.close()
        elif not self._pipe.transport.is_closing():
            self._pipe.transport.write_eof()


class _Pipe(asyncio.BaseProtocol):
    """Knows whether a pipe is open, and takes more."""

    def __init__(self) -> None:
        # From the first write on, and only while the pipe is open.
        self.transport: Optional[asyncio.WriteTransport] = None
        self.takes_more = asyncio.Event()
        self.takes_more.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def pause_writing(self) -> None:
        self.takes_more.clear()

    def resume_writing(self) -> None:
        self.takes_more.set()

    def connection_lost(self, _: Optional[Exception]) -> None:
        # The transport closes the pipe right after this.
        self.transport = None
        self.takes_more.set()
