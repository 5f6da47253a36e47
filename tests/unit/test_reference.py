"""The docstrings of all that is public: complete, and such that Markdown and reStructuredText show them alike.

Each has its place in the reference, docs/reference, too.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Set

from ..support.public_api import (
    FUNCTION,
    MODULES,
    NAME,
    Definition,
    Function,
    bases,
    decorators,
    definition,
    members,
    public_definitions,
    public_names,
    section,
)

ROOT = Path(__file__).resolve().parents[2]

REFERENCE = ROOT / "docs" / "reference"

PUBLIC = public_definitions()

#: What users get from another object, and never make themselves: their docstrings say from which.
GIVEN = {
    "AsyncSender",
    "Cancellable",
    "Cancelled",
    "ConnectedWebSocketTransport",
    "EventStream",
    "FakeConnection",
    "Files",
    "LocalProcess",
    "RuntimeResult",
    "Run",
    "RunFuture",
    "RuntimeUseSession",
    "S3Uploads",
    "Sender",
    "StorageUploads",
}

#: What is no failure.
_NO_FAILURE = {"StopIteration", "StopAsyncIteration", "NotImplementedError"}


class Callable(NamedTuple):
    """A public function, or a method or property of a public class."""

    path: str
    node: Function
    doc: str

    @property
    def is_property(self) -> bool:
        return bool({"property", "setter"} & set(decorators(self.node)))

    @property
    def is_fixture(self) -> bool:
        return "fixture" in decorators(self.node)


def _callables() -> Iterator[Callable]:
    for path, each in PUBLIC.items():
        if isinstance(each.node, FUNCTION):
            yield Callable(path, each.node, each.doc or "")
        elif isinstance(each.node, ast.ClassDef):
            for name, (node, doc) in members(each).items():
                # What type checkers are told of a class of another package.
                if doc or node.returns is None or not _is_stub(node):
                    yield Callable(f"{path}.{name}", node, doc)


def _is_stub(node: Function) -> bool:
    return all(isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) for each in node.body)


CALLABLES = list(_callables())
CLASSES = {path: each for path, each in PUBLIC.items() if isinstance(each.node, ast.ClassDef)}


def parameters(node: Function) -> List[str]:
    given = node.args
    names = [each.arg for each in [*given.posonlyargs, *given.args]]
    if names[:1] in (["self"], ["cls"]):
        names = names[1:]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [each.arg for each in given.kwonlyargs]
    names += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return names


def parameters_of_class(each: Definition) -> Optional[List[str]]:
    """Returns what a class is made with: the arguments of its constructor, or its fields; `None` if nothing says so."""
    fields: List[str] = []
    for current in reversed(list(bases(each))):
        assert isinstance(current.node, ast.ClassDef)
        names = {getattr(base, "id", "") for base in current.node.bases}
        constructors = [node for node in current.node.body if isinstance(node, FUNCTION) and node.name == "__init__"]
        if constructors:
            fields = parameters(constructors[0])
        elif "dataclass" in decorators(current.node) or "NamedTuple" in names:
            annotated = [node for node in current.node.body if isinstance(node, ast.AnnAssign)]
            fields += [node.target.id for node in annotated if isinstance(node.target, ast.Name)]
    return list(dict.fromkeys(fields)) or None


def raised(node: Function) -> Set[str]:
    """Returns the names of the exceptions that a function raises itself, or by a check of its arguments."""
    found: Set[str] = set()
    queue: List[ast.AST] = list(node.body)
    while queue:
        each = queue.pop()
        if isinstance(each, (*FUNCTION, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(each, ast.Raise) and isinstance(each.exc, ast.Call):
            called = each.exc.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name[:1].isupper():
                found.add(name)
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
            owner = each.func.value
            if isinstance(owner, ast.Name) and owner.id == "check":
                found |= _RAISED_BY_CHECKS.get(each.func.attr, set())
        queue.extend(ast.iter_child_nodes(each))
    return found - _NO_FAILURE


def _raised_by_checks() -> Dict[str, Set[str]]:
    """Returns the exceptions of each check of an argument, by what the first line of its docstring says."""
    checks = MODULES["runtimeuse_sync._wire.validation"]
    found = {}
    for name, doc in checks.docs.items():
        summary = (doc or "").partition("\n")[0]
        if summary.startswith("Raises"):
            found[name] = set(re.findall(r"\w+Error\b", summary)) or {"TypeError", "ValueError"}
    return found


def documented_errors(doc: str) -> Set[str]:
    return {name.rpartition(".")[2] for name in section(doc, "Raises")}


_RAISED_BY_CHECKS: Dict[str, Set[str]] = _raised_by_checks()


def docstrings() -> Dict[str, str]:
    found = {path: each.doc or "" for path, each in PUBLIC.items()}
    found.update({each.path: each.doc for each in CALLABLES})
    found.update({name: ast.get_docstring(MODULES[name].tree) or "" for name in public_names()})
    return found


DOCSTRINGS = docstrings()


def test_what_is_read_is_there() -> None:
    assert len(PUBLIC) > 120
    assert len(CALLABLES) > 200
    assert "runtimeuse_sync.client.RuntimeUseClient.execute_commands" in DOCSTRINGS
    assert _RAISED_BY_CHECKS["check_text"] == {"TypeError", "ValueError"}


def test_every_public_name_has_a_docstring() -> None:
    assert [path for path, doc in DOCSTRINGS.items() if not doc] == []


def test_each_callable_documents_its_arguments_in_order() -> None:
    wrong = []
    for each in CALLABLES:
        documented, wanted = section(each.doc, "Args"), [] if each.is_fixture else parameters(each.node)
        if documented != wanted and not each.is_property:
            wrong.append((each.path, documented, wanted))
    assert wrong == []


def test_each_class_documents_what_it_is_made_with() -> None:
    wrong = []
    for path, each in CLASSES.items():
        if each.name in GIVEN:
            continue
        wanted = parameters_of_class(each)
        inherited = [section(current.doc or "", "Args") for current in bases(each)]
        documented = next((found for found in inherited if found), None)
        if documented != wanted and not (path.endswith(".LocalRuntime") and documented == ["agent", "{settings}"]):
            wrong.append((path, documented, wanted))
    assert wrong == []


def test_what_users_do_not_make_says_where_it_is_from() -> None:
    given = [each for each in CLASSES.values() if each.name in GIVEN]
    assert {each.name for each in given} == GIVEN
    said = re.compile(r"\b(returns?|makes?|made by|gets?|calls?)\b", re.IGNORECASE)
    assert [each.path for each in given if not said.search(each.doc or "") or section(each.doc or "", "Args")] == []


def test_each_callable_says_what_it_returns() -> None:
    said = re.compile(r"\b(returns?|yields|iterates)\b", re.IGNORECASE)
    wrong = []
    for each in CALLABLES:
        node = each.node
        nothing = node.returns is None or (isinstance(node.returns, ast.Constant) and node.returns.value is None)
        if nothing or each.is_property or each.is_fixture:
            continue
        summary = each.doc.partition("\n\n")[0]
        if not section(each.doc, "Returns") and not section(each.doc, "Yields") and not said.search(summary):
            wrong.append(each.path)
    assert wrong == []


def test_each_callable_documents_what_it_raises() -> None:
    missing = {each.path: raised(each.node) - documented_errors(each.doc) for each in CALLABLES}
    assert {path: names for path, names in missing.items() if names} == {}


def test_each_class_documents_what_making_and_entering_it_raises() -> None:
    missing = {}
    for path, each in CLASSES.items():
        assert isinstance(each.node, ast.ClassDef)
        for node in each.node.body:
            if isinstance(node, FUNCTION) and node.name in ("__init__", "__enter__", "__exit__", "__init_subclass__"):
                documented = documented_errors(ast.get_docstring(node) or "") | documented_errors(each.doc or "")
                if raised(node) - documented and each.name not in GIVEN:
                    missing[f"{path}.{node.name}"] = raised(node) - documented
    assert missing == {}


def test_docstrings_are_markdown_and_restructuredtext_at_once() -> None:
    wrong = []
    for path, doc in DOCSTRINGS.items():
        if "```" in doc:
            wrong.append((path, "an example must be a doctest in a section Examples"))
        if "Attributes:" in doc:
            wrong.append((path, "Sphinx describes each attribute twice: use Args, or a docstring below the attribute"))
        plain = re.sub(r"`[^`]*`|::\n\n(?:(?:    .*)?\n)+|^ *(?:>>>|\.\.\.).*$", "", doc + "\n", flags=re.MULTILINE)
        plain = re.sub(r"^ *\*{1,2}\w+:", "", plain, flags=re.MULTILINE)
        if "`" in plain:
            wrong.append((path, "a backtick has no other"))
        if re.search(r"</?\w+>", plain):
            wrong.append((path, "HTML"))
        if re.search(r"(?<!\w)\*+\w|\b[a-z]\w*_(?!\w)|\|\w", plain):
            wrong.append((path, "mark-up of reStructuredText outside of backticks"))
    assert wrong == []


def test_the_summary_of_a_property_has_no_colon() -> None:
    # Sphinx takes what stands before one for the type.
    properties = [each for each in CALLABLES if each.is_property]
    assert [each.path for each in properties if ":" in each.doc.partition("\n")[0]] == []


def test_docstrings_begin_with_a_sentence_on_a_line() -> None:
    modules = public_names()
    summaries = {path: doc.partition("\n\n")[0] for path, doc in DOCSTRINGS.items() if path not in modules}
    assert [path for path, summary in summaries.items() if "\n" in summary or summary[-1:] != "."] == []


# --- The pages.


def directives() -> Dict[str, List[str]]:
    """Returns the paths that each page of the reference describes."""
    pages = sorted(REFERENCE.glob("*.md"))
    return {page.name: re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE) for page in pages}


def described() -> List[str]:
    return [path for paths in directives().values() for path in paths]


def test_each_public_name_is_on_one_page_of_the_reference() -> None:
    times = Counter(definition(path).path for path in described())
    assert {path: times[path] for path in PUBLIC if times[path] != 1} == {}
    assert set(times) - set(PUBLIC) == set()


def test_the_reference_calls_names_as_users_import_them() -> None:
    public = {f"{module}.{name}" for module, names in public_names().items() for name in names}
    assert [path for path in described() if path not in public] == []
    # Not by the module that a name comes from, where the package has it, too.
    inner = {f"{NAME}.{path.rpartition('.')[2]}": path for path in described() if path.count(".") > 1}
    of_package = {f"{NAME}.{name}" for name in public_names()[NAME]}
    same = [path for short, path in inner.items() if short in of_package and definition(short) == definition(path)]
    assert same == []


def test_the_index_links_each_page_and_the_site_has_it() -> None:
    index = (REFERENCE / "index.md").read_text(encoding="utf-8")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in directives():
        assert page == "index.md" or f"]({page})" in index
        assert f": reference/{page}\n" in config


def test_since_when_there_is_a_name_is_known() -> None:
    since: Dict[str, str] = json.loads((ROOT / "docs" / "_since.json").read_text(encoding="utf-8"))
    assert list(since) == sorted(since)
    assert set(described()) - set(since) == set()
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = {_version(), *re.findall(r"^## \[?([\d.]+)", changelog, re.MULTILINE)}
    assert set(since.values()) <= versions
    # What is no name on a page is a method or attribute that came later than its class.
    for path in set(since) - set(described()):
        owner, _, member = path.rpartition(".")
        assert member in members(definition(owner))
        assert since[owner] != since[path]


def _version() -> str:
    node = MODULES[NAME].defined["__version__"]
    assert isinstance(node, ast.Assign)
    return str(ast.literal_eval(node.value))
