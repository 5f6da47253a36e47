"""The `args` of exceptions: what they carry as plain JSON values, and back. Pure functions; no threads run here.

Job queues and the like send an exception's `args` as JSON, and make it again by `type(error)(*args)`.
"""

import dataclasses
from typing import Any, List, Mapping, Optional, Tuple

from .results import CommandExecutionResult, CommandResultItem, QueryResult, data_from_json

#: Values nested deeper than this are left out: pickle, copy and JSON would overflow the stack.
MAX_DEPTH = 100

TOO_DEEP = "(nested too deeply)"


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
