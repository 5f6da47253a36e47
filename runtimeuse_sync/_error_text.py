"""What `str` of an exception shows of commands, their output, and what the runtime says besides.

For people: short, and the part that tells most. Pure functions; no threads run here.
"""

import json
from typing import Any

from ._wire.redaction import ESCAPES

#: How much of a command's output is shown: its last lines, and of these the last characters.
MAX_LINES = 10
MAX_CHARACTERS = 2000

#: How much of a command, or of another single line, is shown.
MAX_COMMAND = 200


def beginning_of(text: str, limit: int = MAX_COMMAND) -> str:
    """Returns the first characters of a text, `…` for the rest."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def end_of(output: Any, *, lines: int = MAX_LINES) -> str:
    """Returns the last lines of an output as a terminal would show them; `""` where there is nothing to show."""
    if not isinstance(output, str):
        return ""
    # What is far from the end cannot be among its last lines: an output may have a MiB.
    near = ESCAPES.sub("", output.rstrip()[-20 * MAX_CHARACTERS :])
    # A carriage return begins a line anew: progress bars.
    shown = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in near.split("\n")[-lines:]]
    text = "\n".join(shown).strip("\n")
    return text if len(text) <= MAX_CHARACTERS else "…" + text[1 - MAX_CHARACTERS :]


def details_of(metadata: Any, said: str) -> str:
    """Returns what metadata tell a person beyond what has been said: `error_details`, or else the `cause`."""
    if not isinstance(metadata, dict):
        return ""
    details, cause = metadata.get("error_details"), metadata.get("cause")
    if isinstance(details, dict):
        # A stack is for machines, and stays in the metadata.
        details = {name: value for name, value in details.items() if name != "stack"}
    if isinstance(details, (dict, list)):
        details = _json(details) if details else ""
    shown = end_of(details, lines=MAX_CHARACTERS)
    if shown:
        return "" if shown in said else shown
    if isinstance(cause, dict):
        cause = cause.get("message")
    first_line = beginning_of(cause.strip().split("\n")[0]) if isinstance(cause, str) else ""
    return f"cause: {first_line}" if first_line and first_line not in said else ""


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return ""
