"""The input of a command: data that it reads from its stdin.

The protocol has no stdin. So the data travels in environment variables, as base64, and a line before the command writes
it to a file, opens that as stdin and removes its name: the file is gone once the command has ended, however it ends.
More than fits into one command is written to a file by `client.files` before; then the line only opens and removes it.

Threads: pure functions; each runs in its caller's thread.
"""

import base64
import secrets
from typing import Any, Dict, Tuple, Union

from . import validation as check

#: The most bytes of one environment variable. Linux allows 128 KiB for its name and value.
_PIECE = 120 * 1024

#: The most bytes of input that fit in one command: a process has about 2 MiB for its arguments and environment.
MAX_INLINE = 9 * _PIECE // 4 * 3

_FILE = "RUNTIMEUSE_INPUT_FILE"

_FAILED = (
    '{ echo "the input could not be written: this takes base64 and a writable ${TMPDIR:-/tmp}" >&2; '
    f'rm -f "${_FILE}"; exit 126; }}'
)


def input_bytes(data: Union[str, bytes]) -> bytes:
    """Returns the input of a command as bytes.

    Raises:
        TypeError: It is neither text nor bytes.
        ValueError: It is text that has no UTF-8.
    """
    check.check_type("input", data, (str, bytes, bytearray, memoryview), "a str or bytes")
    if not isinstance(data, str):
        return bytes(data)
    try:
        return data.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("input contains a lone surrogate, which is half a character") from None


def inline_input(data: bytes) -> Tuple[str, Dict[str, str]]:
    """Returns the line to put before a command, and the environment variables that the line reads.

    Args:
        data: The input, of at most `MAX_INLINE` bytes.
    """
    text = base64.b64encode(data).decode("ascii")
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    variables = {f"RUNTIMEUSE_INPUT_{number}": piece for number, piece in enumerate(pieces)}
    values = "".join(f"${{{name}}}" for name in variables)
    line = (
        f"{_FILE}=${{TMPDIR:-/tmp}}/runtimeuse-input-{secrets.token_hex(8)}; "
        f'(umask 077 && printf %s "{values}" | base64 -d >"${_FILE}") || {_FAILED}; '
        f'exec <"${_FILE}"; rm -f "${_FILE}"; unset {" ".join([_FILE, *variables])}'
    )
    return line, variables


def large_input() -> Tuple[str, str]:
    """Returns the path of a file for an input, and the line to put before the command that reads it."""
    path = f"/tmp/runtimeuse-input-{secrets.token_hex(8)}"
    return path, f"exec <{path} || exit 126; rm -f {path}"


def hide_first_lines(message: Any) -> None:
    """Removes the line before the command from a message of the runtime that repeats the command."""
    for item in [message, *getattr(message, "results", [])]:
        if isinstance(getattr(item, "command", None), str):
            item.command = item.command.split("\n", 1)[-1]
