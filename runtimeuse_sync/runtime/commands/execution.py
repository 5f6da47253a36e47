"""Runs the commands of a request in order and streams their output to the client.

Output is masked and encoded once, as it arrives, for both its message and the result. So the result exists only as
pieces of JSON text.

Threads: runs in the request's task on the event loop. `processes.py` has further tasks and threads.
"""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

from ..._wire.json_text import encode_string, escape
from ..._wire.stream_redaction import StreamRedactor
from ..masking import Redactor
from ..outbox import Outbox, encode
from ..parsing import Command
from .processes import ProcessRunner

#: Pieces of output below this size are joined, in bytes.
_SMALL = 16 * 1024


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Attributes:
        exit_code: Its exit code; -1 if a signal ended it.
        pieces: Its item of the message's `results`, as JSON text in pieces.
    """

    exit_code: int
    pieces: List[bytes]


async def run_commands(
    commands: Sequence[Command],
    processes: ProcessRunner,
    outbox: Outbox,
    redactor: Redactor,
    max_stdout: Optional[int],
) -> List[CommandResult]:
    """Runs the commands until one exits non-zero; returns the results of those that ran.

    Args:
        commands: The commands.
        processes: Runs them.
        outbox: Sends their output.
        redactor: Masks their output.
        max_stdout: The most characters of a command's stdout in its result; `None` is no limit.

    Raises:
        OSError: a command's working directory cannot be created, or the shell cannot be started.
        ValueError: a command or its environment has a value that no process can get, such as a null byte.
        ConnectionError: the client is gone.
    """
    results = []
    for command in commands:
        result = await _run(command, processes, outbox, redactor, max_stdout)
        results.append(result)
        if result.exit_code != 0:
            break
    return results


def results_pieces(results: Sequence[CommandResult]) -> List[bytes]:
    """Returns the encoded `command_execution_result_message`, in pieces, as it may be large."""
    pieces = [b'{"message_type":"command_execution_result_message","results":[']
    for index, result in enumerate(results):
        pieces += (b"," if index else b"", *result.pieces)
    return [*pieces, b"]}"]


def cut_note(kept: int, printed: int) -> str:
    """Returns the note at the end of a stdout that was cut."""
    return f"\n[cut: {kept} of {printed} characters]"


async def _run(
    command: Command, processes: ProcessRunner, outbox: Outbox, redactor: Redactor, max_stdout: Optional[int]
) -> CommandResult:
    shown = encode_string(redactor.text(command.command))
    stdout = _Stdout(max_stdout)
    masking = {"stdout": StreamRedactor(redactor.secrets), "stderr": StreamRedactor(redactor.secrets)}
    heads: Dict[str, bytes] = {
        stream: encode({"message_type": "command_output_message", "stream": stream})[:-1]
        + b',"command":%b,"text":"' % shown
        for stream in masking
    }

    async def send(stream: str, text: str) -> None:
        if not text:
            return
        escaped = escape(text)
        if stream == "stdout":
            stdout.add(text, escaped)
        await outbox.send_text(heads[stream], escaped, b'"}')

    async def on_output(stream: str, text: str) -> None:
        await send(stream, masking[stream].feed(text))

    exit_code = await processes.run(command.command, command.cwd, command.env, on_output)
    for stream, masked in masking.items():
        await send(stream, masked.flush())
    return CommandResult(exit_code, [b'{"command":%b,"exit_code":%d' % (shown, exit_code), *stdout.field(), b"}"])


class _Stdout:
    """A command's stdout for its result, as the inside of a JSON string."""

    def __init__(self, limit: Optional[int]) -> None:
        self._limit = limit
        self._printed = 0
        self._kept: List[bytes] = []
        # A command may print any number of small pieces. They are joined, as each object has a cost.
        self._small = bytearray()

    def add(self, text: str, escaped: bytes) -> None:
        """Adds a piece of masked output, as text and as JSON."""
        left = None if self._limit is None else max(0, self._limit - self._printed)
        self._printed += len(text)
        if left is None or len(text) <= left:
            self._keep(escaped)
        elif left:
            self._keep(escape(text[:left]))

    def field(self) -> List[bytes]:
        """Returns the result's field in pieces, with a leading comma; empty if nothing was printed."""
        if not self._printed:
            return []
        note = b""
        if self._limit is not None and self._printed > self._limit:
            note = escape(cut_note(self._limit, self._printed))
        return [b',"stdout":"', *self._kept, bytes(self._small), note, b'"']

    def _keep(self, escaped: bytes) -> None:
        if self._small or len(escaped) < _SMALL:
            self._small += escaped
            if len(self._small) < _SMALL:
                return
            escaped = bytes(self._small)
            self._small.clear()
        self._kept.append(escaped)
