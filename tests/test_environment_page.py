"""docs/environment.md names each environment variable that the package reads, and no other."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "runtimeuse_sync"
PAGE = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")

#: What this process's environment is called, and a copy of it with the client's variables.
ENVIRONMENTS = ("os.environ", "environment", "self._environment", "invocation.env")

#: Where a variable is read whose name the user gives.
ANY_NAME = {"cli/_options.py"}

#: Modules that take the environment as a whole: for the processes that they start.
WHOLE = {"runtime/commands/environment.py", "sandboxes/_local.py"}

#: What is read by others for this package: the modules that have it done, and what the source of these must contain.
BY_OTHERS = {
    "http_proxy": ("_websocket/proxy.py", "getproxies()"),
    "https_proxy": ("_websocket/proxy.py", "getproxies()"),
    "all_proxy": ("_websocket/proxy.py", 'proxies.get("all")'),
    "no_proxy": ("_websocket/proxy.py", 'environment.get("no"'),
    "SSL_CERT_FILE": ("_websocket/tls.py", "ssl.create_default_context()"),
    "SSL_CERT_DIR": ("_websocket/tls.py", "ssl.create_default_context()"),
    "TMPDIR": ("runtime/commands/shell.py", "tempfile."),
    "ANTHROPIC_API_KEY": ("runtime/__main__.py", "$ANTHROPIC_API_KEY"),
}

#: What is set for commands in the sandbox.
SET_THERE = {
    "RUNTIMEUSE_INPUT_0": ("_wire/command_input.py", "RUNTIMEUSE_INPUT_{"),
    "RUNTIMEUSE_DATA_0": ("files/_scripts.py", '"RUNTIMEUSE_DATA_"'),
    "TRACEPARENT": ("opentelemetry/_propagation.py", "inject(carrier, context)"),
}


class Read(NamedTuple):
    """A place where a variable is read; `name` is `None` if the user gives it."""

    module: str
    line: int
    name: Optional[str]


def sources() -> Iterator[Path]:
    return iter(sorted(PACKAGE.rglob("*.py")))


@functools.lru_cache(maxsize=None)
def reads() -> List[Read]:
    """Returns all places in the source where a variable of an environment is read, set or removed."""
    found = []
    for path in sources():
        module = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            key = key_of(node)
            if key is not None:
                found.append(Read(module, node.lineno, value_of(key, path)))  # type: ignore[attr-defined]
    return found


def key_of(node: ast.AST) -> Optional[ast.expr]:
    """Returns the expression for the name of a variable, where one is read."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        if dotted(node.func) == "os.getenv":
            return node.args[0]
        if node.func.attr in ("get", "pop", "setdefault") and dotted(node.func.value) in ENVIRONMENTS:
            return node.args[0]
    if isinstance(node, ast.Subscript) and dotted(node.value) in ENVIRONMENTS:
        # Python 3.8 has an `Index` around it.
        return getattr(node.slice, "value", None) if type(node.slice).__name__ == "Index" else node.slice
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        return node.left if dotted(node.comparators[0]) in ENVIRONMENTS else None
    return None


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def value_of(key: ast.expr, path: Path) -> Optional[str]:
    """Returns the name of a variable: of a literal, or of a constant of the module; `None` for anything else."""
    if isinstance(key, ast.Constant):
        return str(ast.literal_eval(key))
    if isinstance(key, ast.Name) and key.id.isupper():
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        return str(getattr(module, key.id))
    return None


def is_environment(read: Read) -> bool:
    """Returns whether it is an environment that is read: `proxy.py` has a dict of proxies of that name."""
    return read.module != "_websocket/proxy.py"


def rows() -> Dict[str, List[List[str]]]:
    """Returns the cells of the rows that name each variable; a row may name several."""
    found: Dict[str, List[List[str]]] = {}
    for row in re.findall(r"^\| (`.*) \|$", PAGE, re.MULTILINE):
        cells = [cell.strip() for cell in row.split(" | ")]
        for name in re.findall(r"`([A-Za-z]\w+|_\w{3,})`", cells[0]):
            found.setdefault(name, []).append(cells)
    return found


def test_the_page_has_each_variable_that_is_read() -> None:
    found = [read for read in reads() if is_environment(read)]
    names = {read.name for read in found if read.name is not None}
    # The scan sees something: constants, literals and constants of other modules.
    assert names >= {
        "RUNTIMEUSE_WS_URL",
        "RUNTIMEUSE_TOKEN",
        "RUNTIMEUSE_MODEL",
        "TERM",
        "OPENAI_API_KEY",
        "CLAUDECODE",
    }
    assert {read.module for read in found if read.name is None} <= ANY_NAME, found
    assert names - set(rows()) == set()


def test_the_page_has_no_variable_that_nothing_reads() -> None:
    names = {read.name for read in reads()}
    others = {**BY_OTHERS, **SET_THERE}
    for name in rows():
        known = name in names or name in others or name.lower() in others or name in ("TRACESTATE", "BAGGAGE")
        assert known, name


def test_what_others_read_for_the_package_they_still_do() -> None:
    for name, (module, text) in {**BY_OTHERS, **SET_THERE}.items():
        assert name in rows(), name
        assert text in (PACKAGE / module).read_text(encoding="utf-8"), (name, module)


def test_no_other_module_takes_the_environment_as_a_whole() -> None:
    whole = set()
    for path in sources():
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        uses = sum(dotted(node) == "os.environ" for node in nodes if isinstance(node, ast.Attribute))
        single = sum(key_of(node) is not None and "os.environ" in map(dotted, ast.walk(node)) for node in nodes)
        if uses > single:
            whole.add(str(path.relative_to(PACKAGE)))
    assert whole == WHOLE


def test_each_row_says_who_reads_it_what_it_means_and_its_default() -> None:
    for name, found in rows().items():
        for cells in found:
            assert len(cells) == 3 + (name not in SET_THERE and name not in ("TRACESTATE", "BAGGAGE")), name
            assert "" not in cells, name
