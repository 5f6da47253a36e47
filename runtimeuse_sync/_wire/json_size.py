"""Limits how much memory a JSON text may take as Python values.

An empty list is two characters of JSON but 72 bytes in memory, so a small message could exhaust the memory of whoever
parses it. A text that passes `check_density` takes, itself included, at most `MAX_GROWTH` times its size in UTF-8, or
`ALWAYS_ALLOWED` bytes if that is more.

A text is checked in up to three steps, each slower and more precise than the one before. Small texts, and those that
consist of a few long strings, cost next to nothing. For others the structural characters are counted, inside strings
as well. Only if there are too many of them are those inside strings left out.

All sizes are upper bounds for 64-bit CPython 3.8 to 3.13.

Threads: pure functions; each runs in its caller's thread.
"""

import sys
from typing import Set

#: How many times its own size in UTF-8 a message may take in memory.
MAX_GROWTH = 8

#: How many bytes any message may take in memory.
ALWAYS_ALLOWED = 64 * 1024 * 1024

#: The most bytes of memory per character of JSON. `{"":{}}` comes close.
_MAX_BYTES_PER_CHARACTER = 48

#: Bytes of memory: a slot in a list with a number in it; a string beyond its slot, without its characters; a list; a
#: dict of up to five entries; each further entry; a key (the parser keeps equal ones once); the object that a command's
#: result becomes.
_ITEM, _STRING, _LIST, _DICT, _ENTRY, _KEY, _RESULT = 41, 32, 104, 248, 100, 250, 200

#: The least bytes that a string takes without its characters; `_STRING` includes them.
_EMPTY_STRING = sys.getsizeof("")

#: How many strings to skip one by one, in the first step, before counting is faster.
_MAX_SKIPPED = 2000

#: How many characters to process at once: the pieces that a text is split into take many times its size.
_WINDOW = 64 * 1024


class TooDense(Exception):
    """The text would take too much memory as Python values. The message says so and repeats no payload."""


def check_density(text: str) -> None:
    """Raises `TooDense` for a JSON text whose values would take too much memory."""
    if len(text) * _MAX_BYTES_PER_CHARACTER <= ALWAYS_ALLOWED:
        return
    size = sys.getsizeof(text)
    # The text stays in memory while it is parsed. A single wide character makes it take four times its size in UTF-8.
    allowed = max(MAX_GROWTH * size_of(text), ALWAYS_ALLOWED) - size
    if size + _characters_outside_strings(text) * _MAX_BYTES_PER_CHARACTER <= allowed:
        return
    per_dict = _DICT + (_RESULT if '"exit_code"' in text else 0)
    counts = _Counts().add(text)
    if size + counts.upper_bound(per_dict, keys=counts.colons) <= allowed:
        return
    if _precise_upper_bound(text, per_dict, allowed) > allowed:
        raise TooDense(f"its {len(text)} characters of JSON take more than {MAX_GROWTH} times their size in memory")


def size_of(text: str) -> int:
    """Returns the size of a text in bytes, as UTF-8, without copying a large text."""
    if text.isascii():
        return len(text)
    slices = (text[at : at + _WINDOW] for at in range(0, len(text), _WINDOW))
    return sum(len(each.encode("utf-8", "surrogatepass")) for each in slices)


def _characters_outside_strings(text: str) -> int:
    """Returns how many characters stand outside strings, or the length of a text that takes too many steps to tell."""
    outside = at = 0
    for _ in range(_MAX_SKIPPED):
        start = text.find('"', at)
        if start < 0:
            return outside + len(text) - at
        outside += start - at
        at = text.find('"', start + 1) + 1
        if not at or text[at - 2] == "\\":
            break
    return len(text)


class _Counts:
    """How often each structural character occurs."""

    def __init__(self) -> None:
        self.commas = self.colons = self.lists = self.dicts = self.quotes = 0

    def add(self, text: str) -> "_Counts":
        self.commas += text.count(",")
        self.colons += text.count(":")
        self.lists += text.count("[")
        self.dicts += text.count("{")
        self.quotes += text.count('"')
        return self

    def upper_bound(self, per_dict: int, keys: int) -> int:
        """Returns how many bytes the values take at most, with `keys` distinct keys and without strings' characters."""
        return (
            (self.commas + self.lists + self.dicts) * _ITEM
            + max(0, self.quotes // 2 - self.colons) * _STRING
            + self.lists * _LIST
            + self.dicts * per_dict
            + max(0, self.colons - 5 * self.dicts) * _ENTRY
            + keys * _KEY
        )


def _precise_upper_bound(text: str, per_dict: int, allowed: int) -> int:
    """Returns how many bytes the values take at most; stops at any number above `allowed`."""
    # Without escapes, each quotation mark starts or ends a string.
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")
    counts = _Counts()
    keys: Set[str] = set()
    string_bytes = 0
    in_string = False
    for at in range(0, len(text), _WINDOW):
        pieces = text[at : at + _WINDOW].split('"')
        between, strings = pieces[in_string::2], pieces[not in_string :: 2]
        counts.add("".join(between))
        counts.quotes += len(pieces) - 1
        # Measured one by one: the text as a whole may use wider characters than a string in it.
        string_bytes += sum(map(sys.getsizeof, strings)) - _EMPTY_STRING * len(strings)
        # A string that a colon follows is a key.
        following = between if in_string else between[1:]
        keys.update(string for string, after in zip(strings, following) if after.lstrip()[:1] == ":")
        in_string ^= len(pieces) % 2 == 0
        bound = counts.upper_bound(per_dict, len(keys)) + string_bytes
        if bound > allowed:
            break
    return bound
