"""What a run has received, kept for its result and its errors: the output of commands and the agent's texts.

Streamed messages are all that a client can know of some output: a command's result has no stderr, some runtimes send no
stdout of a command that fails, and an aborted call gets no result at all. This keeps the last `keep_output` bytes of
each stream of each command, and of the agent's texts. For all commands together it keeps 16 times as much and drops the
oldest first.

It keeps a little more of each stream than it returns, so that a secret at the cut is still whole when it is masked.

Threads: only the thread that reads the run.
"""

from collections import deque
from typing import Callable, Deque, Iterable, List, Optional, Tuple

from .._wire.json_size import size_of
from .._wire.redaction import scrub
from .._wire.request import RequestedCommands
from ..messages import AssistantMessageInterface, CommandOutputMessageInterface, StreamedMessage
from ..results import CommandResultItem

#: All commands together may keep this many times `keep_output`.
_TOTAL_FACTOR = 16

#: The most bytes (in memory) that may be received before chunks are joined.
_MAX_UNJOINED = 64 * 1024

#: A chunk of more characters than this is not joined with others.
_LARGE = 8 * 1024

#: The most blocks of a stream. More are joined into one.
_MAX_BLOCKS = 1024

#: The least size that a text of the agent counts for, in bytes, so that the number of empty texts is bounded, too.
_MIN_TEXT_SIZE = 64


def last_bytes(text: str, size: int) -> str:
    """Returns the longest end of a text that is at most `size` bytes of UTF-8."""
    if size <= 0:
        return ""
    if text.isascii():
        return text[-size:]
    encoded = text[-size:].encode("utf-8", "surrogatepass")[-size:]
    start = 0
    while start < len(encoded) and encoded[start] & 0xC0 == 0x80:
        start += 1
    return encoded[start:].decode("utf-8", "surrogatepass")


class Tail:
    """The last `keep` bytes of one stream.

    Attributes:
        chunks: The chunks received since the last `join`.
    """

    __slots__ = ("_blocks", "_bytes", "_characters", "_keep", "_kept", "chunks")

    def __init__(self, keep: int) -> None:
        self.chunks: List[str] = []
        self._keep = keep
        self._kept = self._bytes = self._characters = 0
        self._blocks: Deque[Tuple[str, int]] = deque()

    def join(self) -> None:
        """Joins the new chunks and drops what is too far from the end."""
        chunks, self.chunks[:] = self.chunks[:], []
        # Large chunks stay separate: copying them costs more than it saves.
        for text in chunks if max(map(len, chunks), default=0) > _LARGE else ["".join(chunks)]:
            if text:
                self._add(text)

    def _add(self, text: str) -> None:
        size = size_of(text)
        self._bytes += size
        self._characters += len(text)
        if size > self._keep:
            text = last_bytes(text, self._keep)
            size = size_of(text)
        if len(self._blocks) == _MAX_BLOCKS:
            text = "".join(block for block, _ in self._blocks) + text
            size += self._kept
            self._blocks.clear()
            self._kept = 0
        self._blocks.append((text, size))
        self._kept += size
        while self._kept - self._blocks[0][1] >= self._keep:
            self._kept -= self._blocks.popleft()[1]

    @property
    def kept(self) -> int:
        """The number of bytes kept."""
        self.join()
        return self._kept

    @property
    def seen(self) -> int:
        """The number of bytes received in total."""
        self.join()
        return self._bytes

    def text(self, after: int = 0) -> str:
        """Returns the kept text that comes after the first `after` characters received."""
        self.join()
        text = "".join(block for block, _ in self._blocks)
        wanted = self._characters - after
        return text if wanted >= len(text) else text[len(text) - wanted :] if wanted > 0 else ""


def _no_command(_: str) -> None:
    raise AssertionError("no command has printed anything")


class Printed:
    """The output of one command, or of several commands with the same text in a row.

    Attributes:
        command: The command's text, as the runtime shows it.
        after_agent: Whether the agent had sent a text before.
        stdout: The end of stdout.
        stderr: The end of stderr.
    """

    __slots__ = ("after_agent", "command", "stderr", "stdout")

    def __init__(self, command: str, after_agent: bool, keep: int) -> None:
        self.command = command
        self.after_agent = after_agent
        self.stdout = Tail(keep)
        self.stderr = Tail(keep)

    @property
    def kept(self) -> int:
        """The number of bytes kept, including the command's text."""
        return self.stdout.kept + self.stderr.kept + len(self.command)


