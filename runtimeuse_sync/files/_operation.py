"""One file operation: its deadline, its abort, its requests, and the removal of what it leaves in the sandbox.

An operation makes one request after the other, each a run of its own with the time that the operation has left. The
runs take none of the client's defaults, so no secret of the user's is masked in them; and they keep no output, so no
error carries contents.

Whatever ends the operation early, its temporary file in the sandbox is removed by one more request, on the same session
if that still works, or else on a new connection. The caller waits for it, but `CLEAN_UP_SECONDS` at most.

Threads: everything but `abort` runs in the calling thread. `abort` may be called in any thread: it sets a flag, then
aborts the run in flight. The calling thread publishes each run, then looks at the flag; so one of the two sees the
other's step.
"""

import dataclasses
import logging
import uuid
from typing import Any, Callable, ContextManager, Iterator, List, NamedTuple, Optional, Protocol, Sequence, TypeVar

from .._call import AskedByMany, Call
from .._interrupts import cleaned_up, raised_by_a_signal_handler
from .._logs import PACKAGE_LOGGER, PARTS_LOGGER, CallLog, LoggerLike, logger_for
from .._wire.request import Defaults, Request, commands_request
from ..errors import AgentRuntimeError, CancelledException, RunTimeoutError, RuntimeUseError, carry
from ..messages import CommandInterface, CommandOutputMessageInterface
from ..options import ExecuteCommandsOptions
from ..results import CommandExecutionResult
from ._failures import failure
from .errors import FileError

#: For how many seconds the end of an operation waits, at most, until its temporary file in the sandbox is removed.
CLEAN_UP_SECONDS = 5.0

#: How many characters of a request's stderr are kept.
_KEPT = 8192

_Result = TypeVar("_Result")


class FileRun(Protocol):
    """The run of an operation's commands."""

    def abort(self) -> None:
        """Cancels the run."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: Any) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    @property
    def result(self) -> CommandExecutionResult:
        """The result of the run."""


class Commands(Protocol):
    """What runs an operation's commands: a client, by one-shot calls, or a session."""

    def _run(self, request: Request, keep_output: Optional[int] = None) -> FileRun:
        """Returns the run of a request, not yet started."""


#: Opens what runs an operation's commands, within a number of seconds (`None`: no limit).
OpenCommands = Callable[[Optional[float]], ContextManager[Commands]]


class Reply(NamedTuple):
    """What one request's commands printed.

    Attributes:
        stdout: The stdout of each command.
        stderr: The end of what they printed to stderr together.
    """

    stdout: List[str]
    stderr: str


