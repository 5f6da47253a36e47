"""Owns stdout and stderr: writes text to them as it comes, and paints the status line between.

The status line is the last line of the terminal, on stderr. It is erased before anything else is written and painted
again after that, but never while the cursor stands behind an unfinished line of output. It needs a terminal that can
erase lines, and this process in its foreground; otherwise nothing is painted.

Text is written in the encoding of the stream; characters that it lacks are written as backslash escapes.

Threads: one thread paints, four times a second (`runtimeuse-status`). Any thread may write. A lock that a thread may
take twice keeps one write from coming into another; a signal handler may interrupt a write of its own thread, so it
writes nothing but by `leave`, which waits for the lock only for a moment.
"""

import errno
import os
import sys
import threading
from types import TracebackType
from typing import Any, Callable, List, Optional, TextIO, Tuple, Type

from .._wire.redaction import ESCAPES

#: Pieces of a status line, each with its style in rich's words.
Pieces = List[Tuple[str, str]]

#: Seconds from one painting to the next.
_PAUSE = 0.25

#: Seconds that a process which leaves waits for the end of a painting at most.
_LEAVING = 0.5

#: Goes to the line's beginning, and erases it.
_ERASE = "\r\x1b[2K"

#: How many characters at the end of a text are looked at for a line feed before escape sequences, such as colours.
_TAIL = 100

#: Terminals that cannot erase a line.
_DUMB = ("", "dumb", "unknown")


class OutputClosed(Exception):
    """Nobody reads stdout or stderr any more."""


class OutputFailed(Exception):
    """Stdout cannot be written to, because the disk is full, say."""


class Screen:
    """Stdout, stderr, and the status line. Use it as a context manager, which ends the status line.

    Args:
        status: Returns the pieces of the status line. Default: there is none.
        stdout: The stream of the output. Default: the process's.
        stderr: The stream of the rest. Default: the process's.
    """

    def __init__(
        self,
        status: Optional[Callable[[], Pieces]] = None,
        stdout: Optional[TextIO] = None,
        stderr: Optional[TextIO] = None,
    ) -> None:
        self._stdout = _Stream(stdout or sys.stdout, "stdout")
        self._stderr = _Stream(stderr or sys.stderr, "stderr")
        self._status = status if self._stderr.is_terminal and _can_erase() else None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._painter: Optional[threading.Thread] = None
        self._painted = ""
        self._behind_a_line = False

    @property
    def stdout_is_terminal(self) -> bool:
        """Whether somebody looks at the output."""
        return self._stdout.is_terminal

    @property
    def has_status(self) -> bool:
        """Whether there is a status line."""
        return self._status is not None

    @property
    def takes_all_text(self) -> bool:
        """Whether stdout can be written any character to as it is."""
        return self._stdout.encoding.lower().replace("_", "-") in ("utf-8", "utf8")

    def __enter__(self) -> "Screen":
        if self._status is not None:
            # Before the thread starts: its import takes a while.
            import rich.console  # noqa: F401  # for `_rendered`

            self._painter = threading.Thread(target=self._paint_on, name="runtimeuse-status", daemon=True)
            self._painter.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._ended.set()
        with self._lock:
            self._status = None
            self._erase()
        if self._painter is not None:
            self._painter.join()

    def out(self, text: str) -> None:
        """Writes to stdout, at once.

        Raises:
            OutputClosed: Nobody reads it any more.
            OutputFailed: It cannot be written to.
        """
        self._write(self._stdout, text)

    def out_bytes(self, data: bytes) -> None:
        """Writes bytes to stdout, as they are.

        Raises:
            OutputClosed: Nobody reads it any more.
            OutputFailed: It cannot be written to.
        """
        with self._lock:
            self._erase()
            self._stdout.write_bytes(data)

    def styled(self, text: str, style: str) -> str:
        """Returns a text for stdout with a style, in rich's words, if that is a terminal that shows styles."""
        return self._stdout.rendered([(text, style)], fitting=False) if self._stdout.is_terminal else text

    def discard_stdout(self) -> None:
        """Has all that is still in the buffers of stdout discarded, as it cannot be written."""
        self._stdout.discard()

    def err(self, text: str) -> None:
        """Writes to stderr, at once; says nothing if that does not work.

        Raises:
            OutputClosed: Nobody reads it any more.
        """
        try:
            self._write(self._stderr, text)
        except OutputFailed:
            self._stderr.discard()

    def line(self, text: str) -> None:
        """Writes one line to stderr, even if nobody reads it any more."""
        try:
            self.err(("\n" if self._behind_a_line and self._stderr.is_terminal else "") + text + "\n")
        except OutputClosed:
            return

    def leave(self) -> None:
        """Erases the status line, from a signal handler that ends the process. Nothing is painted after it."""
        self._status = None
        # A painting that is under way ends first, unless the terminal takes nothing at the moment (Ctrl-S). The thread
        # of the handler takes the lock again if it has it already. It keeps the lock: the process is about to end.
        self._lock.acquire(timeout=_LEAVING)
        if self._painted:
            os.write(self._stderr.number, _ERASE.encode("ascii"))

    def _write(self, stream: "_Stream", text: str) -> None:
        if not text:
            return
        with self._lock:
            if stream.is_terminal:
                self._erase()
            stream.write(text)
            # The status line is painted again by its thread: not at once, as more may follow.
            end = ESCAPES.sub("", text[-_TAIL:])
            if stream.is_terminal and end:
                self._behind_a_line = not end.endswith("\n")

    # The status line.

    def _paint_on(self) -> None:
        while not self._ended.wait(_PAUSE):
            with self._lock:
                try:
                    self._paint()
                except (OutputClosed, OutputFailed):
                    self._status = None

    def _paint(self) -> None:
        status = self._status
        if status is None or self._behind_a_line or not self._stderr.is_in_foreground():
            return
        line = self._stderr.rendered(status())
        if line != self._painted:
            # Before it is written: whoever leaves in between has to erase it.
            self._painted = line
            self._stderr.write(_ERASE + line)

    def _erase(self) -> None:
        if self._painted:
            self._painted = ""
            self._stderr.write(_ERASE)


