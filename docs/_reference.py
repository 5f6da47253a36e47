"""What the reference shows beside the docstrings: since when there is a name, and the settings of `LocalRuntime`.

An extension of Griffe, which reads the sources for mkdocstrings.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Dict

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
            if target.is_class and "NamedTuple" in map(str, target.bases):
                _add_constructor(target)
            elif target.is_class and "Args:" not in (doc.value if doc else "") and "__init__" in target.members:
                # Another object makes it, says its docstring.
                target.del_member("__init__")


def _add_constructor(named_tuple: griffe.Class) -> None:
    """Adds what a named tuple is made with, which Griffe knows of dataclasses only."""
    keyword = griffe.ParameterKind.positional_or_keyword
    parameters = [griffe.Parameter("self", kind=keyword)]
    for name, field in named_tuple.attributes.items():
        # Those without a value are there by their annotation only.
        parameters.append(griffe.Parameter(name, annotation=field.annotation, kind=keyword, default=field.value))
    named_tuple.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))