class Output:
    """What one run has received.

    Args:
        asked: The commands that the runtime was asked to run.
        keep: How many bytes to keep of each stream; 0 keeps nothing.
        secrets: The secrets that will be masked in it.

    Attributes:
        asked: As given.
        keep: As given.
        printed: The output of commands, in order.
        due: `settle` is due once the connection has received more bytes than this.
        agent_spoke: Whether the agent has sent a text.
        ended: Whether the request, and so each of its commands, has succeeded.
        answered: Whether the runtime ended the request with an error.
        results: The results that the runtime sent; only for a request of commands.
    """

    def __init__(self, asked: RequestedCommands, keep: int, secrets: Iterable[str]) -> None:
        self.asked = asked
        self.keep = keep
        self.printed: List[Printed] = []
        self.due = 0
        self.agent_spoke = False
        self.ended = False
        self.answered = False
        self.results: Optional[List[CommandResultItem]] = None
        # A secret's character takes up to four bytes, and an escaped secret has up to twice as many characters.
        self._margin = 8 * max(map(len, secrets), default=0) if keep else 0
        # A runtime that alternates between commands that it was not given must not fill the memory.
        self._max_printed = len(asked.commands) + 64
        # The bytes kept of all commands but the latest.
        self._earlier_bytes = 0
        # The agent's texts that were received together, and their size.
        self._agent_texts: Deque[Tuple[List[str], int]] = deque()
        self._agent_texts_size = 0
        self._command: Optional[str] = None
        self._stream: Optional[str] = None
        self._append: Callable[[str], None] = _no_command
        self._new_texts: List[str] = []

    def add(self, message: StreamedMessage) -> None:
        """Keeps a message's text. This is the hot path: it only appends, and `settle` does the rest."""
        if type(message) is CommandOutputMessageInterface:
            if message.stream != self._stream or message.command != self._command:
                self._switch(message.command, message.stream)
            self._append(message.text)
        elif type(message) is AssistantMessageInterface:
            if self._stream is not None or not self.agent_spoke:
                self.agent_spoke = True
                self._command = self._stream = None
            self._new_texts += message.text_blocks

    def settle(self, received: int) -> None:
        """Joins new chunks and drops what exceeds the limits. Call it before a batch of messages that ends after `due`.

        Args:
            received: The number of bytes (in memory) that the connection has received up to the end of the batch.
        """
        self.due = received + _MAX_UNJOINED
        self._drop_old_texts()
        if self.printed:
            self.printed[-1].stdout.join()
            self.printed[-1].stderr.join()

    def _switch(self, command: str, stream: str) -> None:
        if command != self._command:
            self._begin(command)
        self._stream = stream
        latest = self.printed[-1]
        self._append = (latest.stdout if stream == "stdout" else latest.stderr).chunks.append

    def _begin(self, command: str) -> None:
        if self.printed:
            self._earlier_bytes += self.printed[-1].kept
        self.printed.append(Printed(command, self.agent_spoke, self.keep + self._margin))
        self._command = command
        most = _TOTAL_FACTOR * self.keep
        while len(self.printed) > self._max_printed or (self._earlier_bytes > most and len(self.printed) > 1):
            self._earlier_bytes -= self.printed.pop(0).kept

    def _drop_old_texts(self) -> None:
        """Drops the agent's oldest texts; those that were received together are dropped together."""
        texts = self._new_texts
        if not texts:
            return
        self._new_texts = []
        most = self.keep + self._margin
        if max(map(len, texts)) > most:
            texts = [text[-most:] for text in texts]
        size = sum(map(len, texts)) + _MIN_TEXT_SIZE * len(texts)
        self._agent_texts.append((texts, size))
        self._agent_texts_size += size
        while self._agent_texts_size - self._agent_texts[0][1] >= most:
            self._agent_texts_size -= self._agent_texts.popleft()[1]

    def texts(self, secrets: List[str]) -> List[str]:
        """Returns the last `keep` bytes of the agent's texts, without secrets."""
        self._drop_old_texts()
        left = self.keep
        texts: List[str] = []
        for text in reversed([text for together, _ in self._agent_texts for text in together]):
            masked = scrub(text, secrets)
            size = max(size_of(masked), _MIN_TEXT_SIZE)
            if size > left:
                end = last_bytes(masked, left)
                texts += [end] if end else []
                break
            left -= size
            texts.append(masked)
        return texts[::-1]

    def shown(self, text: str, secrets: Iterable[str] = ()) -> Optional[str]:
        """Returns the last `keep` bytes of a stream's text, without secrets; `None` if it is empty."""
        return last_bytes(scrub(text, secrets), self.keep) or None
