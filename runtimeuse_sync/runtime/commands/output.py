"""Reads the output of a process from its two pipes and passes it on as text, in the order in which it comes.

While the text is passed on, each pipe is read ahead by a little. Then it fills, and the process has to wait.

Threads: used on the event loop. One task per process runs `Output.pass_on`; the loop calls `_Pipe` when there is
something to read.
"""

import asyncio
import codecs
import contextlib
import fcntl
import os
import sys
from typing import IO, Awaitable, Callable, List, Optional

from ..settings import MEBIBYTE

#: `on_output(stream, text)`.
OnOutput = Callable[[str, str], Awaitable[None]]

#: How much of a pipe is read ahead before reading pauses, in bytes.
_READ_AHEAD = 128 * 1024
#: Linux's default size of a pipe, in bytes, and the size for a command that fills it faster than it is read: the larger
#: the pipe, the less often the two wait for each other. Not larger, as the system limits the total of each user's
#: pipes. Python has a name for the operation (F_SETPIPE_SZ) only from 3.10 on.
_PIPE_SIZE = 64 * 1024
_LARGE_PIPE_SIZE = 256 * 1024
_SET_PIPE_SIZE = 1031
#: The most output that the process itself can have left in a pipe and its reader, in bytes. After its exit, any further
#: output is that of background children.
_LEFT_IN_PIPE = 4 * MEBIBYTE


class Output:
    """The output of one process.

    Args:
        stdout: The pipe from its stdout.
        stderr: The pipe from its stderr.
        on_output: `on_output(stream, text)` is awaited for each piece of output.
        grace: For how long background children must be silent after the exit of the process until their output is no
            longer read, in seconds.
    """

    def __init__(self, stdout: "IO[bytes]", stderr: "IO[bytes]", on_output: OnOutput, grace: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_output = on_output
        self._grace = grace
        self._waiter: Optional[asyncio.Future[None]] = None
        self._exited = False
        self._next_count = 0.0
        self._pipes = [_Pipe("stdout", stdout, self._wake), _Pipe("stderr", stderr, self._wake)]

    def note_exit(self, _: object = None) -> None:
        """Notes that the process has ended: from now on, only what it has left, and its children's output, is read."""
        self._exited = True
        now = self._loop.time()
        self._next_count = now + self._grace
        for pipe in self._pipes:
            pipe.taken, pipe.silent_since = 0, now
        self._wake()

    async def pass_on(self) -> None:
        """Passes on all output; returns when both pipes have ended, or only background children hold them.

        Raises:
            Exception: whatever `on_output` raises.
        """
        for pipe in self._pipes:
            pipe.start()
        while True:
            for pipe in self._pipes:
                if pipe.has_news:
                    text = pipe.take()
                    if text:
                        await self._on_output(pipe.stream, text)
                    pipe.silent_since = self._loop.time()
            if self._exited:
                self._end_pipes_of_others()
            if any(pipe.has_news for pipe in self._pipes):
                continue
            if all(pipe.has_ended for pipe in self._pipes):
                return
            await self._news()

    def _end_pipes_of_others(self) -> None:
        """Ends the pipes that only background children hold."""
        now = self._loop.time()
        counts = now >= self._next_count
        if counts:
            self._next_count = now + self._grace
        for pipe in self._pipes:
            # Silent in spite of a last look: the loop may have had no time for one.
            silent = now >= pipe.silent_since + self._grace and not pipe.has_news and not pipe.look()
            if silent or (counts and pipe.taken > _LEFT_IN_PIPE):
                pipe.end()

    async def _news(self) -> None:
        """Waits for news, or until background children have been silent for long enough."""
        waiter = self._waiter = self._loop.create_future()
        timer: Optional[asyncio.TimerHandle] = None
        if self._exited:
            since = min(pipe.silent_since for pipe in self._pipes if not pipe.has_ended)
            timer = self._loop.call_at(since + self._grace, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self, passing: "asyncio.Future[None]") -> None:
        """Closes the pipes, because the task that passed on the output has ended."""
        if not passing.cancelled():
            # If nobody waits for it any more, asyncio would log it.
            passing.exception()
        for pipe in self._pipes:
            pipe.close()


class _Pipe:
    """One pipe.

    Attributes:
        stream: Its name.
        has_ended: Whether nothing more will be read from it.
        has_news: Whether there is something to take: output, or the end.
        taken: How many bytes have been taken.
        silent_since: When there was something to take for the last time, on the loop's clock.
    """

    def __init__(self, stream: str, pipe: "IO[bytes]", wake: Callable[[], None]) -> None:
        self.stream = stream
        self.has_ended = False
        self.has_news = False
        self.taken = 0
        self.silent_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._wake = wake
        # Incremental: a character that is split across reads stays whole, and invalid bytes become U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._read: List[bytes] = []
        self._read_size = 0
        self._reading = False
        self._widened = False

    def start(self) -> None:
        """Begins to read."""
        os.set_blocking(self._pipe.fileno(), False)
        self._resume()

    def take(self) -> str:
        """Returns what has been read, and reads on if reading was paused."""
        data = self._read[0] if len(self._read) == 1 else b"".join(self._read)
        self._read, self._read_size = [], 0
        self.has_news = False
        self.taken += len(data)
        self._resume()
        text: str = self._decoder.decode(data, final=self.has_ended)
        return text

    def look(self) -> bool:
        """Reads once; returns whether there are news."""
        if self._reading:
            self._on_readable()
        return self.has_news

    def end(self) -> None:
        """Reads no more, even if other processes hold the pipe."""
        if not self.has_ended:
            self.has_ended = self.has_news = True
            self._pause()
            self._wake()

    def close(self) -> None:
        """Closes the pipe."""
        self._pause()
        self.has_ended = True
        self._pipe.close()

    def _resume(self) -> None:
        if not self._reading and not self.has_ended:
            self._reading = True
            self._loop.add_reader(self._pipe.fileno(), self._on_readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._pipe.fileno())

    def _on_readable(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), _LARGE_PIPE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        self._read.append(data)
        self._read_size += len(data)
        if len(data) >= _PIPE_SIZE and not self._widened:
            self._widen()
        if self._read_size >= _READ_AHEAD:
            self._pause()
        self.has_news = True
        self._wake()

    def _widen(self) -> None:
        self._widened = True
        if sys.platform == "linux":
            # Refused if the user's pipes are at their limit; the default size will do.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._pipe.fileno(), _SET_PIPE_SIZE, _LARGE_PIPE_SIZE)
