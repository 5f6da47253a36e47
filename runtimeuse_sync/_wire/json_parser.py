"""JSON text to Python values: what `json.loads` returns, sooner.

Pure functions; no threads run here. A short text goes to `json`'s scanner without what `json.loads` does around it. In
a large one that scanner spends its time on looking at each character of long strings; where no character is escaped, a
string is what stands between two quotation marks, and is cut out instead.
"""

import json
from typing import Any, List

_scan = json.JSONDecoder().raw_decode

#: From what length on a text is worth a look for long strings, in characters; and what a long string is.
_LARGE = 16 * 1024
_LONG = 1024
#: How many strings such a text may have: with more, they are short on the whole.
_STRINGS = 64


def loads(text: str) -> Any:
    """Returns the value that a JSON text stands for.

    As `json.loads`, it takes NaN and infinities. In long strings of large texts it lets control characters pass, as
    RFC 8259 §9 allows.

    Raises:
        RecursionError: it is nested too deeply.
        ValueError: it is not JSON, or has a number that is too long for Python.
    """
    if len(text) >= _LARGE and "\\" not in text:
        try:
            return _cut(text)
        except ValueError:
            pass  # It is not for this way, or not JSON, which `json` is to say.
    try:
        value, end = _scan(text)
        if end == len(text):
            return value
    except ValueError:
        pass  # It does not begin by a value, but perhaps by white space.
    return json.loads(text)


def _cut(text: str) -> Any:
    """Returns the value of a text that escapes nothing.

    Long strings are replaced by `NaN`, which the scanner hands to a function of ours in the order in which they stand.

    Raises:
        RecursionError: it is nested too deeply.
        ValueError: it is not JSON, or has too many strings or a NaN of its own.
    """
    shortened: List[str] = []
    long_strings: List[str] = []
    end = 0
    start = text.find('"')
    while start >= 0:
        if len(shortened) >= 2 * _STRINGS:
            raise ValueError("its strings are short on the whole")
        shortened.append(text[end:start])
        end = text.index('"', start + 1) + 1
        if end - start < _LONG:
            shortened.append(text[start:end])
        else:
            shortened.append("NaN")
            long_strings.append(text[start + 1 : end - 1])
        start = text.find('"', end)
    shortened.append(text[end:])
    if any("N" in between or "I" in between for between in shortened[::2]):
        raise ValueError("it has a NaN or an infinity of its own")
    in_turn = iter(long_strings)
    return json.loads("".join(shortened), parse_constant=lambda _: next(in_turn))
