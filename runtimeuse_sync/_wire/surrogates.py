"""Half characters: what JSON text can write as an escape, D83D for one, and what no text can hold that is printed.

Runtimes send them where they cut a text in the middle of a character outside the basic plane. Two halves that stand
side by side are the character; a half that stays alone becomes U+FFFD, as in every decoder. Nearly all texts are ASCII,
which costs a look at a flag. Pure functions, and a bit of state for one request; no threads run here.
"""

import re
from typing import Any, Dict, List, Tuple

from ..messages import CommandOutputMessageInterface

#: What a lone half becomes.
REPLACEMENT = "\ufffd"

#: How many characters are looked at in one go: the look makes a copy of them.
_SLICE = 1 << 20

#: How JSON text writes a half; also one of a pair, and after an escaped backslash something else.
_ESCAPED = re.compile(r"\\u[dD]")


def mended(text: str) -> str:
    """Returns a text without half characters: pairs are joined, others replaced."""
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
    """Returns whether strings of a JSON text may have half characters."""
    if "\\" in json_text and _ESCAPED.search(json_text) is not None:
        return True
    return not json_text.isascii() and _has_half(json_text)


def mended_value(value: Any) -> Any:
    """Returns a JSON value, however deep, without half characters in its strings and keys; itself if it has none."""
    if not _any_half(value):
        return value
    mended_one: List[Any] = [None]
    # Not recursive: what could be parsed must not fail here for its depth.
    waiting: List[Tuple[Any, Any, Any]] = [(mended_one, 0, value)]
    while waiting:
        into, key, item = waiting.pop()
        if isinstance(item, str):
            into[key] = mended(item)
        elif isinstance(item, dict):
            names = {name: mended(name) if isinstance(name, str) else name for name in item}
            into[key] = dict.fromkeys(names.values())
            # In order: of two names that have become one, the last counts, as JSON has it.
            waiting += [(into[key], names[name], inner) for name, inner in reversed(list(item.items()))]
        elif isinstance(item, list):
            into[key] = [None] * len(item)
            waiting += [(into[key], index, inner) for index, inner in enumerate(item)]
        else:
            into[key] = item
    return mended_one[0]


def _any_half(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if mended(item) is not item:
                return True
        elif isinstance(item, dict):
            waiting += item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return False


class Halves:
    """The halves at the ends of a request's chunks of output, each kept until the next chunk of its stream comes.

    Attributes:
        kept: By stream and command.
    """

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: Dict[Tuple[str, str], str] = {}

    def join(self, stream: str, command: str, text: str) -> str:
        """Returns a chunk, what was kept put before it; keeps a half at its end."""
        text = self.kept.pop((stream, command), "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self.kept[stream, command] = text[-1]
            text = text[:-1]
        return mended(text)

    def rest(self) -> CommandOutputMessageInterface:
        """Returns a chunk for one of the halves, which has stayed alone and is not kept any more."""
        (stream, command), _ = self.kept.popitem()
        return CommandOutputMessageInterface(
            "command_output_message", "stdout" if stream == "stdout" else "stderr", REPLACEMENT, command
        )
