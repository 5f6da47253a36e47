"""The `output_type` of a query: its JSON schema for the runtime, and what is made of the agent's answer.

Only this module knows pydantic (the extra `[pydantic]`). It imports it when the first output type is used.

The schema is the one for validation, by alias: what the agent produces is input. Agents answer with JSON objects, so a
type with any other root is wrapped in an object with one key. The answer is validated as JSON, not as Python values:
otherwise strict types would refuse dates, enums, bytes, tuples and sets, which JSON writes as strings and arrays.

Threads: each function runs in its caller's thread. An `OutputType` never changes, and `functools.lru_cache`, which
keeps the latest ones, has a lock of its own.
"""

import dataclasses
import functools
import json
import math
import sys
import types
from typing import Any, Dict, ForwardRef, List, NamedTuple, Tuple

from ..errors import OutputProblem
from .error_format import beginning_of
from .json_text import encode_json

#: The key of the object around a root that is no object. No other key is beside it, so it cannot clash.
WRAPPER_KEY = "value"

#: How many types are kept ready. To make one takes from 0.1 ms to some 10 ms.
_MOST_KEPT = 128

_INSTALL = 'pip install "runtimeuse-sync[pydantic]"'
_DEFS = "#/$defs/"
_PACKAGE = __name__.split(".", maxsplit=1)[0]


class Parsed(NamedTuple):
    """What an answer was made into: the value, unless there are problems."""

    value: Any
    problems: List[OutputProblem]


class OutputType:
    """A type that answers are made into.

    Attributes:
        name: What to call it in an error's text.
        schema_text: The JSON text for the option `output_format_json_schema_str`.

    Raises:
        ImportError: pydantic 2 is not installed.
        TypeError: pydantic can make no JSON schema of the type.
    """

    def __init__(self, kind: Any) -> None:
        pydantic = _import_pydantic()
        self.name: str = _name_of(kind)
        try:
            adapter = pydantic.TypeAdapter(kind, _parent_depth=2 + _frames_of_ours())
            schema = adapter.json_schema(mode="validation")
        except (pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation, TypeError) as error:
            why = str(getattr(error, "message", error)).split("\n", maxsplit=1)[0]
            raise TypeError(f"output_type: pydantic cannot make a JSON schema of {self.name}: {why}") from error
        self._adapter = adapter
        self._not_valid = pydantic.ValidationError
        schema, self._wrapped = _with_object_at_root(schema)
        self.schema_text: str = json.dumps({"type": "json_schema", "schema": _finite(schema)}, allow_nan=False)

    def parse(self, output: Dict[str, Any]) -> Parsed:
        """Makes the agent's structured output into an instance of the type.

        Raises:
            Exception: What a validator of the user raised, unless pydantic takes it for a failed validation.
        """
        value: Any = output
        if self._wrapped:
            if WRAPPER_KEY not in output:
                return Parsed(None, [OutputProblem("", f'The key "{WRAPPER_KEY}", which holds the value, is missing')])
            value = output[WRAPPER_KEY]
        try:
            text = encode_json(value)
        except RecursionError:
            return Parsed(None, [OutputProblem("", "Nested too deeply")])
        try:
            return Parsed(self._adapter.validate_json(text), [])
        except self._not_valid as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
        return Parsed(None, [OutputProblem(_path(each["loc"], value, each["type"]), each["msg"]) for each in found])


def output_type_of(kind: Any) -> OutputType:
    """Returns the `OutputType` of what a user passed as `output_type`, ready-made if it was used before.

    Raises:
        ImportError: pydantic 2 is not installed. The message names the extra.
        TypeError: `kind` is not a type, or pydantic can make no JSON schema of it.
    """
    _check_is_type(kind)
    if _has_forward_references(kind):
        # Its meaning depends on where the call is.
        return OutputType(kind)
    try:
        hash(kind)
    except TypeError:
        return OutputType(kind)
    return _kept(kind, repr(kind))


@functools.lru_cache(maxsize=_MOST_KEPT)
def _kept(kind: Any, shown: str) -> OutputType:  # noqa: ARG001 - part of the key
    # `shown` tells apart what is equal but not the same: `Union[A, B]` and `Union[B, A]`.
    return OutputType(kind)


def _import_pydantic() -> Any:
    try:
        import pydantic
    except ModuleNotFoundError as error:
        raise ImportError(
            f"output_type needs the package {error.name!r}, which is not installed: {_INSTALL}", name=error.name
        ) from error
    version = str(getattr(pydantic, "VERSION", "of an unknown version"))
    if not hasattr(pydantic, "TypeAdapter"):
        raise ImportError(f"output_type needs pydantic 2, but pydantic {version} is installed: {_INSTALL}")
    return pydantic


