"""How results look in IPython and in notebooks: `_repr_pretty_` and `_repr_html_` of the classes in `results.py`.

The functions take the results' plain values: the module knows none of the classes.

Threads: pure functions; each runs in its caller's thread.
"""

from typing import Any, List, NamedTuple, Optional, Sequence

from . import html
from . import text as texts

#: How many lines and characters of a text a terminal shows; of many commands, the texts share ten times as many.
_LINES = 40
_CHARACTERS = 8000

#: The most commands of one result that are shown.
_COMMANDS = 100

#: The longest line for a result that stands inside of something else, such as a list.
_SHORT = 60


class Answer(NamedTuple):
    """What an agent has answered.

    Attributes:
        name: The class of the result.
        text: The text; for a structured answer `None`.
        structured: The JSON object; for a text `None`.
        metadata: What the runtime reports about the run.
    """

    name: str
    text: Optional[str]
    structured: Any
    metadata: Any


class Ran(NamedTuple):
    """A command that ran.

    Attributes:
        command: Its text.
        exit_code: Its exit code; `None` if it is not known to have ended.
        stdout: What it printed.
        stderr: What it printed to stderr.
        where: What leads from the shown object to this result: `".results[1]"`, or `""` if it is itself shown.
    """

    command: str
    exit_code: Optional[int]
    stdout: Optional[str]
    stderr: Optional[str]
    where: str = ""

    @property
    def end(self) -> str:
        """How it ended."""
        return "not ended yet" if self.exit_code is None else f"exit code {self.exit_code}"


def is_inside(printer: Any) -> bool:
    """Returns whether what IPython prints is a part of something else, such as an item of a list."""
    return len(getattr(printer, "stack", ())) > 1


# Answers.


def answer_in_short(answer: Answer) -> str:
    """Returns an answer as one short line."""
    said = texts.one_line(_said(answer), _SHORT)
    return f"{answer.name}({said if answer.text is None else repr(said)})"


def answer_as_text(answer: Answer) -> str:
    """Returns an answer for a terminal."""
    shown = texts.beginning(_said(answer), _LINES, _CHARACTERS)
    lines = [_title(answer), texts.visible(shown.text)]
    if shown.left_out:
        lines.append(f"… {shown.left_out} more: {_where(answer)}")
    if answer.metadata:
        lines.append(f"metadata: {texts.one_line(str(answer.metadata), 4 * _SHORT)}")
    return "\n".join(lines)


def answer_as_html(answer: Answer) -> str:
    """Returns an answer for a notebook."""
    parts = [html.title(_title(answer)), html.from_its_beginning(_said(answer), _where(answer))]
    if answer.metadata:
        inner = html.from_its_beginning(texts.indented_json(answer.metadata), ".metadata")
        parts.append(html.folded("metadata", inner))
    return html.block(parts)


def _title(answer: Answer) -> str:
    return f"{answer.name} ({'structured output' if answer.text is None else 'text'})"


def _where(answer: Answer) -> str:
    return ".structured_output" if answer.text is None else ".text"


def _said(answer: Answer) -> str:
    return texts.indented_json(answer.structured) if answer.text is None else answer.text or "(empty)"


# Commands.


def command_in_short(name: str, ran: Ran) -> str:
    """Returns the result of a command as one short line."""
    return f"{name}({texts.one_line(ran.command, _SHORT)!r}, exit_code={ran.exit_code})"


def commands_in_short(name: str, all_ran: Sequence[Ran]) -> str:
    """Returns the results of commands as one short line."""
    codes = ", ".join(str(ran.exit_code) for ran in all_ran[:10]) + (", …" if len(all_ran) > 10 else "")
    return f"{name}({texts.counted(len(all_ran), 'command')}{', exit codes: ' if codes else ''}{codes})"


def commands_as_text(title: str, all_ran: Sequence[Ran]) -> str:
    """Returns the results of commands for a terminal."""
    lines = [title]
    share = max(1, len(all_ran[:_COMMANDS]) // 10)
    for ran in all_ran[:_COMMANDS]:
        lines.append(_head(ran))
        lines += _output(ran.stdout or "", f"{ran.where}.stdout", share)
        if ran.stderr:
            lines += ["stderr:", *_output(ran.stderr, f"{ran.where}.stderr", share)]
    return "\n".join([*lines, *_rest(all_ran)])


def commands_as_html(title: str, all_ran: Sequence[Ran]) -> str:
    """Returns the results of commands for a notebook."""
    parts = [html.title(title)]
    most = html.MOST // max(1, len(all_ran[:_COMMANDS]))
    for ran in all_ran[:_COMMANDS]:
        color = "" if ran.exit_code == 0 else "; color: #c0392b"
        parts.append(f'<div style="margin-top: 0.5em{color}"><code><b>{html.escaped(_head(ran))}</b></code></div>')
        parts.append(html.from_its_end(ran.stdout or "", f"{ran.where}.stdout", most))
        if ran.stderr:
            parts += [html.title("stderr:"), html.from_its_end(ran.stderr, f"{ran.where}.stderr", most)]
    return html.block([*parts, *map(html.title, _rest(all_ran))])


def _head(ran: Ran) -> str:
    return f"$ {texts.one_line(ran.command, 4 * _SHORT)}  [{ran.end}]"


def _rest(all_ran: Sequence[Ran]) -> List[str]:
    more = len(all_ran) - _COMMANDS
    return [f"… {texts.counted(more, 'command')} more: .results"] if more > 0 else []


def commands_title(name: str, count: int) -> str:
    """Returns the line above the results of commands."""
    return f"{name} ({texts.counted(count, 'command')})"


def _output(text: str, where: str, share: int) -> List[str]:
    shown = texts.end(text, _LINES // share, _CHARACTERS // share)
    lines = [f"… {shown.left_out} before: {where}"] if shown.left_out else []
    return [*lines, texts.visible(shown.text)] if shown.text else lines
