"""Owns the `claude` process of one run: its command line, its environment, and the lines that it writes.

It is what the Claude Agent SDK calls a transport. The SDK's own one starts `claude` in the runtime's process group and
with the runtime's whole environment, and its end leaves what `claude` has started. This one runs it as `commands/` runs
every process.

Threads: runs on the runtime's event loop, in the tasks of the SDK. A task of its own follows the process.
"""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, AsyncIterator, Dict, Iterator, List, Mapping, Optional, Sequence, Set

from ..._wire.stream_redaction import StreamRedactor
from ..commands.processes import ProcessRunner
from ..commands.program import Program
from ..failures import METADATA_LIMIT, RequestFailedError
from ..masking import Redactor

#: The longest line that `claude` may write, in characters: a tool's result, with images, is one line.
_LONGEST_LINE = 64 * 1024 * 1024
#: The longest argument for the process, in bytes. Linux allows 128 KiB.
_LONGEST_ARGUMENT = 96 * 1024
#: Where the installers put `claude`, below the home directory and elsewhere.
_INSTALLED = (".local/bin/claude", ".claude/local/claude", ".npm-global/bin/claude", "node_modules/.bin/claude")


def find_claude(environment: Mapping[str, str]) -> str:
    """Returns the path of `claude`: the one in `PATH`, else the SDK's own, else one that an installer has put there.

    Raises:
        RequestFailedError: there is none.
    """
    found = shutil.which("claude", path=environment.get("PATH", os.defpath))
    if found is not None:
        return os.path.abspath(found)
    home = Path(environment.get("HOME") or Path.home())
    for path in (bundled_claude(), *(home / name for name in _INSTALLED), Path("/usr/local/bin/claude")):
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise RequestFailedError(
        "the agent 'claude' needs the executable claude, which is neither in PATH nor a part of the installed "
        "claude-agent-sdk: see https://code.claude.com/docs/en/setup"
    )


def bundled_claude() -> Path:
    """Returns where the SDK has its own `claude`, on most systems."""
    import claude_agent_sdk

    return Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


@contextlib.contextmanager
def claude_arguments(model: str, system_prompt: str, schema: Optional[Dict[str, Any]]) -> Iterator[List[str]]:
    """Yields the arguments for `claude`: the conversation is JSON in lines, and no tool asks for permission.

    A system prompt that is too long for an argument is in a file until the block is left.
    """
    arguments = ["--output-format", "stream-json", "--verbose", "--input-format", "stream-json"]
    arguments += ["--permission-mode", "bypassPermissions"]
    if model:
        arguments += ["--model", model]
    if schema is not None:
        arguments += ["--json-schema", json.dumps(schema)]
    encoded = system_prompt.encode(errors="replace")
    if not encoded:
        yield arguments
    elif len(encoded) <= _LONGEST_ARGUMENT:
        yield [*arguments, "--system-prompt", system_prompt]
    else:
        with tempfile.NamedTemporaryFile(prefix="runtimeuse-") as file:
            file.write(encoded)
            file.flush()
            yield [*arguments, "--system-prompt-file", file.name]