def _check_is_type(kind: Any) -> None:
    """Refuses what can only be a mistake, but what pydantic would take for a type or fail on without saying why."""
    wanted = "output_type must be a type, such as a pydantic model, a dataclass or List[int]"
    if isinstance(kind, (str, bytes, dict)):
        raise TypeError(
            f"{wanted}, not {type(kind).__name__}; a JSON schema is passed as output_format_json_schema_str"
        )
    is_value = isinstance(kind, (int, float, list, tuple, set, frozenset))
    # A `NewType` is a function before Python 3.10.
    is_function = isinstance(kind, (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial))
    if is_value or (is_function and not hasattr(kind, "__supertype__")):
        raise TypeError(f"{wanted}, not {type(kind).__name__}")
    is_model = hasattr(type(kind), "__pydantic_validator__") or dataclasses.is_dataclass(type(kind))
    if is_model and not isinstance(kind, type):
        raise TypeError(f"{wanted}, not an instance of {type(kind).__name__}")


def _has_forward_references(kind: Any) -> bool:
    if getattr(getattr(kind, "__origin__", None), "_name", None) == "Literal":
        return False  # Its strings are values.
    arguments = getattr(kind, "__args__", None)
    inner = arguments if isinstance(arguments, tuple) else ()
    return isinstance(kind, (str, ForwardRef)) or any(_has_forward_references(each) for each in inner)


def _name_of(kind: Any) -> str:
    """Returns a type as its user would write it, without modules and without what `Annotated` adds."""
    if hasattr(kind, "__metadata__"):
        return _name_of(kind.__origin__)
    name = repr(kind).replace("typing_extensions.", "").replace("typing.", "")
    pending = [kind]
    while pending:
        each = pending.pop()
        inner = getattr(each, "__args__", None)
        if isinstance(inner, tuple):
            pending += inner
        elif isinstance(each, type):
            name = name.replace(repr(each), each.__name__)
            name = name.replace(f"{each.__module__}.{each.__qualname__}", each.__name__)
    return beginning_of(name)


def _frames_of_ours() -> int:
    """Returns how many frames are between the calling function and the user's, whose names annotations may use."""
    count = 0
    frame = sys._getframe(1)
    while str(frame.f_globals.get("__name__")).split(".", maxsplit=1)[0] == _PACKAGE:
        if frame.f_back is None:
            return 0
        frame = frame.f_back
        count += 1
    return count


# The schema.


def _with_object_at_root(schema: Dict[str, Any]) -> Tuple[Dict[str, Any], bool]:
    """Returns a schema that has an object at its root, and whether the object had to be wrapped around the root."""
    definitions = schema.get("$defs", {})
    shared = {"$defs": definitions} if definitions else {}
    root = {name: value for name, value in schema.items() if name != "$defs"}
    # The root of a recursive type is a reference. Agents want to see the object itself.
    resolved = root
    for _ in range(len(definitions)):
        target = _referred(resolved, definitions)
        if target is None:
            break
        beside = {name: value for name, value in resolved.items() if name not in ("$ref", "allOf")}
        resolved = {**target, **beside}
    if resolved.get("type") == "object":
        return {**resolved, **shared}, False
    wrapper = {
        "type": "object",
        "properties": {WRAPPER_KEY: root},
        "required": [WRAPPER_KEY],
        "additionalProperties": False,
    }
    return {**wrapper, **shared}, True


def _referred(schema: Dict[str, Any], definitions: Dict[str, Any]) -> Any:
    """Returns the definition that a schema refers to; `None` if it is no reference."""
    reference = schema.get("$ref")
    every = schema.get("allOf")
    if reference is None and isinstance(every, list) and len(every) == 1:
        reference = every[0].get("$ref")
    if not isinstance(reference, str) or not reference.startswith(_DEFS):
        return None
    return definitions.get(reference[len(_DEFS) :])


def _finite(value: Any) -> Any:
    """Returns a copy of a schema with `None` for numbers that JSON lacks, such as a default that is NaN."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Where a problem is.


def _path(location: Tuple[Any, ...], value: Any, problem: str) -> str:
    """Returns the location of a problem as a path in the value: `findings[1].line`.

    pydantic's locations also name the members of unions that were tried, and the like. These are no part of the value,
    and stand in angle brackets: `shape<Circle>.radius`.
    """
    path = ""
    for number, step in enumerate(location, start=1):
        if isinstance(value, list) and isinstance(step, int):
            path += f"[{step}]"
            value = value[step] if 0 <= step < len(value) else None
        elif isinstance(value, dict) and (step in value or (problem == "missing" and number == len(location))):
            path += f".{step}" if path else f"{step}"
            value = value.get(step)
        else:
            path += f"<{step}>"
    return path
