"""Writes what a run sends: for people and pipes as text, for programs as one JSON object a line.

Stdout has the output or the answer, and nothing else. A text for stdout is what the agent says, as it comes, and then
its answer, unless that is what it has just said. With a schema the answer alone is written, as JSON.

Threads: the thread that performs the run.
"""

import dataclasses
import json
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Protocol, Union

from ..errors import AgentRuntimeError
from ..messages import AssistantMessageInterface, CommandOutputMessageInterface, StreamedMessage
from ..results import CommandExecutionResult, QueryResult, StructuredOutputResult
from ._exits import INTERRUPTED, exit_code_of_command, one_line_of
from ._masking import Masking
from ._screen import Screen

Result = Union[QueryResult, CommandExecutionResult]

#: The most characters of what the agent has said last that are kept, to compare them with its answer.
_COMPARED = 16 * 1024 * 1024


class Output(Protocol):
    """Where the messages and the end of a run go."""

    def message(self, message: StreamedMessage) -> None:
        """Writes a message."""

    def result(self, result: Any) -> None:
        """Writes the result."""

    def failed(self, error: BaseException, code: int, line: Optional[str]) -> None:
        """Writes that the run has failed, as far as that is not said on stderr."""


class AnswerText:
    """Writes what an agent says, and its answer.

    Args:
        screen: Where to.
        masking: Masks secrets in the answer.
        answer_only: Whether to write only the answer.
    """

    def __init__(self, screen: Screen, masking: Masking, *, answer_only: bool) -> None:
        self._screen = screen
        self._masking = masking
        self._answer_only = answer_only
        self._said: Deque[str] = deque()
        self._said_size = 0
        self._has_said_more = False

    def message(self, message: StreamedMessage) -> None:
        """Writes what the agent says to stdout, and what commands print to stderr."""
        if self._answer_only:
            return
        if isinstance(message, AssistantMessageInterface):
            self._note(_lines(message.text))
            self._screen.out(_ended(message.text))
        elif isinstance(message, CommandOutputMessageInterface):
            self._screen.err(message.text)

    def result(self, result: QueryResult) -> None:
        """Writes the answer, unless it is what the agent has just said."""
        if isinstance(result.data, StructuredOutputResult):
            answer = self._masking.json({"structured_output": result.data.structured_output})["structured_output"]
            self._screen.out(
                json_text(answer, self._screen, indent=2 if self._screen.stdout_is_terminal else None) + "\n"
            )
            return
        text = self._masking.text(result.data.text)
        lines = _lines(text)
        if lines and not self._have_been_said(lines):
            self._screen.out(_ended(text))

    def failed(self, error: BaseException, code: int, line: Optional[str]) -> None:
        """Nothing: stderr says it."""

    def _note(self, lines: List[str]) -> None:
        self._said.extend(lines)
        self._said_size += sum(map(len, lines))
        while self._said_size > _COMPARED:
            self._said_size -= len(self._said.popleft())
            self._has_said_more = True

    def _have_been_said(self, lines: List[str]) -> bool:
        said = list(self._said)
        if len(lines) > len(said):
            # Of an answer that is longer than what is kept, that part is compared.
            return self._has_said_more and bool(said) and lines[-len(said) :] == said
        return said[len(said) - len(lines) :] == lines


class CommandText:
    """Writes what a command prints: stdout to stdout, stderr to stderr.

    Args:
        screen: Where to.
        masking: Masks secrets in the results.
    """

    def __init__(self, screen: Screen, masking: Masking) -> None:
        self._screen = screen
        self._masking = masking
        self._has_printed = False

    def message(self, message: StreamedMessage) -> None:
        """Writes a chunk of output."""
        if isinstance(message, CommandOutputMessageInterface):
            self._has_printed = True
            write = self._screen.out if message.stream == "stdout" else self._screen.err
            write(message.text)

    def result(self, result: CommandExecutionResult) -> None:
        """Writes what the command has printed, if the runtime has not streamed it."""
        if not self._has_printed:
            for item in result.results:
                self._screen.out(self._masking.text(item.stdout or ""))

    def failed(self, error: BaseException, code: int, line: Optional[str]) -> None:
        """Nothing: stderr says it."""


class JsonLines:
    """Writes each message, and in the end the result or the error, as one JSON object a line.

    The objects are the messages of the protocol. The last one has also `exit_code`.

    Args:
        screen: Where to.
        masking: Masks secrets.
    """

    def __init__(self, screen: Screen, masking: Masking) -> None:
        self._screen = screen
        self._masking = masking

    def message(self, message: StreamedMessage) -> None:
        """Writes a message."""
        self._write({field.name: getattr(message, field.name) for field in dataclasses.fields(message)})

    def result(self, result: Result) -> None:
        """Writes the result."""
        if isinstance(result, QueryResult):
            data = dataclasses.asdict(result.data)
            self._write({"message_type": "result_message", "data": data, "metadata": result.metadata, "exit_code": 0})
            return
        results = [dataclasses.asdict(item) for item in result.results]
        code = exit_code_of(result)
        self._write({"message_type": "command_execution_result_message", "results": results, "exit_code": code})

    def failed(self, error: BaseException, code: int, line: Optional[str]) -> None:
        """Writes the error."""
        metadata = error.metadata if isinstance(error, AgentRuntimeError) else None
        said = "interrupted" if code == INTERRUPTED else line or one_line_of(str(error)) or type(error).__name__
        kind = type(error).__name__
        self._write(
            {"message_type": "error_message", "error": said, "metadata": metadata, "type": kind, "exit_code": code}
        )

    def _write(self, message: Dict[str, Any]) -> None:
        self._screen.out(json_text(self._masking.json(message), self._screen) + "\n")


def exit_code_of(result: CommandExecutionResult) -> int:
    """Returns the exit code for the results of commands: that of the last one that ran."""
    return exit_code_of_command(result.results[-1].exit_code if result.results else None)


def json_text(value: Any, screen: Screen, indent: Optional[int] = None) -> str:
    """Returns a value as JSON text that can be written to the screen's stdout."""
    return json.dumps(value, ensure_ascii=not screen.takes_all_text, indent=indent)


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _lines(text: str) -> List[str]:
    """Returns the lines of a text that have something in them, without the space around that."""
    return [line.strip() for line in text.splitlines() if line.strip()]
