"""Reads the fenced blocks of a page, and its snippets: code, and what it prints."""

from __future__ import annotations

import re
from typing import Iterator, List, NamedTuple, Optional, Tuple

_FENCE = re.compile(r"^```(\w*)(?: .*)?$")


class Block(NamedTuple):
    """A fenced block: its language, the number of its first line, its text."""

    language: str
    line: int
    text: str

    def is_followed_by(self, other: Block) -> bool:
        """Whether the other block stands right below this one, with nothing between the two."""
        return other.line == self.line + len(self.text.splitlines()) + 2


class Snippet(NamedTuple):
    """A block of code, and what it is said to print: the block of `text` right below it; nothing without one."""

    code: Block
    prints: str


def blocks(page: str) -> List[Block]:
    """Returns the fenced blocks of a page; those in a list or a tab, which are indented, are left out."""
    found: List[Block] = []
    opened: Optional[Tuple[str, int]] = None
    lines = page.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        fence = _FENCE.match(line)
        if fence and opened is None:
            opened = (fence.group(1), number + 1)
        elif fence and opened is not None:
            assert not fence.group(1), f"line {number}: a block begins inside another one"
            found.append(Block(*opened, "".join(lines[opened[1] - 1 : number - 1])))
            opened = None
    assert opened is None, "the last block is not closed"
    return found


def snippets(page: str, language: str = "python") -> Iterator[Snippet]:
    """Yields each block in this language, with what it is said to print."""
    found = blocks(page)
    for block, following in zip(found, [*found[1:], None]):
        if block.language == language:
            shown = following is not None and following.language == "text" and block.is_followed_by(following)
            yield Snippet(block, following.text if following is not None and shown else "")


def quotes(page: str) -> List[Block]:
    """Returns the blocks of `text` that are not what the block right above them prints."""
    found = blocks(page)
    above: List[Optional[Block]] = [None, *found]
    return [
        block
        for block, before in zip(found, above)
        if block.language == "text" and not (before is not None and before.is_followed_by(block))
    ]
