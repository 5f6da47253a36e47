"""`execute_commands` and `run` of clients and sessions, and their other forms: `stream_commands` and `submit_commands`.

Threads: everything here runs in the calling thread; what `submit_commands` returns has a thread of its own
(`futures.py`).
"""

import dataclasses
import logging
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Union

from .._call import AskedByMany, Deadline, monotonic, shortened
from .._interrupts import raised_by_a_signal_handler, undone_on_failure
from .._wire.late_types import late_class
from .._wire.redaction import scrub
from .._wire.request import COMMANDS_OPTIONS, Commands, Request, command_request, commands_request
from .._wire.validation import SandboxPath, seconds
from ..errors import CancelledException, RunTimeoutError, RuntimeUseError, carry
from ..keywords import CommandsKeywords, Unpack, lists_keywords
from ..messages import CommandInterface
from ..options import ExecuteCommandsOptions
from ..results import CommandExecutionResult, CommandResultItem
from ..run import Run, complete
from .base import RunsRequests, completing_shown

if TYPE_CHECKING:
    from ..futures import RunFuture
else:
    # `concurrent.futures` is imported by the first call of `submit_commands`.
    RunFuture = late_class("runtimeuse_sync", "RunFuture")

#: How many seconds the removal of a command's input may take, after the call has failed.
_REMOVAL = 5.0

_logger = logging.getLogger("runtimeuse_sync")


