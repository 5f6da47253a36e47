"""Text that came out of the sandbox, made fit to be shown to people: visible, and cut to what they can read.

Whatever the text contains, nothing of it is left that a terminal or a notebook would obey: escape sequences are
removed, other control characters are written as their escapes. A carriage return overwrites its line, as in a terminal.

Threads: pure functions; each runs in its caller's thread.
"""

import json
from typing import Any, NamedTuple

from .._wire.redaction import ESCAPES

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Excerpt(NamedTuple):
    """A part of a text.

    Attributes:
        text: The part, which ends without a line feed.
        left_out: How much is not in it, such as `"12 lines"`; `""` if it is the whole text.
        rest: What is not in it.
    """

    text: str
    left_out: str
    rest: str


def visible(text: str) -> str:
    """Returns a text without anything that is not shown, and with nothing that cannot be encoded."""
    text = ESCAPES.sub("", text)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    text = text.translate(_CONTROLS)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def beginning(text: str, lines: int, characters: int) -> Excerpt:
    """Returns the first lines of a text, no more than so many lines and characters."""
    text = text.rstrip("\n")
    kept = "\n".join(text[:characters].split("\n", lines)[:lines])
    rest = text[len(kept) :]
    return Excerpt(kept, _left_out(rest, between_lines=rest.startswith("\n")), rest[rest.startswith("\n") :])


def end(text: str, lines: int, characters: int) -> Excerpt:
    """Returns the last lines of a text, no more than so many lines and characters."""
    text = text.rstrip("\n")
    kept = "\n".join(text[max(0, len(text) - characters) :].rsplit("\n", lines)[-lines:])
    rest = text[: len(text) - len(kept)]
    between_lines = rest.endswith("\n")
    return Excerpt(kept, _left_out(rest, between_lines=between_lines), rest[:-1] if between_lines else rest)


def counted(number: int, what: str) -> str:
    """Returns a number of things, such as `"1 line"` or `"1,234 lines"`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def one_line(text: str, limit: int) -> str:
    """Returns a text as one line of at most `limit` characters, with `…` at the end if there is more."""
    line = visible(text[: 4 * limit].strip().replace("\r", " ").replace("\n", "⏎"))
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def indented_json(value: Any) -> str:
    """Returns a JSON value as text with a line for each item; other values in it as their `str`."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=2, default=str)
    except (TypeError, ValueError, RecursionError):
        return "(this value has no JSON, or cannot be shown)"


def _left_out(rest: str, *, between_lines: bool) -> str:
    if not rest:
        return ""
    return counted(rest.count("\n"), "line") if between_lines else counted(len(rest), "character")