class _Stream:
    """One of the two streams; after a failure, it discards what is written."""

    def __init__(self, stream: Optional[TextIO], name: str) -> None:
        self._stream = stream
        self._name = name
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self.is_terminal: bool = stream is not None and not stream.closed and stream.isatty()
        self._console: Any = None

    @property
    def number(self) -> int:
        assert self._stream is not None
        return self._stream.fileno()

    def write(self, text: str) -> None:
        self.write_bytes(text.encode(self.encoding, "backslashreplace"))

    def write_bytes(self, data: bytes) -> None:
        stream = self._stream
        if stream is None:
            # The process was started without it.
            raise OutputFailed(f"cannot write to {self._name}: {os.strerror(errno.EBADF)}")
        try:
            buffer = getattr(stream, "buffer", None)
            if buffer is None:
                # A stream that somebody has put in its place, such as `io.StringIO`.
                stream.write(data.decode(self.encoding, "backslashreplace"))
                stream.flush()
                return
            # Not by the text stream: it would buffer, and translate line feeds on Windows.
            buffer.write(data)
            buffer.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.discard()
            raise OutputClosed(self._name) from None
        except OSError as error:
            self.discard()
            raise OutputFailed(f"cannot write to {self._name}: {error.strerror or error}") from None

    def discard(self) -> None:
        """Has all that is written from now on discarded.

        The interpreter flushes the stream again when it exits, and would report the failure.
        """
        if self._stream is not None:
            try:
                number = self._stream.fileno()
            except OSError:
                return  # It is no file, and the interpreter does not flush it.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)

    def is_in_foreground(self) -> bool:
        """Returns whether the terminal belongs to this process, and not to the shell that has put it aside."""
        try:
            return os.tcgetpgrp(self.number) == os.getpgrp()
        except (OSError, AttributeError):
            return True  # It is not this process's terminal, but one that it was given.

    def rendered(self, pieces: Pieces, *, fitting: bool = True) -> str:
        """Returns the pieces as one line, which may be made to fit into the terminal, with styles if it shows them."""
        from rich.console import Console
        from rich.text import Text

        if self._console is None:
            self._console = Console(file=self._stream, highlight=False, emoji=False, markup=False)
        console = self._console
        line = Text()
        for index, (text, style) in enumerate(pieces):
            if index:
                line.append(self._encodable(" · ", " | "), "dim")
            line.append(self._encodable(text, text.encode("ascii", "replace").decode("ascii")), style)
        if fitting:
            # With room for the `^C` that the terminal shows, so that it breaks no line.
            width = max(10, console.width - 3)
            line.truncate(width, overflow="ellipsis" if self._encodable("…", "") else "crop")
        with console.capture() as captured:
            console.print(line, end="", soft_wrap=True)
        shown: str = captured.get()
        return shown

    def _encodable(self, text: str, otherwise: str) -> str:
        try:
            text.encode(self.encoding)
        except UnicodeError:
            return otherwise
        return text


def _can_erase() -> bool:
    return os.environ.get("TERM", "").lower() not in _DUMB
