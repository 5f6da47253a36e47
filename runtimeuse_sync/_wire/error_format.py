"""The two forms of an exception: its `args` as plain JSON, for machines, and its text, for people.

Job queues and the like send an exception's `args` as JSON, and make it again by `type(error)(*args)`. The text is
short: it shows the end of a command's output, and what the runtime says of the cause.

Threads: none; these are pure functions.
"""

import dataclasses
import json
from typing import Any, List, Mapping, Optional, Tuple

from ..results import CommandExecutionResult, CommandResultItem, QueryResult, data_from_json
from .redaction import ESCAPES

#: Values nested deeper than this are left out: pickle, copy and JSON would overflow the stack.
MAX_DEPTH = 100

TOO_DEEP = "(nested too deeply)"

#: How much of a command's output is shown: its last lines, and of these the last characters.
MAX_LINES = 10
MAX_CHARACTERS = 2000

#: How much of a command, or of another single line, is shown.
MAX_COMMAND = 200


def plain(value: Any, _above: Tuple[int, ...] = ()) -> Any:
    """Returns a value as JSON values only: dataclasses as dicts, what JSON does not know as its text."""
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)
    is_object = isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type))
    if not is_object and not isinstance(value, (list, tuple)):
        return _text(value)
    if len(_above) >= MAX_DEPTH or id(value) in _above:
        return TOO_DEEP
    above = (*_above, id(value))
    if isinstance(value, Mapping):
        return {_text(name): plain(item, above) for name, item in value.items()}
    if is_object:
        return {field.name: plain(getattr(value, field.name), above) for field in dataclasses.fields(value)}
    return [plain(item, above) for item in value]


def _text(value: Any) -> str:
    try:
        return str.__str__(value) if isinstance(value, str) else str(value)
    except Exception:  # What cannot say what it is must not break the error that carries it.
        return f"<{type(value).__name__}>"


def deeper_than(depth: int, value: Any) -> bool:
    """Returns whether a value has lists and dicts inside each other at more levels than that; at any depth."""
    level = [value]
    while level and depth:
        depth -= 1
        inner: List[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                inner += item.values()
            elif isinstance(item, (list, tuple)):
                inner += item
        level = inner
    return any(isinstance(item, (Mapping, list, tuple)) for item in level)


def items_of(results: Any) -> List[CommandResultItem]:
    """Returns command results, each of which may be a dict of its fields; `[]` for `None`."""
    if not isinstance(results, (list, tuple)):
        return []
    return [_item_of(each) for each in results]


def _item_of(value: Any) -> Any:
    if not isinstance(value, Mapping) or "command" not in value:
        return value
    names = [field.name for field in dataclasses.fields(CommandResultItem)]
    return CommandResultItem(**{"exit_code": None, **{name: value[name] for name in names if name in value}})


def texts_of(texts: Any) -> List[str]:
    """Returns a list of texts as one of its own; `[]` for `None`."""
    return list(texts) if isinstance(texts, (list, tuple)) else []


def result_of(value: Any) -> Any:
    """Returns the result of a call that may have become a dict of its fields; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"results"} and isinstance(value["results"], (list, tuple)):
        return CommandExecutionResult(items_of(value["results"]))
    data: Optional[Any] = value.get("data")
    if set(value) == {"data", "metadata"} and isinstance(data, Mapping) and data.get("type") in data:
        return QueryResult(data_from_json(data), value["metadata"])
    return value


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
