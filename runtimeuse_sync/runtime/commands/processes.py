"""Runs one shell command, or one program, as a process group and passes on its output as it arrives.

When `ProcessRunner.run` returns or raises, the shell has been reaped and its tasks have ended; after a cancel, the
whole group has ended. The same holds for `Program.run`, whose cancel also ends what has left the group, on systems with
/proc.

Threads: per process one task on the event loop passes on its output (`output.py`). `exits.py` may start a thread.
"""

import asyncio
import math
import os
import subprocess
import uuid
from typing import IO, Any, Dict, List, Mapping, Optional, Sequence, Set, cast

from ..settings import RuntimeSettings
from ..workers import Workers
from .environment import environment_with
from .exits import ExitWatch
from .guardian import Guardian
from .output import OnOutput, Output
from .program import Program, start_program
from .shell import start_shell
from .termination import MARK, ProcessTerminator


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
        pipes = (cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr))
        output = Output(*pipes, on_output, self._settings.pipe_grace)
        # In a task of its own: while a cancelled process ends, its output is still passed on.
        passing = asyncio.ensure_future(output.pass_on())
        passing.add_done_callback(output.close)
        watch = ExitWatch(process, self._workers)
        exited = watch.exited
        exited.add_done_callback(output.note_exit)
        try:
            both: Set[asyncio.Future[Any]] = {exited, passing}
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                each.result()
            code = exited.result()
        except BaseException:
            await self._terminator.end_group(process.pid, exited)
            if exited.done() and not exited.cancelled() and exited.exception() is not None:
                process.wait()  # the waiting thread could not be started; the shell has been killed
            raise
        finally:
            watch.end()
            if not passing.done():
                passing.cancel()
                await asyncio.wait({passing})
        return code if code >= 0 else -1

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
