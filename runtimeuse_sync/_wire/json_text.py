"""JSON text: parses what a peer has sent, and encodes values as UTF-8, for the client's messages and the runtime's.

Python strings may hold a lone surrogate (half of a character), which UTF-8 cannot encode. It is sent as its JSON
escape.

Threads: pure functions, called by any thread.
"""

import gc
import json
import sys
from json.encoder import encode_basestring
from typing import Any, Callable, List, Optional, Tuple

#: From how many characters on a JSON text is searched for long strings.
_LARGE_TEXT = 16 * 1024
#: From how many characters on a string, with its quotation marks, counts as long.
_LONG_STRING = 1024
#: How many characters a string with escapes may have, with its quotation marks, in a text that is searched.
_LONGEST_ESCAPED = 4096
#: How many strings a text may contain to be searched, however short they are.
_MAX_STRINGS = 64
#: How many characters there must be for each string of a text with more of them.
_CHARACTERS_PER_STRING = 1024

#: From this length on, in bytes, `escape` uses its faster way.
_LONG = 1024
#: The characters that JSON escapes and output often has; the backslash first, as the others add backslashes.
_ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
#: The other control characters, which JSON escapes, too.
_CONTROLS = [byte for byte in range(0x20) if byte not in b"\n\r\t"]
#: How many kinds of these are replaced one by one.
_MOST_KINDS = 4
#: The size of the pieces that are escaped, in bytes. Each is read many times, so it must fit in the processor's cache.
_PIECE = 128 * 1024

#: Python 3.8 aborts the process if code without recursion depth left is interrupted by other code that needs it, such
#: as a finalizer that the garbage collector calls. A text with fewer brackets than this is never nested so deeply.
_FATAL_DEPTH: Optional[int] = 200 if sys.version_info < (3, 9) else None

_scan_json = json.JSONDecoder().raw_decode
_scan_string: Callable[[str, int], Tuple[str, int]] = getattr(json.decoder, "scanstring")  # noqa: B009

_lenient = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_strict = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def load_json(text: str) -> Any:
    """Returns what `json.loads` returns, faster.

    A short text goes straight to `json`'s scanner, without the overhead of `json.loads`. In a large text that scanner
    spends most of its time checking each character of long strings. A string without escapes is whatever stands between
    two quotation marks. So if no long one has any, they are cut out instead.

    Like `json.loads`, this accepts NaN and infinities. In long strings of large texts it also accepts control
    characters, as RFC 8259 §9 allows.

    Raises:
        RecursionError: The text is nested too deeply.
        ValueError: The text is not JSON, or contains an integer with too many digits for Python.
    """
    if _FATAL_DEPTH is not None and gc.isenabled() and text.count("[") + text.count("{") > _FATAL_DEPTH:
        gc.disable()
        try:
            return _load(text)
        finally:
            gc.enable()
    return _load(text)


def _load(text: str) -> Any:
    if len(text) >= _LARGE_TEXT:
        try:
            return _cut_long_strings(text)
        except ValueError:
            pass  # Not suitable for this way, or not JSON. In that case `json` reports what is wrong.
    try:
        value, end = _scan_json(text)
        if end == len(text):
            return value
    except ValueError:
        pass  # There may be leading white space, which the scanner does not skip.
    return json.loads(text)


def _cut_long_strings(text: str) -> Any:
    """Returns the value of a JSON text whose long strings have no escapes.

    Each long string is replaced by `NaN`. The scanner passes these, in order, to a function that supplies the strings.

    Raises:
        RecursionError: The text is nested too deeply.
        ValueError: The text is not JSON, has too many strings, a long one with escapes, or a NaN or infinity itself.
    """
    shortened: List[str] = []
    long_strings: List[str] = []
    end = 0
    start = text.find('"')
    escape_at = text.find("\\")
    while start >= 0:
        if len(shortened) >= 2 * _MAX_STRINGS and 2 * end < len(shortened) * _CHARACTERS_PER_STRING:
            raise ValueError("the strings are short on average")
        shortened.append(text[end:start])
        end = text.index('"', start + 1) + 1
        if 0 <= escape_at < end:
            # The quotation mark may be an escaped one.
            if end - start > _LONGEST_ESCAPED:
                raise ValueError("a long string has escapes")
            _, size = _scan_string(text[start + 1 : start + _LONGEST_ESCAPED], 0)
            end = start + 1 + size
            escape_at = text.find("\\", end)
            shortened.append(text[start:end])
        elif end - start < _LONG_STRING:
            shortened.append(text[start:end])
        else:
            shortened.append("NaN")
            long_strings.append(text[start + 1 : end - 1])
        start = text.find('"', end)
    shortened.append(text[end:])
    if any("N" in between or "I" in between for between in shortened[::2]):
        raise ValueError("the text contains a NaN or an infinity")
    remaining = iter(long_strings)
    return json.loads("".join(shortened), parse_constant=lambda _: next(remaining))


def encode_json(value: Any, allow_nan: bool = True) -> bytes:
    """Returns a value as JSON in UTF-8.

    Args:
        value: The value.
        allow_nan: Whether NaN and infinities are encoded, as Python's `json` does, or are an error.

    Raises:
        TypeError: JSON cannot hold the value.
        ValueError: the value contains itself, or NaN or an infinity that is not allowed.
    """
    text = (_lenient if allow_nan else _strict).encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=allow_nan, separators=(",", ":")).encode()


def encode_long_strings(value: Any) -> bytes:
    """As `encode_json`, for an object with long strings in it: several times as fast."""
    pieces: List[bytes] = []
    _add(value, pieces)
    return b"".join(pieces)


def _add(value: Any, pieces: List[bytes]) -> None:
    if isinstance(value, dict):
        before = b"{"
        for name, item in value.items():
            pieces += (before, encode_string(name), b":")
            _add(item, pieces)
            before = b","
        pieces.append(b"}" if value else b"{}")
    elif isinstance(value, list):
        before = b"["
        for item in value:
            pieces.append(before)
            _add(item, pieces)
            before = b","
        pieces.append(b"]" if value else b"[]")
    else:
        pieces.append(encode_string(value) if isinstance(value, str) else encode_json(value))


def encode_string(text: str) -> bytes:
    """Returns a string as JSON in UTF-8; faster than `encode_json` for long strings."""
    return b'"%b"' % escape(text)


def escape(text: str) -> bytes:
    """Returns a string as JSON in UTF-8, without the quotation marks around it."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return encode_json(text)[1:-1]
    if len(raw) < _LONG:
        return encode_basestring(text)[1:-1].encode()
    if len(raw) <= 2 * _PIECE:
        return _escaped(raw)
    return b"".join([_escaped(raw[at : at + _PIECE]) for at in range(0, len(raw), _PIECE)])


def _escaped(raw: bytes) -> bytes:
    """Returns UTF-8 with JSON's escapes, which are all of ASCII, so that it does not matter where a text was cut."""
    # Several times as fast as `json`, which goes character by character. So is one search for each control character.
    kinds = [byte for byte in _CONTROLS if byte in raw]
    if len(kinds) > _MOST_KINDS:
        return encode_basestring(raw.decode("latin-1"))[1:-1].encode("latin-1")
    for character, escaped in _ESCAPES:
        raw = raw.replace(character, escaped)
    for byte in kinds:
        raw = raw.replace(bytes((byte,)), encode_basestring(chr(byte))[1:-1].encode())
    return raw
