"""Runs one shell command, or one program, as a process group and passes on its output as it arrives.

When `ProcessRunner.run` returns or raises, the shell has been reaped and its tasks have ended; after a cancel, the
whole group has ended. The same holds for `Program.run`, whose cancel also ends what has left the group, on systems with
/proc.

Threads: per process one thread (`runtimeuse-wait`), which reaps it, and two tasks on the event loop, one per pipe.
"""

import asyncio
import codecs
import contextlib
import fcntl
import math
import os
import subprocess
import sys
import uuid
from typing import IO, Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, cast

from ..settings import MEBIBYTE, RuntimeSettings
from ..workers import Workers
from .environment import environment_with
from .guardian import Guardian
from .program import OnOutput, Program, start_program
from .shell import start_shell
from .termination import MARK, ProcessTerminator

#: How much of a command's output is read ahead before reading pauses, in bytes.
_READ_AHEAD = 128 * 1024
#: Linux's default size of a pipe, in bytes, and the size for a command that fills it faster than it is read: the larger
#: the pipe, the less often the two wait for each other. Not larger, as the system limits the total of each user's
#: pipes. Python has a name for the operation (F_SETPIPE_SZ) only from 3.10 on.
_PIPE_SIZE = 64 * 1024
_LARGE_PIPE_SIZE = 256 * 1024
_SET_PIPE_SIZE = 1031
#: The most output that the shell itself can have left in a pipe and its reader, in bytes. After the shell's exit, any
#: further output is that of background children.
_LEFT_IN_PIPE = 4 * MEBIBYTE


