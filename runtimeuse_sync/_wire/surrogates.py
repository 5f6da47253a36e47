"""Repairs lone surrogates: half characters, which JSON text can escape (D83D, for one) but UTF-8 cannot encode.

A runtime sends them when it cuts a text inside a character beyond U+FFFF. Two adjacent halves are joined to their
character; a half that stays alone becomes U+FFFD, as in any decoder. Nearly all texts are ASCII, which is a flag of a
str, so that the check costs next to nothing.

Threads: pure functions, which run in their caller's thread. A `Halves` belongs to one request and is used only by the
thread that reads its messages.
"""

import re
from typing import Any, Dict, List, Tuple

from ..messages import CommandOutputMessageInterface

#: Replaces a lone surrogate.
REPLACEMENT = "\ufffd"

#: How many characters to check at once: the check encodes, and so copies, them.
_SLICE = 1 << 20

#: How JSON text escapes a surrogate. Also matches one of a proper pair, and text after an escaped backslash.
_ESCAPED_HALF = re.compile(r"\\u[dD]")


def mended(text: str) -> str:
    """Returns a text without surrogates: pairs are joined, lone ones replaced by U+FFFD."""
    if text.isascii() or not _has_half(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _has_half(text: str) -> bool:
    try:
        for start in range(0, len(text), _SLICE):
            text[start : start + _SLICE].encode("utf-16-le")
    except UnicodeEncodeError:
        return True
    return False


def may_have_half(json_text: str) -> bool:
    """Returns whether a string in a JSON text may contain a surrogate. False positives are possible."""
    if "\\" in json_text and _ESCAPED_HALF.search(json_text) is not None:
        return True
    return not json_text.isascii() and _has_half(json_text)


def mended_value(value: Any) -> Any:
    """Returns a JSON value of any depth without surrogates in strings and keys; the value itself if it has none."""
    if not _any_half(value):
        return value
    root: List[Any] = [None]
    # Not recursive, so that any value that could be parsed can also be mended.
    pending: List[Tuple[Any, Any, Any]] = [(root, 0, value)]
    while pending:
        into, key, item = pending.pop()
        if isinstance(item, str):
            into[key] = mended(item)
        elif isinstance(item, dict):
            names = {name: mended(name) if isinstance(name, str) else name for name in item}
            into[key] = dict.fromkeys(names.values())
            # Reversed, as items are popped from the end: of two keys that became equal the last one wins, as in JSON.
            pending += [(into[key], names[name], inner) for name, inner in reversed(list(item.items()))]
        elif isinstance(item, list):
            into[key] = [None] * len(item)
            pending += [(into[key], index, inner) for index, inner in enumerate(item)]
        else:
            into[key] = item
    return root[0]


def _any_half(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if mended(item) is not item:
                return True
        elif isinstance(item, dict):
            pending += item
            pending += item.values()
        elif isinstance(item, list):
            pending += item
    return False


class Halves:
    """The halves at the ends of a request's output chunks, each kept until the next chunk of its stream arrives.

    Attributes:
        kept: The halves, by stream and command.
    """

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: Dict[Tuple[str, str], str] = {}

    def join(self, stream: str, command: str, text: str) -> str:
        """Returns a chunk preceded by the half that its stream kept; keeps a half at the chunk's end."""
        text = self.kept.pop((stream, command), "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self.kept[stream, command] = text[-1]
            text = text[:-1]
        return mended(text)

    def rest(self) -> CommandOutputMessageInterface:
        """Takes one of the kept halves, which stayed alone, and returns a chunk with its replacement."""
        (stream, command), _ = self.kept.popitem()
        return CommandOutputMessageInterface(
            "command_output_message", "stdout" if stream == "stdout" else "stderr", REPLACEMENT, command
        )
