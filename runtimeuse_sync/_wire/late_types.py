"""Stand-ins for types of modules that are imported late, so that annotations can be evaluated at run time.

What evaluates them, such as `typing.get_type_hints` and Sphinx, shows a stand-in by the name of the type itself.

Threads: nothing is shared; stand-ins are made on import.
"""

import importlib
import types
from typing import Any, Dict, Generic, TypeVar

_T = TypeVar("_T")


def late_class(module: str, name: str) -> Any:
    """Returns a class with the module and the name of another one, which can be subscripted as a generic class can.

    Args:
        module: The module that the other class is public in.
        name: Its name.
    """

    def fill(namespace: Dict[str, Any]) -> None:
        namespace.update(__module__=module, __doc__=f"Stands for `{module}.{name}` in annotations.")

    generic: Any = Generic
    return types.new_class(name, (generic[_T],), {}, fill)


class LateModule:
    """A module that is imported when something in it is asked for.

    Args:
        name: The module's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)