class ProcessRunner:
    """Runs commands for one runtime."""

    def __init__(self, settings: RuntimeSettings, workers: Workers) -> None:
        self._settings = settings
        self._workers = workers
        self._mark = uuid.uuid4().hex
        self._terminator = ProcessTerminator(settings, workers, self._mark)
        self._guardian = Guardian(self._mark)
        self._started = False
        # What ends each running program.
        self._programs: List[ProcessTerminator] = []
        self._kill_time = math.inf

    async def run(self, command: str, cwd: Optional[str], env: Optional[Mapping[str, str]], on_output: OnOutput) -> int:
        """Runs a shell command.

        Background children may keep the pipes open after the shell has exited. Once they have been silent for
        `pipe_grace`, their output is no longer read, and they go on. After a cancel, and if `on_output` raises, the
        whole group is ended: with SIGTERM, then with SIGKILL.

        Args:
            command: The command.
            cwd: Its working directory, created if missing; `None` is the runtime's root.
            env: Variables to update the runtime's environment with.
            on_output: `on_output(stream, text)` is awaited for each piece of output. Meanwhile the pipe fills, and the
                command is slowed down.

        Returns:
            The exit code; -1 if a signal ended the shell.

        Raises:
            OSError: the working directory cannot be created, or the shell cannot be started.
            ValueError: the command or environment has a value that no process can get, such as a null byte.
        """
        directory = self._settings.path(cwd or ".")
        os.makedirs(directory, exist_ok=True)
        process = start_shell(command, directory, self._marked(environment_with(env)))
        return await self._follow(process, on_output)

    def start_program(self, arguments: Sequence[str], environment: Mapping[str, str]) -> "Program":
        """Starts a program in the runtime's root, in a process group of its own.

        Args:
            arguments: The path of its executable, and its arguments.
            environment: All of its environment variables.

        Returns:
            The program. The caller must have it run, in a task that it starts at once: that ends its processes.

        Raises:
            OSError: it cannot be started.
            ValueError: an argument or a variable has a value that no process can get, such as a null byte.
        """
        mark = uuid.uuid4().hex
        process = start_program(arguments, self._settings.path("."), self._marked(environment, mark))
        terminator = ProcessTerminator(self._settings, self._workers, mark)

        async def run(on_output: OnOutput) -> int:
            """Follows the program to its end."""
            self._programs.append(terminator)
            terminator.kill_no_later_than(self._kill_time)
            try:
                return await self._follow(process, on_output)
            except BaseException:
                # Those that have left the program's group; the shells that it starts usually do.
                await terminator.end_all()
                raise
            finally:
                self._programs.remove(terminator)

        return Program(cast("IO[bytes]", process.stdin), run)

    def _marked(self, environment: Mapping[str, str], *more: str) -> Dict[str, str]:
        self._started = True
        self._guardian.start()
        marks = [mark for mark in (os.environ.get(MARK), self._mark, *more) if mark]
        return {**environment, MARK: ":".join(marks)}

    async def _follow(self, process: "subprocess.Popen[bytes]", on_output: OnOutput) -> int:
        """Passes on a process's output and returns its exit code; ends its group on a cancel or a failure."""
        exited = asyncio.ensure_future(self._workers.run("runtimeuse-wait", process.wait))
        pumps = [
            _Pump("stdout", cast("IO[bytes]", process.stdout), on_output),
            _Pump("stderr", cast("IO[bytes]", process.stderr), on_output),
        ]
        tasks = [asyncio.ensure_future(pump.run()) for pump in pumps]
        try:
            await _until_done(exited, tasks)
            await self._drain(pumps, tasks)
            code = exited.result()
        except BaseException:
            await self._terminator.end_group(process.pid, exited)
            if exited.done() and not exited.cancelled() and exited.exception() is not None:
                process.wait()  # the waiting thread could not be started; the shell has been killed
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        return code if code >= 0 else -1

    async def _drain(self, pumps: "List[_Pump]", tasks: "List[asyncio.Task[None]]") -> None:
        """Reads on until both pipes have closed, or only background children hold them."""
        for pump in pumps:
            pump.taken = 0
        running: Set[asyncio.Future[None]] = set(tasks)
        while running:
            before = [pump.taken for pump in pumps]
            done, running = await asyncio.wait(
                running, timeout=self._settings.pipe_grace, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
            if done:
                continue
            for pump, taken in zip(pumps, before):
                # A pump that is not reading waits for a slow client: its pipe may still contain the shell's output.
                if (pump.reading and pump.taken == taken) or pump.taken > _LEFT_IN_PIPE:
                    pump.end()

    def kill_no_later_than(self, time: float) -> None:
        """Sets the latest time for SIGKILL, on the loop's clock, because the runtime stops."""
        self._kill_time = min(self._kill_time, time)
        for terminator in (self._terminator, *self._programs):
            terminator.kill_no_later_than(time)

    async def end_all(self) -> None:
        """Ends the processes that commands have left in the background, because the runtime stops."""
        if not self._started:
            return
        await self._terminator.end_all()
        self._guardian.dismiss()


class _Pump(asyncio.Protocol):
    """Reads one pipe to its end and passes on the text."""

    def __init__(self, stream: str, pipe: "IO[bytes]", on_output: OnOutput) -> None:
        self._stream = stream
        self._pipe = pipe
        self._on_output = on_output
        self._transport: Optional[asyncio.ReadTransport] = None
        # Data that was read and not passed on yet; the event is set when there is more, or the pipe has ended.
        self._read: List[bytes] = []
        self._read_size = 0
        self._ended = False
        self._widened = False
        self._wake = asyncio.Event()
        self.reading = False
        self.taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._read.append(data)
        self._read_size += len(data)
        if len(data) >= _PIPE_SIZE and not self._widened:
            self._widen()
        if self._read_size >= _READ_AHEAD and self._transport is not None:
            # While the client is slow, the pipe fills and the command has to wait.
            self._transport.pause_reading()
        self._wake.set()

    def _widen(self) -> None:
        self._widened = True
        if sys.platform == "linux":
            # Refused if the user's pipes are at their limit; the default size will do.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._pipe.fileno(), _SET_PIPE_SIZE, _LARGE_PIPE_SIZE)

    def eof_received(self) -> None:
        self.end()

    def connection_lost(self, _: Optional[Exception]) -> None:
        self.end()

    async def run(self) -> None:
        # Incremental: a character that is split across reads stays whole, and invalid bytes become U+FFFD.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: self, self._pipe)
            ended = False
            while not ended:
                self.reading = True
                await self._wake.wait()
                self.reading = False
                data, ended = self._take()
                self.taken += len(data)
                text = decoder.decode(data, final=ended)
                if text:
                    await self._on_output(self._stream, text)
        finally:
            if self._transport is not None:
                self._transport.close()
                await asyncio.sleep(0)  # closing takes effect in the loop's next iteration
            else:
                self._pipe.close()

    def end(self) -> None:
        """Makes `run` pass on the data read so far and return, even if other processes hold the pipe."""
        self._ended = True
        self._wake.set()

    def _take(self) -> Tuple[bytes, bool]:
        """Returns the data that was read, and whether it was the last."""
        data = self._read[0] if len(self._read) == 1 else b"".join(self._read)
        self._read, self._read_size = [], 0
        if not self._ended:
            self._wake.clear()
            if self._transport is not None and len(data) >= _READ_AHEAD:
                self._transport.resume_reading()
        return data, self._ended


async def _until_done(exited: "asyncio.Future[int]", tasks: "List[asyncio.Task[None]]") -> None:
    """Waits for the process's exit; raises the exception of a pump that fails."""
    running: Set[asyncio.Future[Any]] = {exited, *tasks}
    while not exited.done():
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
