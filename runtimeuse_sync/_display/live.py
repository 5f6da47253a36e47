"""Shows what a run sends while it sends it: as plain text, or in a notebook as a display that is updated.

A view takes pieces of text one by one. Plain text is written at once. A notebook's display is only updated now and
then, however many pieces come, and shows the last lines; when the run has ended, the rest is folded. So whoever feeds a
view calls `refresh` when the view says that it is `due`: nothing here has a clock or a thread of its own.

IPython is never imported, only used where it has been: there it knows whether there is a notebook.

Threads: only the thread that makes the run; its display belongs to the cell that this thread is running.
"""

import abc
import math
import os
import sys
from typing import Any, Callable, Dict, Iterable, List, Optional, TextIO

from .._wire.stream_redaction import StreamRedactor
from . import html
from . import text as texts

#: Seconds between two updates of a display: after something has come, and for the time alone.
INTERVAL = 0.2
TICK = 1.0

#: A run that ends sooner, and sends nothing, has no display.
_QUIET = 0.5

#: How many lines a display shows while the run goes on.
_LINES = 20

#: How many characters of the text a display keeps, at least: folded, they remain when the run has ended.
_KEPT = html.MOST


class View(abc.ABC):
    """Shows one run.

    Attributes:
        due: When `refresh` must be called, in seconds on the clock of the run; `math.inf` for never.
    """

    due: float = math.inf

    def __init__(self, secrets: Iterable[str]) -> None:
        self._masking = StreamRedactor(secrets)
        self._in_line = False
        self._command: Optional[str] = None

    def add_said(self, text: str) -> None:
        """Shows a message of the agent, as lines of its own."""
        self._begin_line_for(None)
        self._add(f"{text}\n")

    def add_printed(self, text: str, command: str) -> None:
        """Shows a piece of the output of a command."""
        self._begin_line_for(command)
        self._add(text)

    def _begin_line_for(self, command: Optional[str]) -> None:
        if self._in_line and (command is None or command != self._command):
            self._add("\n")
        self._command = command

    def _add(self, text: str) -> None:
        if text:
            self._in_line = not text.endswith("\n")
            self._show(self._masking.feed(text))

    def end(self, how: str) -> None:
        """Shows the rest.

        Args:
            how: How the run has ended, such as `"done"`.
        """
        held = self._masking.flush()
        if held:
            self._show(held)
        self._end(how)

    @abc.abstractmethod
    def refresh(self) -> None:
        """Shows the run as it is now."""

    @abc.abstractmethod
    def _show(self, text: str) -> None:
        """Shows a piece of text, secrets masked."""

    @abc.abstractmethod
    def _end(self, how: str) -> None:
        """Shows how the run has ended."""


class PlainView(View):
    """Writes what comes to a stream.

    Args:
        stream: The stream, such as stdout.
        secrets: What to mask.
    """

    def __init__(self, stream: TextIO, secrets: Iterable[str]) -> None:
        super().__init__(secrets)
        self._stream = stream
        self._encoding: str = getattr(stream, "encoding", None) or "utf-8"

    def _show(self, text: str) -> None:
        if not text.isascii():
            text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
        print(text, end="", file=self._stream, flush=True)

    def refresh(self) -> None:
        """Does nothing: it is never due."""

    def _end(self, how: str) -> None:  # noqa: ARG002  # the result or the exception says it
        if self._in_line:
            self._in_line = False
            self._show("\n")


class NotebookView(View):
    """A display in a notebook, updated at most every `INTERVAL` seconds.

    Args:
        publish: Shows HTML and its plain text; the second argument says whether to replace what it has shown.
        kind: What runs, such as "query".
        secrets: What to mask.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        publish: Callable[[Dict[str, str], bool], None],
        kind: str,
        secrets: Iterable[str],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(secrets)
        self._publish = publish
        self._kind = kind
        self._clock = clock
        self._begun = clock()
        self.due = self._begun + _QUIET
        self._published_at = -math.inf
        self._pieces: List[str] = []
        self._size = 0
        self._dropped = 0
        self._messages = 0

    def add_said(self, text: str) -> None:
        """Adds a message of the agent."""
        self._messages += 1
        super().add_said(text)

    def add_printed(self, text: str, command: str) -> None:
        """Adds a piece of the output of a command."""
        self._messages += 1
        super().add_printed(text, command)

    def _show(self, text: str) -> None:
        self._pieces.append(text)
        self._size += len(text)
        if self._size > 2 * _KEPT:
            self._drop_the_oldest()
        self.due = min(self.due, self._published_at + INTERVAL)
        if self._clock() >= self.due:
            self.refresh()

    def _drop_the_oldest(self) -> None:
        text = "".join(self._pieces)
        cut = len(text) - _KEPT
        # At the end of a line, if there is one near.
        cut = text.find("\n", cut, cut + _KEPT // 2) + 1 or cut
        self._dropped += text.count("\n", 0, cut)
        self._pieces = [text[cut:]]
        self._size = len(text) - cut

    def refresh(self) -> None:
        """Updates the display."""
        shown = texts.end("".join(self._pieces), _LINES, html.CHARACTERS)
        before = self._dropped + shown.rest.count("\n") + (1 if shown.rest else 0)
        note = f"… {texts.counted(before, 'line')} before" if before else ""
        self._publish_page("running", [html.title(note) if note else "", html.preformatted(shown.text)], shown.text)
        self.due = self._published_at + TICK

    def _end(self, how: str) -> None:
        self.due = math.inf
        if self._pieces or self._published_at > -math.inf:
            text = "".join(self._pieces)
            note = f"… {texts.counted(self._dropped, 'line')} before" if self._dropped else ""
            parts = [html.title(note) if note else "", html.from_its_end(text, "the result")]
            self._publish_page(how, parts, texts.end(text, _LINES, html.CHARACTERS).text)

    def _publish_page(self, how: str, parts: List[str], text: str) -> None:
        seconds = self._clock() - self._begun
        title = f"{self._kind}: {how}, {seconds:.1f} s, {texts.counted(self._messages, 'message')}"
        page = {
            "text/html": html.block([html.title(title), *parts]),
            "text/plain": f"{title}\n{texts.visible(text)}".rstrip("\n"),
        }
        update = self._published_at > -math.inf
        self._published_at = self._clock()
        self._publish(page, update)


def view_for(kind: str, secrets: Iterable[str], clock: Callable[[], float]) -> Optional[View]:
    """Returns the view for where this process shows things: its notebook, or stdout; `None` if it has neither.

    Args:
        kind: What runs, such as "query".
        secrets: What to mask.
        clock: Returns the time in seconds.
    """
    if in_notebook():
        return NotebookView(_publisher(), kind, secrets, clock)
    stream: Optional[TextIO] = sys.stdout
    return None if stream is None else PlainView(stream, secrets)


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook, which can update what it has shown."""
    # Neither imported, nor looked for: only a program that has imported it can be a kernel.
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell: Any = get_ipython() if callable(get_ipython) else None
    # In a terminal, as in scripts that only use IPython, the publisher of the base class prints text.
    publisher = getattr(shell, "display_pub", None)
    return publisher is not None and type(publisher).__name__ != "DisplayPublisher"


def _publisher() -> Callable[[Dict[str, str], bool], None]:
    from IPython.display import display, update_display

    display_id = os.urandom(16).hex()

    def publish(page: Dict[str, str], update: bool) -> None:
        show = update_display if update else display
        show(page, raw=True, display_id=display_id)

    return publish
