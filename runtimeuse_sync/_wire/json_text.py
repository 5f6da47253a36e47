"""Encodes JSON as UTF-8, for the client's messages and the runtime's, and parses what may be nested too deeply.

Python strings may hold a lone surrogate (half of a character), which UTF-8 cannot encode. It is sent as its JSON
escape.

Threads: pure functions, called by any thread.
"""

import gc
import json
import sys
from json.encoder import encode_basestring
from typing import Any, Callable, Optional

#: From this length on, in bytes, `escape` uses its faster way.
_LONG = 1024
#: The characters that JSON escapes and output often has; the backslash first, as the others add backslashes.
_ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
#: All control characters, which JSON escapes, too.
_CONTROLS = bytes(range(0x20))

#: Python 3.8 aborts the process if code without recursion depth left is interrupted by other code that needs it, such
#: as a finalizer that the garbage collector calls. A text with fewer brackets than this is never nested so deeply.
_FATAL_DEPTH: Optional[int] = 200 if sys.version_info < (3, 9) else None

_lenient = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_strict = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def parsed(text: str, parse: Callable[[str], Any] = json.loads) -> Any:
    """Returns the value of a JSON text of a peer.

    Args:
        text: The text.
        parse: What parses it.

    Raises:
        RecursionError: The text is nested too deeply.
        ValueError: The text is not JSON.
    """
    if _FATAL_DEPTH is not None and gc.isenabled() and text.count("[") + text.count("{") > _FATAL_DEPTH:
        gc.disable()
        try:
            return parse(text)
        finally:
            gc.enable()
    return parse(text)


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
