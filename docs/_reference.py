"""What the reference shows beside the docstrings: since when there is a name, and what only running code knows.

An extension of Griffe, which reads the sources for mkdocstrings.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator

import griffe

#: Since which version there is a name: `_since.json`, which CONTRIBUTING.md describes.
SINCE: Dict[str, str] = json.loads(Path(__file__).with_name("_since.json").read_text(encoding="utf-8"))


class Reference(griffe.Extension):
    """Changes docstrings and signatures once all of the package is read."""

    def on_package(self, *, pkg: griffe.Module, **_others: Any) -> None:
        """Adds a line to the docstring of each public name, and leaves out constructors that are not for users."""
        if pkg.name != "runtimeuse_sync":
            return
        for path, version in SINCE.items():
            found: Any = pkg[path.partition(".")[2]]
            target = found.final_target if found.is_alias else found
            doc = target.docstring
            if target.path.endswith(".LocalRuntime"):
                # Its arguments are written into the docstring when the class is made.
                from runtimeuse_sync.runtime import LocalRuntime

                doc.value = inspect.getdoc(LocalRuntime)
            if doc is not None:
                summary, _, rest = doc.value.partition("\n\n")
                doc.value = f"{summary}\n\n*Since {version}.*\n\n{rest}".rstrip()
            for function in _functions_of(target):
                _show_defaults(function)
            if target.is_class and "dataclass" in target.labels:
                for field in target.attributes.values():
                    field.value = _value_of(target, field.value)
            if target.is_class and "NamedTuple" in map(str, target.bases):
                _add_constructor(target)
            elif target.is_class and "Args:" not in (doc.value if doc else "") and "__init__" in target.members:
                # Another object makes it, says its docstring.
                target.del_member("__init__")


def _functions_of(target: Any) -> Iterator[griffe.Function]:
    if target.is_function:
        yield target
    elif target.is_class:
        yield from (each for each in target.members.values() if not each.is_alias and each.is_function)


def _show_defaults(function: griffe.Function) -> None:
    """Shows the values of defaults that are names of constants."""
    for parameter in function.parameters:
        parameter.default = _value_of(function, parameter.default)


def _value_of(owner: Any, expression: Any) -> Any:
    """Returns the value of an expression in a module as text, if it is the name of plain data; else the expression."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", str(expression)) or str(expression) in ("None", "True", "False"):
        return expression
    value = functools.reduce(getattr, str(expression).split("."), importlib.import_module(owner.module.path))
    # Not by `isinstance`, at which a lazy object of Django asks for its settings.
    return repr(value) if issubclass(type(value), (str, int, float, tuple, type(None))) else expression


def _add_constructor(named_tuple: griffe.Class) -> None:
    """Adds what a named tuple is made with, which Griffe knows of dataclasses only."""
    keyword = griffe.ParameterKind.positional_or_keyword
    parameters = [griffe.Parameter("self", kind=keyword)]
    for name, field in named_tuple.attributes.items():
        # Those without a value are there by their annotation only.
        parameters.append(griffe.Parameter(name, annotation=field.annotation, kind=keyword, default=field.value))
    named_tuple.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))