class Operation:
    """One operation on files.

    Args:
        kind: What it does, for messages and logs: "reading a file".
        path: The path in the sandbox, for messages.
        timeout: The time limit in seconds; `None` for no limit.
        open_commands: Opens what runs the commands.
        logger: Where it logs its begin and its end; `None` is the package's logger.
        asked: What its requests ask whether to cancel; `None` for nothing.

    Attributes:
        temporary: The name of its temporary file.
        clean_up: The script that removes the temporary file from the sandbox; `None` while there is none.
    """

    def __init__(
        self,
        kind: str,
        path: str,
        timeout: Optional[float],
        open_commands: OpenCommands,
        logger: Optional[LoggerLike] = None,
        asked: Optional[AskedByMany] = None,
    ) -> None:
        self.temporary = f".runtimeuse-{uuid.uuid4().hex[:16]}.tmp"
        self.clean_up: Optional[str] = None
        self._kind = kind
        self._path = path
        self._open_commands = open_commands
        self._logger = logger
        self._asked = asked
        self._call = Call(kind, timeout)
        self._commands: Optional[Commands] = None
        self._run: Optional[FileRun] = None
        self._messages = 0
        self._lost = False
        self._clean_up_until: Optional[float] = None
        #: Whether it has had its first turn on the session.
        self._begun = False

    # In any thread.

    def abort(self) -> None:
        """Ends the operation with a `CancelledException`; never blocks."""
        self._call.abort()
        run = self._run
        if run is not None:
            run.abort()

    def abort_if_begun(self) -> None:
        """As `abort`, but has no effect while the operation waits for its first turn on the session."""
        if self._begun:
            self.abort()

    # In the calling thread.

    def perform(self, body: "Callable[[Operation], _Result]") -> _Result:
        """Does the operation; removes its temporary file from the sandbox if it fails.

        Raises:
            CancelledException: The operation was aborted.
            RunTimeoutError: Its deadline passed.
            FileError: It failed because of a file.
            RuntimeUseError: Its requests failed otherwise.
            Exception: Whatever `body` raises.
        """
        logger = logger_for(self._logger)
        log = CallLog(logger, self._kind, "None") if logger.isEnabledFor(logging.INFO) else None
        self._call.start()
        error: Optional[BaseException] = None
        try:
            if log is not None:
                log.begin()
            with self._open_commands(self._call.deadline.seconds) as self._commands:
                return cleaned_up(lambda: self._completed(body), self._remove_temporary)
        except BaseException as raised:
            error = self._translated(raised)
            if error is raised:
                raise
            raise error from None
        finally:
            self._commands = None
            self._call.own_error = None
            if log is not None:
                log.end(error, self._messages)
            # Its traceback references this frame: drop it to avoid a reference cycle.
            error = None

    def _completed(self, body: "Callable[[Operation], _Result]") -> _Result:
        result = body(self)
        self.clean_up = None
        return result

    def check(self) -> None:
        """Raises if the operation must not continue.

        Raises:
            CancelledException: The operation was aborted.
            RunTimeoutError: Its deadline passed.
        """
        self._call.check()

    def request(self, *scripts: str) -> Reply:
        """Runs scripts in the sandbox, in order.

        Raises:
            FileError: One of them failed.
        """
        return self.perform_request(self.encoded([CommandInterface(script) for script in scripts]))

    def encoded(self, commands: Sequence[CommandInterface]) -> Request:
        """Returns the request to run commands. It takes none of the client's defaults, and logs warnings only."""
        options = ExecuteCommandsOptions(check=False, logger=PARTS_LOGGER)
        return commands_request(commands, options, {}, Defaults({}), "files")._replace(kind=self._kind)

    def perform_request(self, request: Request, meanwhile: Optional[Callable[[], None]] = None) -> Reply:
        """As `request`, for commands that are encoded already; calls `meanwhile` once they are on their way."""
        self._call.check()
        assert self._commands is not None
        timeout = None if self._call.deadline.seconds is None else self._call.deadline.remaining() or 1e-3
        run = self._run_of(self._commands, request, timeout, self._asked)
        self._run = run
        try:
            # After the run is published: `abort` sets the flag before it looks for a run.
            self._call.check()
            results, stderr = self._run_to_its_end(run, meanwhile)
        finally:
            self._run = None
        for item in results.results:
            if item.exit_code != 0:
                raise failure(self._path, item.exit_code, stderr)
        wanted = len(request.commands.commands)
        if len(results.results) != wanted:
            raise failure(self._path, None, f"{len(results.results)} of {wanted} commands ran")
        return Reply([item.stdout or "" for item in results.results], stderr)

    def _run_of(
        self, runner: Commands, request: Request, timeout: Optional[float], asked: Optional[AskedByMany] = None
    ) -> FileRun:
        """Returns a run that keeps no output."""
        options = dataclasses.replace(request.options, timeout=timeout)
        if asked is not None:
            options = dataclasses.replace(options, cancel_when=asked, cancel_poll_interval=asked.interval)
        return runner._run(request._replace(options=options), keep_output=0)

    def _run_to_its_end(self, run: FileRun, meanwhile: Optional[Callable[[], None]]) -> Any:
        kept = ""
        with run:
            self._begun = True
            if meanwhile is not None:
                meanwhile()
            for message in run:
                self._messages += 1
                if type(message) is CommandOutputMessageInterface and message.stream == "stderr":
                    kept = (kept + message.text)[-_KEPT:]
            return run.result, kept

    def _translated(self, error: BaseException) -> BaseException:
        """Returns the operation's own error for one of a request, without what the request was."""
        self._lost = self._lost or isinstance(error, ConnectionError)
        if isinstance(error, FileError) or not isinstance(error, RuntimeUseError) or raised_by_a_signal_handler(error):
            return error
        if isinstance(error, CancelledException):
            return error if self._call.is_own(error) else self._call.prepared(self._cancelled())
        if isinstance(error, RunTimeoutError) and self._call.deadline.seconds is not None:
            return error if self._call.is_own(error) else self._call.prepared(self._late())
        carry(error, results=[], assistant_texts=[])
        return error

    def _cancelled(self) -> CancelledException:
        return CancelledException(f"{self._kind.capitalize()} was cancelled")

    def _late(self) -> RunTimeoutError:
        return RunTimeoutError(f"{self._kind.capitalize()} did not end within {self._call.deadline.seconds:g} s")

    # The end.

    def _remove_temporary(self) -> None:
        """Removes the temporary file from the sandbox if there is one; may be repeated, and has a time limit."""
        script = self.clean_up
        if script is None:
            return
        if self._clean_up_until is None:
            self._clean_up_until = self._call.now() + CLEAN_UP_SECONDS
        try:
            if self._commands is not None and self._removed_by(self._commands, script):
                self.clean_up = None
                return
            left = self._clean_up_until - self._call.now()
            if left > 0:
                with self._open_commands(left) as commands:
                    self._removed_by(commands, script)
        except RuntimeUseError as error:
            if raised_by_a_signal_handler(error):
                raise
            PACKAGE_LOGGER.debug("a temporary file may be left in the sandbox: %s", type(error).__name__)
        self.clean_up = None

    def _removed_by(self, commands: Commands, script: str) -> bool:
        """Returns whether the connection still works; the script has then run."""
        assert self._clean_up_until is not None
        left = self._clean_up_until - self._call.now()
        if left <= 0:
            return True
        try:
            with self._run_of(commands, self.encoded([CommandInterface(script)]), left) as run:
                _ = run.result
        except (ConnectionError, AgentRuntimeError) as error:
            if raised_by_a_signal_handler(error):
                raise
            return False
        return True
