"""Whole lines, out of the chunks in which the output of commands arrives.

A chunk may end anywhere, so the beginning of a line is kept until its end comes: for stdout and stderr apart, as their
chunks arrive in any order. Commands run one after the other, so output of another one, or a message of the agent, ends
the unfinished lines of the one before. Each message of the agent is complete by itself.

Each character is searched and copied a fixed number of times, whatever the chunks. A line is split at `MAX_LINE`
characters, so that output without any line ending cannot fill the memory.

Threads: whoever reads the run.
"""

import io
from collections import deque
from typing import Callable, Deque, Dict, Literal, Optional

from ..messages import AssistantMessageInterface, CommandOutputMessageInterface, OutputLine, StreamedMessage

#: A longer line comes in pieces of so many characters.
MAX_LINE = 16 * 1024 * 1024

_Stream = Literal["stdout", "stderr", "assistant"]


class _Beginning:
    """The beginning of a line, whose end has not come yet."""

    __slots__ = ("_text", "size")

    def __init__(self) -> None:
        self._text = io.StringIO()
        self.size = 0

    def add(self, text: str) -> None:
        self._text.write(text)
        self.size += len(text)

    def with_rest(self, text: str) -> str:
        self._text.write(text)
        return self._text.getvalue()


class Lines:
    """The lines of one run: takes its messages one by one, and returns the lines that they complete."""

    def __init__(self) -> None:
        # The latest chunk, how much of it has been used, and whose it is.
        self._text = ""
        self._position = 0
        self._stream: _Stream = "stdout"
        self._command = ""
        # The unfinished lines of the latest command, by stream; and those that its end has finished.
        self._beginnings: Dict[_Stream, _Beginning] = {}
        self._finished: Deque[OutputLine] = deque()

    def add(self, message: StreamedMessage) -> None:
        """Takes a message. All lines of the one before must have been taken."""
        if type(message) is CommandOutputMessageInterface:
            if message.command != self._command:
                self.finish()
                self._command = message.command
            self._stream = message.stream
            self._text = message.text
        elif type(message) is AssistantMessageInterface:
            self.finish()
            self._command = ""
            self._stream = "assistant"
            self._text = message.text
        else:
            return
        self._position = 0

    def finish(self) -> bool:
        """Ends the unfinished lines, in the order in which they began; returns whether there were any."""
        beginnings, self._beginnings = self._beginnings, {}
        for stream, beginning in beginnings.items():
            self._finished.append(OutputLine(stream, beginning.with_rest(""), self._command))
        return bool(beginnings)

    def next(self) -> Optional[OutputLine]:
        """Returns the next line; `None` if that takes another message."""
        if self._finished:
            return self._finished.popleft()
        text, start, stream = self._text, self._position, self._stream
        if start >= len(text):
            return None
        beginning = self._beginnings.get(stream)
        room = MAX_LINE - (0 if beginning is None else beginning.size)
        end = text.find("\n", start, start + room + 1)
        if end >= 0:
            self._position = end + 1
        else:
            end = self._position = min(start + room, len(text))
            if end == len(text) and stream != "assistant":
                if beginning is None:
                    beginning = self._beginnings[stream] = _Beginning()
                beginning.add(text[start:])
                return None
        line = text[start:end]
        if beginning is not None:
            del self._beginnings[stream]
            line = beginning.with_rest(line)
        if self._position > end and line.endswith("\r"):
            line = line[:-1]
        return OutputLine(stream, line, self._command)


class LineIterator:
    """Iterates over a run by lines.

    An iterator, not a generator: once a generator has raised, it looks as if the run had ended well.

    Args:
        lines: The run's lines.
        next_message: Returns the run's next message; `None` at its end.
        may_hold_back: Whether an exception is the run's own, which it raises again, and not an interrupt, say.
    """

    def __init__(
        self,
        lines: Lines,
        next_message: Callable[[], Optional[StreamedMessage]],
        may_hold_back: Callable[[BaseException], bool],
    ) -> None:
        self._lines = lines
        self._next_message = next_message
        self._may_hold_back = may_hold_back

    def __iter__(self) -> "LineIterator":
        return self

    def __next__(self) -> OutputLine:
        while True:
            line = self._lines.next()
            if line is not None:
                return line
            try:
                message = self._next_message()
            except BaseException as error:
                # Unfinished lines come first.
                if not (self._may_hold_back(error) and self._lines.finish()):
                    raise
                continue
            if message is not None:
                self._lines.add(message)
            elif not self._lines.finish():
                raise StopIteration
