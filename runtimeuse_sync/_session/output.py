"""What a run has received, kept for its result and its errors: output of commands, and what the agent has said.

The protocol sends no stderr with a command's result, some runtimes no stdout of a command that fails, and a call that
is aborted gets no result at all: what was streamed is all that is left of it. Kept are the last `keep_output` bytes of
each command and stream, and of what the agent has said; of all commands together 16 times as much, the oldest go first.

Of each stream a little more is kept than is shown, so that a secret at the cut is still whole when it is masked. Only
the thread that reads the run comes here.
"""

from collections import deque
from typing import Callable, Deque, Iterable, List, Optional, Tuple

from .._wire.json_size import size_of
from .._wire.redaction import scrub
from .._wire.request import RequestedCommands
from ..messages import AssistantMessageInterface, CommandOutputMessageInterface, StreamedMessage
from ..results import CommandResultItem

#: How many times as much is kept of all commands together.
_IN_ALL = 16

#: How much may come before it is joined, in bytes of memory.
_ROOM = 64 * 1024

#: From how many characters on a chunk is not joined with others.
_LARGE = 8 * 1024

#: How many pieces there may be of a stream before they are made one.
_MOST_BLOCKS = 1024

#: What each text of the agent counts at least, in bytes, so that empty ones fill up, too.
_LEAST = 64


def last_bytes(text: str, size: int) -> str:
    """Returns the last characters of a text that are no more than so many bytes in UTF-8."""
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
    """The end of one stream, of which the last `keep` bytes are kept.

    Attributes:
        chunks: What has come since it was last joined.
    """

    __slots__ = ("_blocks", "_bytes", "_characters", "_keep", "_kept", "chunks")

    def __init__(self, keep: int) -> None:
        self.chunks: List[str] = []
        self._keep = keep
        self._kept = self._bytes = self._characters = 0
        self._blocks: Deque[Tuple[str, int]] = deque()

    def join(self) -> None:
        """Makes one text of what has come, and drops what is too far from the end."""
        chunks, self.chunks[:] = self.chunks[:], []
        # Large ones stay as they are: to copy them costs more than it saves.
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
        if len(self._blocks) == _MOST_BLOCKS:
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
        """How many bytes are kept."""
        self.join()
        return self._kept

    @property
    def seen(self) -> int:
        """How many bytes have come in all."""
        self.join()
        return self._bytes

    def text(self, after: int = 0) -> str:
        """Returns what has been kept of it, without the first so many characters of all that has come."""
        self.join()
        text = "".join(block for block, _ in self._blocks)
        wanted = self._characters - after
        return text if wanted >= len(text) else text[len(text) - wanted :] if wanted > 0 else ""


def _nowhere(_: str) -> None:
    raise AssertionError("no command has printed anything")


class Printed:
    """What one command has printed, or several of the same text in a row.

    Attributes:
        command: Its text, as the runtime shows it.
        after_agent: Whether the agent had spoken before.
        stdout: The end of its stdout.
        stderr: The end of its stderr.
    """

    __slots__ = ("after_agent", "command", "stderr", "stdout")

    def __init__(self, command: str, after_agent: bool, keep: int) -> None:
        self.command = command
        self.after_agent = after_agent
        self.stdout = Tail(keep)
        self.stderr = Tail(keep)

    @property
    def kept(self) -> int:
        """How many bytes are kept of it, its command included."""
        return self.stdout.kept + self.stderr.kept + len(self.command)


class Output:
    """What one run has received.

    Args:
        asked: What the runtime was asked to run.
        keep: How much to keep, in bytes; 0 for nothing.
        secrets: What will be masked in it.

    Attributes:
        asked: As given.
        keep: As given.
        printed: What commands have printed, in order.
        due: When `settle` is due, on the connection's count of bytes.
        agent_spoke: Whether the agent has said anything.
        ended: Whether the request has ended well, and all its commands with it.
        answered: Whether it has ended by an error of the runtime.
        results: The results that the runtime has sent, where it was asked for commands only.
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
        # Four bytes for each character, and twice as many characters where it was escaped.
        self._margin = 8 * max(map(len, secrets), default=0) if keep else 0
        # A runtime that shows more commands than it was given, by turns, must not fill the memory.
        self._most = len(asked.commands) + 64
        self._before = 0
        self._said: Deque[Tuple[List[str], int]] = deque()
        self._said_size = 0
        self._command: Optional[str] = None
        self._stream: Optional[str] = None
        self._append: Callable[[str], None] = _nowhere
        self._texts: List[str] = []

    def add(self, message: StreamedMessage) -> None:
        """Keeps what a message has. The hot path: all but an append waits for `settle`."""
        if type(message) is CommandOutputMessageInterface:
            if message.stream != self._stream or message.command != self._command:
                self._switch(message.command, message.stream)
            self._append(message.text)
        elif type(message) is AssistantMessageInterface:
            if self._stream is not None or not self.agent_spoke:
                self.agent_spoke = True
                self._command = self._stream = None
            self._texts += message.text_blocks

    def settle(self, received: int) -> None:
        """Joins what has come, and drops what is too much; to be called at a batch of messages that ends after `due`.

        Args:
            received: Where the batch ends, of all that the connection has brought, in bytes of memory.
        """
        self.due = received + _ROOM
        self._drop_said()
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
            self._before += self.printed[-1].kept
        self.printed.append(Printed(command, self.agent_spoke, self.keep + self._margin))
        self._command = command
        while len(self.printed) > self._most or (self._before > _IN_ALL * self.keep and len(self.printed) > 1):
            self._before -= self.printed.pop(0).kept

    def _drop_said(self) -> None:
        """Drops what the agent has said too long ago, as many texts at once as came together."""
        texts = self._texts
        if not texts:
            return
        self._texts = []
        most = self.keep + self._margin
        if max(map(len, texts)) > most:
            texts = [text[-most:] for text in texts]
        size = sum(map(len, texts)) + _LEAST * len(texts)
        self._said.append((texts, size))
        self._said_size += size
        while self._said_size - self._said[0][1] >= most:
            self._said_size -= self._said.popleft()[1]

    def texts(self, secrets: List[str]) -> List[str]:
        """Returns what the agent has said, as far as it is kept, without secrets."""
        self._drop_said()
        left = self.keep
        texts: List[str] = []
        for text in reversed([text for together, _ in self._said for text in together]):
            masked = scrub(text, secrets)
            size = max(size_of(masked), _LEAST)
            if size > left:
                end = last_bytes(masked, left)
                texts += [end] if end else []
                break
            left -= size
            texts.append(masked)
        return texts[::-1]

    def shown(self, text: str, secrets: Iterable[str] = ()) -> Optional[str]:
        """Returns what is kept of a stream as it is handed out: no longer than was asked for, without secrets."""
        return last_bytes(scrub(text, secrets), self.keep) or None