class ClaudeProcess:
    """One run of `claude`; has the methods of the SDK's `Transport`.

    Failures of the process do not come out of `read_messages`, as the SDK would log their text: it just ends.

    Args:
        processes: Runs it.
        arguments: Its arguments.
        environment: All of its environment variables.
        redactor: Masks what it writes to stderr.

    Attributes:
        exit_code: Its exit code, once it has ended by itself; -1 if a signal ended it.
        failure: What was wrong with its output.
    """

    def __init__(
        self, processes: ProcessRunner, arguments: Sequence[str], environment: Mapping[str, str], redactor: Redactor
    ) -> None:
        self._processes = processes
        self._arguments = arguments
        self._environment = environment
        self._masking = StreamRedactor(redactor.secrets)
        self._stderr = ""
        self._program: Optional[Program] = None
        self._following: Optional[asyncio.Task[None]] = None
        # Pieces of stdout; `None` after the last one. Full while the client is slow: then the process has to wait.
        self._pieces: asyncio.Queue[Optional[str]] = asyncio.Queue(1)
        # The ids of the SDK's requests that have no response yet.
        self._asked: Set[str] = set()
        self.exit_code: Optional[int] = None
        self.failure: Optional[RequestFailedError] = None

    @property
    def stderr(self) -> str:
        """The end of what it has written to stderr, masked."""
        return self._stderr

    async def connect(self) -> None:
        """Starts the process.

        Raises:
            RequestFailedError: it cannot be started.
        """
        try:
            program = self._processes.start_program(
                [find_claude(self._environment), *self._arguments], self._environment
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.failure = RequestFailedError(f"claude could not be started: {reason}")
            raise self.failure from error
        except RequestFailedError as error:
            self.failure = error
            raise
        self._program = program
        # No cancel comes before this task's first step: it is begun before the calling task waits for anything.
        self._following = asyncio.ensure_future(self._follow(program))

    def is_ready(self) -> bool:
        """Returns whether the process was started and not closed."""
        return self._program is not None

    async def write(self, data: str) -> None:
        """Writes a line to the process; what it does not read is lost, as its exit tells more than a broken pipe."""
        if data.startswith('{"type": "control_request"'):
            self._asked.add(json.loads(data)["request_id"])
        if self._program is not None:
            await self._program.write(data.encode())

    async def end_input(self) -> None:
        """Tells the process that there will be no more input."""
        if self._program is not None:
            self._program.end_input()

    async def read_messages(self) -> AsyncIterator[Dict[str, Any]]:
        """Yields the messages of the process, until it ends or writes what is none."""
        try:
            async for line in self._lines():
                message = _parsed(line)
                if message is None:
                    continue
                if message.get("type") == "control_response":
                    self._has_answered(message)
                yield message
        except RequestFailedError as error:
            self.failure = error
        # The SDK would wait for a minute.
        for request_id in self._asked:
            answer = {"subtype": "error", "request_id": request_id, "error": "the process has ended"}
            yield {"type": "control_response", "response": answer}

    async def close(self) -> None:
        """Ends the process and what it has started, unless it has ended by itself; may be called again."""
        following, self._program = self._following, None
        if following is None:
            return
        following.cancel()
        while not following.done():
            try:
                await asyncio.wait({following})
            except asyncio.CancelledError:
                # The runtime stops, and waits no longer than it takes to kill the process. The SDK's own clean-up comes
                # after this, and must not be left half done.
                following.cancel()

    async def _follow(self, program: Program) -> None:
        try:
            self.exit_code = await program.run(self._on_output)
        except Exception as error:  # such as OSError, if no descriptor was left; the reader must be told in any case
            self.failure = RequestFailedError(f"claude could not be run: {type(error).__name__}: {error}")
        self._keep(self._masking.flush())
        await self._pieces.put(None)

    async def _on_output(self, stream: str, text: str) -> None:
        if stream == "stdout":
            await self._pieces.put(text)
        else:
            self._keep(self._masking.feed(text))

    def _keep(self, text: str) -> None:
        self._stderr = (self._stderr + text)[-METADATA_LIMIT:]

    async def _lines(self) -> AsyncIterator[str]:
        # The pieces of the unfinished line; there may be any number of them.
        begun: List[str] = []
        size = 0
        while True:
            piece = await self._pieces.get()
            if piece is None:
                break
            *lines, rest = piece.split("\n")
            for end in lines:
                yield "".join([*begun, end])
                begun.clear()
                size = 0
            begun.append(rest)
            size += len(rest)
            if size > _LONGEST_LINE:
                raise RequestFailedError(f"claude wrote a line of more than {_LONGEST_LINE} characters")
        # A message that was cut off is no fault of its own: the exit code says what happened.
        last = "".join(begun)
        with contextlib.suppress(ValueError):
            json.loads(last)
            yield last

    def _has_answered(self, message: Dict[str, Any]) -> None:
        response = message.get("response")
        if isinstance(response, dict):
            self._asked.discard(str(response.get("request_id")))


def _parsed(line: str) -> Optional[Dict[str, Any]]:
    """Returns a line's message; `None` for a line that is meant for people, as some versions write them.

    Raises:
        RequestFailedError: the line begins like a message, but is none.
    """
    line = line.strip()
    if not line.startswith("{"):
        return None
    try:
        message: Dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise RequestFailedError(f"claude wrote a line that is not JSON: {reason}") from None
    return message
