"""Pieces of HTML for notebooks: every text in them is escaped, and long ones are folded.

A notebook is saved with what its cells show, so a text takes no more than `MOST` characters. All texts are in `pre` or
`code`, where notebooks neither typeset formulas nor look for links.

Threads: pure functions; each runs in its caller's thread.
"""

import html
from typing import Iterable, Mapping

from . import text as texts

#: How many lines and characters of a text are shown unfolded.
LINES = 20
CHARACTERS = 4000

#: The most characters of a text that are in a page at all, folded ones included.
MOST = 100_000

_PRE = '<pre style="white-space: pre-wrap; margin: 0">{}</pre>'


def escaped(text: str) -> str:
    """Returns a text as HTML that shows it."""
    return html.escape(texts.visible(text))


def block(parts: Iterable[str]) -> str:
    """Returns parts, one below the other."""
    return f"<div>{''.join(part for part in parts if part)}</div>"


def title(text: str) -> str:
    """Returns a line above a text, which says what it is."""
    return f'<div style="opacity: 0.7"><code>{escaped(text)}</code></div>'


def preformatted(text: str) -> str:
    """Returns a text as it is."""
    return _PRE.format(escaped(text)) if text else ""


def folded(summary: str, inner: str) -> str:
    """Returns what is shown only when its reader asks for it."""
    return f"<details><summary><code>{escaped(summary)}</code></summary>{inner}</details>"


def table(name: str, rows: Mapping[str, str]) -> str:
    """Returns what there is to say of an object, by name, below the name of its class."""
    lines = "".join(
        f'<tr><td style="text-align: left">{escaped(row)}</td>'
        f'<td style="text-align: left"><code>{escaped(value)}</code></td></tr>'
        for row, value in rows.items()
    )
    return block([title(name), f"<table>{lines}</table>"])


def from_its_beginning(text: str, where: str) -> str:
    """Returns a text of which the beginning matters most: an answer. What is long is folded.

    Args:
        text: The text.
        where: Where the whole text can be found, such as `".text"`.
    """
    shown = texts.beginning(text, LINES, CHARACTERS)
    if not shown.left_out:
        return preformatted(shown.text)
    more = texts.beginning(shown.rest, MOST, MOST - CHARACTERS)
    inner = preformatted(more.text)
    if more.left_out:
        inner += title(f"… {more.left_out} more: {where}")
    return preformatted(shown.text) + folded(f"{shown.left_out} more", inner)


def from_its_end(text: str, where: str, most: int = MOST) -> str:
    """Returns a text of which the end matters most: the output of a command. What is long is folded.

    Args:
        text: The text.
        where: Where the whole text can be found, such as `".stdout"`.
        most: How many characters of it are in the page at all.
    """
    shown = texts.end(text, LINES, min(CHARACTERS, most))
    if not shown.left_out:
        return preformatted(shown.text)
    more = texts.end(shown.rest, MOST, max(0, most - CHARACTERS))
    inner = preformatted(more.text)
    if more.left_out:
        inner = title(f"{more.left_out} before: {where}") + inner
    return folded(f"{shown.left_out} before", inner) + preformatted(shown.text)
