"""The two forms of an exception: its `args` as plain JSON, for machines, and its text, for people.

Job queues send an exception's `args` as JSON and recreate it with `type(error)(*args)`. The text is short: it shows the
end of a command's output, and the cause that the runtime reports.

Threads: pure functions; each runs in its caller's thread.
"""

import dataclasses
import json
from typing import Any, List, Mapping, Optional, Tuple

from ..results import CommandExecutionResult, CommandResultItem, QueryResult, data_from_json
from .redaction import ESCAPES

#: How many levels of nested values to keep: with many more, pickle, copy and JSON would overflow the stack.
MAX_DEPTH = 100

#: Replaces values that are nested deeper, and values that contain themselves.
TOO_DEEP = "(nested too deeply)"

#: How much of a command's output to show: its last lines, and of these the last characters.
MAX_LINES = 10
MAX_CHARACTERS = 2000

#: How many characters of a command, or of another single line, to show.
MAX_COMMAND = 200


def plain(value: Any, _above: Tuple[int, ...] = ()) -> Any:
    """Converts a value to plain JSON values: a dataclass to a dict, any other type that JSON lacks to its text."""
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, str):
        return _text(value)
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
    # Not in the `try`, which cannot tell an interrupt from a failure.
    if isinstance(value, str):
        return str.__str__(value)
    try:
        return str(value)
    except Exception:  # A broken `__str__` must not break the error that carries the value.
        return f"<{type(value).__name__}>"


def deeper_than(depth: int, value: Any) -> bool:
    """Returns whether lists and dicts are nested in a value on more than `depth` levels. Does not recurse."""
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
    """Returns a list of command results, converting those that are dicts of their fields; `[]` for `None`."""
    if not isinstance(results, (list, tuple)):
        return []
    return [_item_of(each) for each in results]


def _item_of(value: Any) -> Any:
    if not isinstance(value, Mapping) or "command" not in value:
        return value
    names = [field.name for field in dataclasses.fields(CommandResultItem)]
    return CommandResultItem(**{"exit_code": None, **{name: value[name] for name in names if name in value}})


def texts_of(texts: Any) -> List[str]:
    """Returns a copy of a list of texts; `[]` for `None`."""
    return list(texts) if isinstance(texts, (list, tuple)) else []


def result_of(value: Any) -> Any:
    """Returns the result of a call, converted if it is a dict of its fields; any other value unchanged."""
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"results"} and isinstance(value["results"], (list, tuple)):
        return CommandExecutionResult(items_of(value["results"]))
    data: Optional[Any] = value.get("data")
    if set(value) == {"data", "metadata"} and isinstance(data, Mapping) and data.get("type") in data:
        return QueryResult(data_from_json(data), value["metadata"])
    return value


def beginning_of(text: str, limit: int = MAX_COMMAND) -> str:
    """Returns a text cut to `limit` characters, with `…` at the end if it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def end_of(output: Any, *, lines: int = MAX_LINES) -> str:
    """Returns the last lines of an output as a terminal would show them; `""` if there are none."""
    if not isinstance(output, str):
        return ""
    # An output may have a MiB. Process only the end of it, which is enough for the last lines.
    near = ESCAPES.sub("", output.rstrip()[-20 * MAX_CHARACTERS :])
    # A carriage return overwrites the line, as progress bars do.
    shown = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in near.split("\n")[-lines:]]
    text = "\n".join(shown).strip("\n")
    return text if len(text) <= MAX_CHARACTERS else "…" + text[1 - MAX_CHARACTERS :]


def details_of(metadata: Any, said: str) -> str:
    """Returns what an error text does not say yet: the `error_details` in the metadata, or else the `cause`.

    Args:
        metadata: The error's metadata.
        said: The error text.
    """
    if not isinstance(metadata, dict):
        return ""
    details, cause = metadata.get("error_details"), metadata.get("cause")
    if isinstance(details, dict):
        # The stack stays in the metadata: it is not for people.
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
