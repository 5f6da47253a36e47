"""The package's layers: who may import whom, no cycles, and few private names in the root.

The rule, from the top: `client`, `session`, `run` → `_session` → `_connection` → `_websocket`. Each layer imports only
what is below it. All of them may use the shared modules (`_wire`, `_call`, `_threads`, the public data modules and so
on), which import none of the layers. Imports for types only and imports inside of functions count like all others.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, Mapping, Set, Tuple

import pytest

import runtimeuse_sync

PACKAGE = Path(runtimeuse_sync.__file__).parent

#: What users call, and what only that is made of.
SURFACE = {"", "client", "session", "run", "testing", "_call_methods"}

#: What the modules of each group may import besides their own group. A module that is in no other group is shared.
MAY_IMPORT: Mapping[str, FrozenSet[str]] = {
    "surface": frozenset({"files", "futures", "transports", "_session", "_connection", "_websocket", "shared"}),
    "files": frozenset({"shared"}),
    "futures": frozenset({"shared"}),
    "batch": frozenset({"surface", "futures", "shared"}),
    "transports": frozenset({"_connection", "_websocket", "shared"}),
    "_session": frozenset({"_connection", "_websocket", "shared"}),
    "_connection": frozenset({"_websocket", "shared"}),
    "_websocket": frozenset({"shared"}),
    "shared": frozenset(),
    "runtime": frozenset({"shared"}),
    # A local sandbox starts the runtime as a process.
    "sandboxes": frozenset({"surface", "shared"}),
    "opentelemetry": frozenset({"surface", "files", "shared"}),
    "celery": frozenset({"surface", "files", "batch", "shared"}),
    "pytest_plugin": frozenset({"surface", "runtime", "django", "shared"}),
    # The doctor takes the steps of a connection one by one.
    "cli": frozenset({"surface", "files", "batch", "runtime", "transports", "_websocket", "shared"}),
    "sse": frozenset({"surface", "shared"}),
    "asgi": frozenset({"surface", "sse", "shared"}),
    "django": frozenset({"surface", "artifacts", "asgi", "batch", "cli", "sse", "testing", "runtime", "shared"}),
    "__main__": frozenset({"cli"}),
}

#: Imports that the table does not allow, but the design does: a custom transport's types.
ALSO_ALLOWED = {("_connection.custom", "transports.base")}

#: Shared modules that know messages. The layer that moves bytes does not.
MESSAGES = {"messages", "options", "keywords", "results", "_wire.codec", "_wire.request"}

#: The most private modules and folders that the package's root may have.
MOST_PRIVATE_NAMES = 11


# --- The checker. It works on a tree of sources, `{path: source}`, with paths relative to the package.


def read_tree(package: Path) -> Dict[str, str]:
    paths = sorted(package.rglob("*.py"))
    return {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def imports(tree: Mapping[str, str]) -> Dict[str, Set[str]]:
    """Returns the modules of the package that each of its modules imports, by names relative to the package."""
    modules = {module_name(path) for path in tree}
    return {module_name(path): set(imported_by(path, source, modules)) for path, source in tree.items()}


def module_name(path: str) -> str:
    """Returns the name of a module relative to the package, which is itself the empty name."""
    parts = path[: -len(".py")].split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_by(path: str, source: str, modules: Set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if is_ours(alias.name):
                    yield nearest_module(alias.name.split(".")[1:], modules)
        elif isinstance(node, ast.ImportFrom) and (node.level or is_ours(node.module or "")):
            named = node.module.split(".") if node.module else []
            # One dot is the module's folder, each further one the folder above.
            origin = path.split("/")[: -node.level] + named if node.level else named[1:]
            for alias in node.names:
                yield nearest_module([*origin, alias.name], modules)


def is_ours(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] == PACKAGE.name


def nearest_module(parts: List[str], modules: Set[str]) -> str:
    """Returns the module that is imported by a dotted name, whose last part may be something in that module."""
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in modules:
            return ".".join(parts[:end])
    return ""


def group(module: str) -> str:
    folder = module.split(".", maxsplit=1)[0]
    if folder in SURFACE:
        return "surface"
    return folder if folder in MAY_IMPORT else "shared"


def is_allowed(importer: str, imported: str) -> bool:
    above, below = group(importer), group(imported)
    if above == "_websocket" and imported in MESSAGES:
        return False
    return above == below or below in MAY_IMPORT[above] or (importer, imported) in ALSO_ALLOWED


def violations(tree: Mapping[str, str]) -> Set[str]:
    """Returns what breaks the import rule: each import as "importer imports imported", each folder that has code."""
    wrong = {
        f"{importer or PACKAGE.name} imports {imported or PACKAGE.name}"
        for importer, all_imported in imports(tree).items()
        for imported in all_imported
        if not is_allowed(importer, imported)
    }
    for path, source in tree.items():
        if path.startswith("_") and path.endswith("/__init__.py") and source.strip():
            wrong.add(f"{path} is not empty")
    return wrong


def cycles(tree: Mapping[str, str]) -> Set[FrozenSet[str]]:
    """Returns the largest sets of modules each of which imports, directly or not, all others of its set."""
    direct = imports(tree)
    reached = {module: reachable(module, direct) for module in direct}
    return {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in direct
        if module in reached[module]
    }


def reachable(start: str, direct: Mapping[str, Set[str]]) -> Set[str]:
    found: Set[str] = set()
    unseen = [start]
    while unseen:
        new = direct[unseen.pop()] - found
        found |= new
        unseen.extend(new)
    return found


def private_names(tree: Mapping[str, str]) -> Set[str]:
    """Returns the private modules and folders of the root."""
    top = {path.split("/")[0] for path in tree} - {"__init__.py", "__main__.py"}
    return {name for name in top if name.startswith("_")}


# --- The package.


def test_each_layer_imports_only_what_is_below_it() -> None:
    assert violations(read_tree(PACKAGE)) == set()


def test_no_modules_import_each_other() -> None:
    assert [sorted(cycle) for cycle in cycles(read_tree(PACKAGE))] == []


def test_the_root_has_few_private_names() -> None:
    found = private_names(read_tree(PACKAGE))
    assert len(found) <= MOST_PRIVATE_NAMES, sorted(found)


def test_the_rule_names_only_what_exists() -> None:
    modules = set(imports(read_tree(PACKAGE)))
    named = SURFACE | MESSAGES | {module for pair in ALSO_ALLOWED for module in pair}
    assert named - modules == set()
    assert {each for each in MAY_IMPORT if each not in ("surface", "shared")} <= modules


# --- The checker can fail.

#: A tree that keeps the rule, with a module of each group.
SOUND = {
    "__init__.py": "from .client import RuntimeUseClient\nfrom .transports import WebSocketTransport",
    "client.py": "from .session import Session\nfrom ._session.channel import Channel\nfrom . import errors",
    "session.py": "from .run import Run",
    "run.py": "from ._session import channel\nfrom ._connection.base import Connection",
    "errors.py": "from ._wire import codec",
    "_call.py": "import time\nfrom .errors import RuntimeUseError",
    "_wire/__init__.py": "",
    "_wire/codec.py": "import json",
    "_session/__init__.py": "",
    "_session/channel.py": "from .._connection import base\nfrom .turns import Turn",
    "_session/turns.py": "from .._call import Call",
    "_connection/__init__.py": "",
    "_connection/base.py": "from .._websocket.frames import parse\nfrom .._wire.codec import encode",
    "_connection/custom.py": "from ..transports.base import Transport\nfrom .base import Connection",
    "_websocket/__init__.py": "",
    "_websocket/frames.py": "import struct\nfrom ..errors import ProtocolError",
    "transports/__init__.py": "from .base import Transport\nfrom .websocket import WebSocketTransport",
    "transports/base.py": "from typing import Protocol",
    "transports/websocket.py": "from .._connection.base import Connection\nfrom .base import Transport",
    "runtime/__init__.py": "from .server import Server",
    "runtime/server.py": "from .._wire.codec import encode",
}


def test_a_sound_tree_passes() -> None:
    assert violations(SOUND) == set()
    assert cycles(SOUND) == set()
    assert private_names(SOUND) == {"_call.py", "_wire", "_session", "_connection", "_websocket"}


@pytest.mark.parametrize(
    ("path", "source", "violation"),
    [
        ("_connection/base.py", "from .._session.turns import Turn", "_connection.base imports _session.turns"),
        ("_connection/base.py", "from .._session import turns", "_connection.base imports _session.turns"),
        ("_connection/base.py", "from ..session import Session", "_connection.base imports session"),
        ("_connection/base.py", "from .. import run", "_connection.base imports run"),
        ("_connection/base.py", "from .. import Run", "_connection.base imports runtimeuse_sync"),
        ("_websocket/frames.py", "from .._connection import base", "_websocket.frames imports _connection.base"),
        ("_session/turns.py", "from ..client import RuntimeUseClient", "_session.turns imports client"),
        ("_session/turns.py", "from ..transports.base import Transport", "_session.turns imports transports.base"),
        ("_call.py", "from ._connection.base import Connection", "_call imports _connection.base"),
        ("_wire/codec.py", "from .._websocket import frames", "_wire.codec imports _websocket.frames"),
        ("errors.py", "from .run import Run", "errors imports run"),
        ("_new.py", "from ._session import turns", "_new imports _session.turns"),
        ("transports/websocket.py", "from .._session import turns", "transports.websocket imports _session.turns"),
        # Of the transports, a custom connection takes the types alone.
        ("_connection/custom.py", "from ..transports import Transport", "_connection.custom imports transports"),
        (
            "_connection/custom.py",
            "from ..transports import websocket",
            "_connection.custom imports transports.websocket",
        ),
        ("_connection/base.py", "from ..transports.base import Transport", "_connection.base imports transports.base"),
        # The client and the runtime.
        ("client.py", "from .runtime import Server", "client imports runtime"),
        ("__init__.py", "from .runtime.server import Server", "runtimeuse_sync imports runtime.server"),
        ("runtime/server.py", "from ..client import RuntimeUseClient", "runtime.server imports client"),
        ("runtime/server.py", "from .._connection.base import Connection", "runtime.server imports _connection.base"),
        # The layer that moves bytes knows no messages.
        ("_websocket/frames.py", "from .._wire import codec", "_websocket.frames imports _wire.codec"),
        # Whatever the form of the import.
        (
            "_websocket/frames.py",
            "import runtimeuse_sync._connection.base",
            "_websocket.frames imports _connection.base",
        ),
        (
            "_websocket/frames.py",
            "from runtimeuse_sync._connection import base as b",
            "_websocket.frames imports _connection.base",
        ),
        (
            "_call.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .run import Run",
            "_call imports run",
        ),
        ("_call.py", "def late():\n    from .run import Run\n    return Run", "_call imports run"),
        ("_session/__init__.py", "from .turns import Turn", "_session/__init__.py is not empty"),
        ("_session/__init__.py", '"""Requests."""', "_session/__init__.py is not empty"),
    ],
)
def test_a_violation_is_found(path: str, source: str, violation: str) -> None:
    assert violations({**SOUND, path: source}) == {violation}


def test_what_other_packages_are_called_does_not_matter() -> None:
    source = "import client, runtimeuse_sync_more.client\nfrom runtime import server\nfrom run import Run"
    assert violations({**SOUND, "_websocket/frames.py": source}) == set()


@pytest.mark.parametrize(
    ("added", "cycle"),
    [
        ({"errors.py": "from . import errors"}, ("errors",)),
        ({"run.py": "from .session import Session"}, ("run", "session")),
        ({"_session/turns.py": "from . import channel"}, ("_session.channel", "_session.turns")),
        (
            {"run.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import runtimeuse_sync.client"},
            ("client", "run", "session"),
        ),
        ({"_wire/codec.py": "def late():\n    from ..errors import ProtocolError"}, ("_wire.codec", "errors")),
        ({"run.py": "from . import RuntimeUseClient"}, ("", "client", "run", "session")),
    ],
)
def test_a_cycle_is_found(added: Dict[str, str], cycle: Tuple[str, ...]) -> None:
    assert cycles({**SOUND, **added}) == {frozenset(cycle)}


def test_two_cycles_are_told_apart() -> None:
    added = {"run.py": "from .session import Session", "_wire/codec.py": "from .. import errors"}
    assert cycles({**SOUND, **added}) == {frozenset({"run", "session"}), frozenset({"_wire.codec", "errors"})}


def test_a_tree_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "_wire").mkdir()
    (tmp_path / "_wire" / "codec.py").write_text("import json\n", encoding="utf-8")
    (tmp_path / "py.typed").touch()
    assert read_tree(tmp_path) == {"_wire/codec.py": "import json\n"}