class ShellCommands(RunsRequests):
    """Shell commands; each call is one run."""

    @lists_keywords(CommandsKeywords, COMMANDS_OPTIONS)
    def execute_commands(
        self,
        commands: Commands,
        options: Optional[ExecuteCommandsOptions] = None,
        *,
        show: bool = False,
        **keywords: "Unpack[CommandsKeywords]",
    ) -> CommandExecutionResult:
        """Runs shell commands in the sandbox, in order, without the agent; stops after the first that fails.

        A client opens a connection for each call; on a session, calls share its connection, and each waits for its
        turn.

        Args:
            commands: The commands, as strings or `CommandInterface`, or a single one.
            options: The options; default: none set.
            show: Whether to show the commands' output as it comes: as text on stdout, or in a notebook as a display
                that is updated. The callbacks run as well. Default: `False`.
            **keywords: Single options by name; they override those of `options`.

        Returns:
            The result of each command that ran.

        Raises:
            CommandFailedError: A command exited non-zero, unless `check=False`. This is an `AgentRuntimeError`, too.
            AgentRuntimeError: The runtime answered with an error, or `idle_timeout` or a callback's timeout passed.
            CancelledException: `abort` was called, or `cancel_when` returned a true value.
            RunTimeoutError: The call did not end within `timeout`, or its session within `end_session_timeout`. This is
                a `TimeoutError`, too.
            RuntimeConnectionError: The runtime could not be reached; as a `ConnectionLostError`, the connection was
                lost during the call.
            ProtocolError: The runtime broke the protocol.
            ArtifactUploadError: A one-shot's runtime did not wait for all answers to its upload requests.
            SessionStateError: The session is not open, was opened in another process, or is called from inside one of
                its own callbacks or runs.
            TypeError: An argument has the wrong type; nothing was sent. Or a callback returned something invalid.
            ValueError: An argument has an invalid value; nothing was sent.
            Exception: Whatever a callback or `cancel_when` raised.
        """
        run = self._commands_run("execute_commands()", commands, options, dict(keywords))
        try:
            finish = complete if show is False else completing_shown(show)
        except TypeError as error:
            raise shortened(error)  # noqa: B904  # the same exception
        return finish(run)

    @lists_keywords(CommandsKeywords, COMMANDS_OPTIONS)
    def run(
        self,
        command: Union[str, CommandInterface],
        options: Optional[ExecuteCommandsOptions] = None,
        *,
        cwd: Optional[SandboxPath] = None,
        env: Optional[Mapping[str, str]] = None,
        input: Union[str, bytes, None] = None,  # noqa: A002  # as `subprocess.run` names it
        show: bool = False,
        **keywords: "Unpack[CommandsKeywords]",
    ) -> CommandResultItem:
        """Runs one shell command in the sandbox and returns its result, much as `subprocess.run` does.

        A client opens a connection for each call; on a session, calls share its connection, and each waits for its
        turn.

        Args:
            command: The command, run by the sandbox's shell.
            options: The options; default: none set.
            cwd: The working directory, created if missing. Default: the runtime's own.
            env: Environment variables for the command, added to the runtime's.
            input: What the command reads from its stdin; text is sent as UTF-8. It passes through a file in the
                sandbox, which is removed. More than 790 KiB is sent by requests of their own, as `files.write` does.
                Default: none; the stdin is the runtime's.
            show: Whether to show the command's output as it comes: as text on stdout, or in a notebook as a display
                that is updated. The callbacks run as well. Default: `False`.
            **keywords: Single options by name; they override those of `options`. With `check=False`, a command that
                fails is returned like any other.

        Returns:
            The command's result: its `exit_code`, `stdout` and `stderr`.

        Raises:
            CommandFailedError: The command exited non-zero, unless `check=False`. This is an `AgentRuntimeError`, too.
            AgentRuntimeError: The runtime answered with an error, or `idle_timeout` or a callback's timeout passed.
            CancelledException: `abort` was called, or `cancel_when` returned a true value.
            RunTimeoutError: The call did not end within `timeout`, or its session within `end_session_timeout`. This is
                a `TimeoutError`, too.
            RuntimeConnectionError: The runtime could not be reached; as a `ConnectionLostError`, the connection was
                lost during the call.
            ProtocolError: The runtime broke the protocol.
            ArtifactUploadError: A one-shot's runtime did not wait for all answers to its upload requests.
            SessionStateError: The session is not open, was opened in another process, or is called from inside one of
                its own callbacks or runs.
            FileError: A large input could not be written, such as on a full disk.
            TypeError: An argument has the wrong type; nothing was sent. Or a callback returned something invalid.
            ValueError: An argument has an invalid value; nothing was sent.
            Exception: Whatever a callback or `cancel_when` raised.
        """
        try:
            finish = complete if show is False else completing_shown(show)
            data = b""
            path: Optional[str] = None
            line: Optional[str] = None
            variables: Mapping[str, str] = {}
            if input is not None:
                # Imported by the first command that has an input: importing the client stays fast.
                from .._wire.command_input import MAX_INLINE, inline_input, input_bytes, large_input

                data = input_bytes(input)
                if len(data) > MAX_INLINE:
                    path, line = large_input()
                else:
                    line, variables = inline_input(data)
            request = command_request(command, cwd, env, line, variables, options, dict(keywords), self._defaults)
            if path is not None:
                return self._run_after_writing(request, path, data, finish)
            run: Run[CommandExecutionResult] = self._run(request)
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
        return finish(run).results[0]

    def _run_after_writing(
        self,
        request: Request,
        path: str,
        data: bytes,
        finish: "Callable[[Run[CommandExecutionResult]], CommandExecutionResult]",
    ) -> CommandResultItem:
        """Writes a command's input to a file in the sandbox, then runs the command, within the one timeout."""
        options = request.options
        deadline = Deadline(seconds(options.timeout))
        # Whether the file may be there, and until when its removal may take.
        placed = False
        until: Optional[float] = None
        asked = (
            None
            if options.cancel_when is None
            else AskedByMany(options.cancel_when, seconds(options.cancel_poll_interval))
        )

        def left() -> Optional[float]:
            return None if deadline.seconds is None else max(deadline.remaining(), 1e-3)

        def begins(_: int, __: Optional[int]) -> None:
            # Called before the file takes its place: a write that fails before, such as to connect, leaves nothing.
            nonlocal placed
            placed = True

        def write_and_run() -> CommandResultItem:
            try:
                self._files(left(), options.logger, asked).write(path, data, mode=0o600, progress=begins)
                now = dataclasses.replace(options, timeout=left(), cancel_when=asked)
                run: Run[CommandExecutionResult] = self._run(request._replace(options=now))
                return finish(run).results[0]
            except RuntimeUseError as error:
                if not raised_by_a_signal_handler(error):
                    named(error)
                raise

        def named(error: RuntimeUseError) -> None:
            """Says of the call what the error says of one of its parts."""
            kind = request.kind.capitalize()
            if isinstance(error, RunTimeoutError) and deadline.passed():
                error._carry(f"{kind} did not end within {deadline.seconds:g} s")
            elif isinstance(error, CancelledException):
                error._carry(f"{kind} was cancelled{' by cancel_when' if asked is not None and asked.wanted else ''}")
            if options.source_id is not None:
                carry(error, source_id=scrub(options.source_id, request.secrets))

        def remove() -> None:
            nonlocal placed, until
            if not placed:
                return
            until = until or monotonic() + _REMOVAL
            try:
                self._files(max(until - monotonic(), 1e-3), options.logger).remove(path, missing_ok=True)
            except RuntimeUseError as problem:
                _logger.warning("the input of a command was left at %s: %s", path, type(problem).__name__)
            placed = False

        return undone_on_failure(write_and_run, remove)

    @lists_keywords(CommandsKeywords, COMMANDS_OPTIONS)
    def stream_commands(
        self,
        commands: Commands,
        options: Optional[ExecuteCommandsOptions] = None,
        **keywords: "Unpack[CommandsKeywords]",
    ) -> "Run[CommandExecutionResult]":
        """Returns the run of shell commands: iterate over their output as it arrives, then read the result.

        Use it as a context manager; entering sends the request. Entering, iterating and `result` raise what ends the
        run, as documented there.

        Args:
            commands: The commands, as strings or `CommandInterface`, or a single one.
            options: The options; default: none set.
            **keywords: Single options by name; they override those of `options`.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
        """
        return self._commands_run("stream_commands()", commands, options, dict(keywords))

    @lists_keywords(CommandsKeywords, COMMANDS_OPTIONS)
    def submit_commands(
        self,
        commands: Commands,
        options: Optional[ExecuteCommandsOptions] = None,
        **keywords: "Unpack[CommandsKeywords]",
    ) -> "RunFuture[CommandExecutionResult]":
        """Starts shell commands in a thread of their own, and returns the future of their results.

        The callbacks run in that thread, with a copy of this thread's context. On a session, runs take their turns in
        the order in which they were submitted, with the calls of other threads.

        Args:
            commands: The commands, as strings or `CommandInterface`, or a single one.
            options: The options; default: none set.
            **keywords: Single options by name; they override those of `options`.

        Returns:
            A `concurrent.futures.Future` that also has `abort`. It raises what `execute_commands` raises.

        Raises:
            RuntimeConnectionError: The system cannot start another thread.
            SessionStateError: The session is not open, or the interpreter is shutting down.
            TypeError: An argument has the wrong type; nothing was sent.
            ValueError: An argument has an invalid value; nothing was sent.
        """
        from .. import futures

        run = self._commands_run("submit_commands()", commands, options, dict(keywords))
        return futures.RunFuture(run, complete).begin()

    def _commands_run(
        self, call: str, commands: Commands, options: Optional[ExecuteCommandsOptions], keywords: Dict[str, Any]
    ) -> Run[CommandExecutionResult]:
        """Returns the run of commands, not yet started; `call` is the method that was called, as errors name it."""
        try:
            return self._run(commands_request(commands, options, keywords, self._defaults, call))
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
