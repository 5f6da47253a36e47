"""How much memory a JSON text may take as Python values. Pure functions; no threads run here.

An empty list is two characters of JSON and 72 bytes in memory, so a small message could fill the memory of whoever
parses it. What `check_density` lets pass takes at most `TIMES` its size as UTF-8, the text itself included, or `ALWAYS`
bytes where that is more. A text is looked at in up to three steps. Small texts, and those that are a few long strings,
cost next to nothing. Of others the structural characters are counted, wherever they stand. Only where these are very
many, those inside of strings are left out.

The sizes are upper bounds for CPython 3.8 to 3.13 on 64 bits.
"""

import sys
from typing import Set

#: How many times its own size a message may take, and how many bytes it may take in any case.
TIMES = 8
ALWAYS = 64 * 1024 * 1024

#: No JSON takes more than this many times its length in values: `{"":{}}`, for one.
_DENSEST = 48

#: Bytes for: a place in a list and a number in it; what a string takes beyond these, without its characters; a list; a
#: dict of up to five entries; each further one; a name that is not known yet (the parser keeps each once); what becomes
#: of a command's result.
_ITEM, _STRING, _LIST, _DICT, _ENTRY, _NAME, _RESULT = 41, 32, 104, 248, 100, 250, 200

#: What a string takes without its characters, at least, which is part of `_STRING`.
_EMPTY = sys.getsizeof("")

#: How many strings are stepped over before counting is sooner done.
_STEPS = 2000

#: How much of a text is looked at at once, in characters: what it is split into takes many times its size.
_WINDOW = 64 * 1024


class TooDense(Exception):
    """A text that would take too much memory as values; its own text says so."""


def check_density(text: str) -> None:
    """Raises `TooDense` for a JSON text whose values would take too much memory."""
    if len(text) * _DENSEST <= ALWAYS:
        return
    size = sys.getsizeof(text)
    # The text is there, too, while it is parsed. One wide character makes it four times what was sent.
    allowed = max(TIMES * size_of(text), ALWAYS) - size
    if size + _outside_strings(text) * _DENSEST <= allowed:
        return
    per_dict = _DICT + (_RESULT if '"exit_code"' in text else 0)
    counts = _Counts().add(text)
    if size + counts.bytes_for(per_dict, counts.colons) <= allowed:
        return
    if _exact_bytes(text, per_dict, allowed) > allowed:
        raise TooDense(
            f"its {len(text)} characters of JSON hold more values than fit into {TIMES} times its size in memory"
        )


def size_of(text: str) -> int:
    """Returns the size of a text in bytes, as UTF-8; without a copy of a large one."""
    if text.isascii():
        return len(text)
    slices = (text[at : at + _WINDOW] for at in range(0, len(text), _WINDOW))
    return sum(len(each.encode("utf-8", "surrogatepass")) for each in slices)


def _outside_strings(text: str) -> int:
    """Returns how many characters stand outside of strings; all of them where that takes too many steps to tell."""
    outside = at = 0
    for _ in range(_STEPS):
        start = text.find('"', at)
        if start < 0:
            return outside + len(text) - at
        outside += start - at
        at = text.find('"', start + 1) + 1
        if not at or text[at - 2] == "\\":
            break
    return len(text)


class _Counts:
    """How often each structural character was seen."""

    def __init__(self) -> None:
        self.commas = self.colons = self.lists = self.dicts = self.quotes = 0

    def add(self, text: str) -> "_Counts":
        self.commas += text.count(",")
        self.colons += text.count(":")
        self.lists += text.count("[")
        self.dicts += text.count("{")
        self.quotes += text.count('"')
        return self

    def bytes_for(self, per_dict: int, names: int) -> int:
        """Returns what the values take at most, with `names` different names."""
        return (
            (self.commas + self.lists + self.dicts) * _ITEM
            + max(0, self.quotes // 2 - self.colons) * _STRING
            + self.lists * _LIST
            + self.dicts * per_dict
            + max(0, self.colons - 5 * self.dicts) * _ENTRY
            + names * _NAME
        )


def _exact_bytes(text: str, per_dict: int, allowed: int) -> int:
    """Returns what the values take at most; more than `allowed` as soon as that is clear."""
    # Without what is escaped, each quotation mark begins or ends a string.
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")
    counts = _Counts()
    names: Set[str] = set()
    of_strings = 0
    inside = False
    for at in range(0, len(text), _WINDOW):
        pieces = text[at : at + _WINDOW].split('"')
        between, strings = pieces[inside::2], pieces[not inside :: 2]
        counts.add("".join(between))
        counts.quotes += len(pieces) - 1
        # Each takes what its own characters need: those of the text may be wider.
        of_strings += sum(map(sys.getsizeof, strings)) - _EMPTY * len(strings)
        # A string is a name if a colon comes next.
        after = between if inside else between[1:]
        names.update(string for string, next_one in zip(strings, after) if next_one.lstrip()[:1] == ":")
        inside ^= len(pieces) % 2 == 0
        taken = counts.bytes_for(per_dict, len(names)) + of_strings
        if taken > allowed:
            break
    return taken
