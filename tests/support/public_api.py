"""What is public, read from the sources: the names, where they are defined, and their docstrings.

Nothing is imported, so the names of extras that are not installed are there, too.
"""

from __future__ import annotations

import ast
import contextlib
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple, Union

import runtimeuse_sync

PACKAGE = Path(runtimeuse_sync.__file__).parent
NAME = "runtimeuse_sync"

#: Public names of modules that have no `__all__`: what other docstrings mention, and what pytest finds by itself.
OTHERS = {
    "runtimeuse_sync.options": ["CancelWhen"],
    "runtimeuse_sync.messages": ["StreamedMessage"],
    "runtimeuse_sync.results": ["WrongKindOfResult"],
    "runtimeuse_sync.pytest_plugin": ["runtimeuse_client", "runtimeuse_fake", "runtimeuse_runtime"],
}

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


class Definition(NamedTuple):
    """Where a name is defined."""

    module: str
    name: str
    node: ast.AST
    doc: Optional[str]

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


class Module:
    """A module of the package, parsed."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.is_package = path.name == "__init__.py"
        self.tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        self.defined: Dict[str, ast.AST] = {}
        self.docs: Dict[str, Optional[str]] = {}
        #: By name: the module that it is imported from, and its name there.
        self.imported: Dict[str, List[str]] = {}
        self.all: List[str] = []
        self._read(self.tree.body)

    def _read(self, body: List[ast.stmt]) -> None:
        for node, after in zip(body, [*body[1:], None]):
            if isinstance(node, (ast.ClassDef, *FUNCTION)):
                self.defined[node.name] = node
                self.docs[node.name] = ast.get_docstring(node)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name):
                    self.defined[target.id] = node
                    self.docs[target.id] = _literal(after)
                    if target.id == "__all__" and node.value is not None:
                        self.all = ast.literal_eval(node.value)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = [self._absolute(node), alias.name]
            elif isinstance(node, ast.If):
                # What type checkers know comes last: it counts.
                self._read(node.orelse)
                self._read(node.body)
            elif isinstance(node, ast.Try):
                self._read(node.body)
                for handler in node.handlers:
                    self._read(handler.body)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        base = parts if self.is_package else parts[:-1]
        base = base[: len(base) - (node.level - 1)]
        return ".".join([*base, node.module] if node.module else base)


def _literal(node: Optional[ast.stmt]) -> Optional[str]:
    """Returns the docstring that stands below an assignment."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        value = ast.literal_eval(node.value)
        return value if isinstance(value, str) else None
    return None


def read_modules() -> Dict[str, Module]:
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [NAME, *path.relative_to(PACKAGE).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = Module(name, path)
    return modules


MODULES = read_modules()


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


def public_names() -> Dict[str, List[str]]:
    """Returns the public names of each public module."""
    found = {name: list(module.all) for name, module in MODULES.items() if is_public(name) and module.all}
    return {**found, **OTHERS}


def definition(path: str) -> Definition:
    """Returns where the name of a path such as `runtimeuse_sync.RuntimeUseClient` is defined.

    Raises:
        KeyError: There is no such name.
    """
    module, _, name = path.rpartition(".")
    if name in MODULES[module].defined:
        return Definition(module, name, MODULES[module].defined[name], MODULES[module].docs[name])
    origin = MODULES[module].imported[name]
    return definition(".".join(origin))


def public_definitions() -> Dict[str, Definition]:
    """Returns all that is public, each once, by where it is defined."""
    found = {}
    for module, names in public_names().items():
        for name in names:
            each = definition(f"{module}.{name}")
            found[each.path] = each
    return found


def bases(each: Definition) -> Iterator[Definition]:
    """Yields a class and those of this package that it inherits from, nearest first."""
    seen: Set[str] = set()
    queue = [each]
    while queue:
        current = queue.pop(0)
        if current.path in seen or not isinstance(current.node, ast.ClassDef):
            continue
        seen.add(current.path)
        yield current
        for base in current.node.bases:
            inner = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(inner, ast.Name):
                # Others are classes of another package.
                with contextlib.suppress(KeyError):
                    queue.append(definition(f"{current.module}.{inner.id}"))


def members(each: Definition) -> Dict[str, Tuple[Function, str]]:
    """Returns the public methods and properties of a class, inherited ones included, with their docstrings.

    One that has no docstring has that of the class that it inherits from, as `help` shows it. Overloads are left out.
    """
    found: Dict[str, Tuple[Function, str]] = {}
    for current in bases(each):
        assert isinstance(current.node, ast.ClassDef)
        for node in current.node.body:
            if not isinstance(node, FUNCTION) or "overload" in decorators(node):
                continue
            if node.name == "__call__" or not node.name.startswith("_"):
                known, doc = found.get(node.name, (node, ""))
                found[node.name] = (known, doc or ast.get_docstring(node) or "")
    return found


def decorators(node: Union[Function, ast.ClassDef]) -> List[str]:
    """Returns the last parts of the names of what decorates a function or class."""
    names = []
    for each in node.decorator_list:
        called = each.func if isinstance(each, ast.Call) else each
        names.append(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
    return names


def section(doc: str, title: str) -> List[str]:
    """Returns the names that a section of a docstring has entries for."""
    found = re.search(rf"^{title}:\n((?:(?:[ \t]+.*)?\n)*)", doc + "\n", re.MULTILINE)
    if found is None:
        return []
    lines = [line for line in found.group(1).splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return [line.strip().partition(":")[0] for line in lines if len(line) - len(line.lstrip()) == margin]
