"""Encodes JSON as UTF-8, for the client's messages and the runtime's.

Python strings may hold a lone surrogate (half of a character), which UTF-8 cannot encode. It is sent as its JSON
escape.

Threads: pure functions, called by any thread.
"""

import json
from json.encoder import encode_basestring
from typing import Any

#: From this length on, in bytes, `escape` uses its faster way.
_LONG = 1024
#: The characters that JSON escapes and output often has; the backslash first, as the others add backslashes.
_ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
#: All control characters, which JSON escapes, too.
_CONTROLS = bytes(range(0x20))

_lenient = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_strict = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


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


def encode_string(text: str) -> bytes:
    """Returns a string as JSON in UTF-8; faster than `encode_json` for long strings."""
    return b'"%b"' % escape(text)


def escape(text: str) -> bytes:
    """Returns a string as JSON in UTF-8, without the quotation marks around it."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return encode_json(text)[1:-1]
    if len(raw) >= _LONG:
        # Several times as fast as `json`, which goes character by character.
        for character, escaped in _ESCAPES:
            raw = raw.replace(character, escaped)
        if len(raw.translate(None, _CONTROLS)) == len(raw):
            return raw
    return encode_basestring(text)[1:-1].encode()
