"""The pages about errors say the truth: docs/errors.md has all classes and attributes, docs/reliability.md all faults.

Their snippets are run by tests/runtime/test_docs.py.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any, Dict, List, Set, Type

import pytest

import runtimeuse_sync
from runtimeuse_sync import RuntimeUseError
from runtimeuse_sync.files import FileError
from runtimeuse_sync.results import WrongKindOfResult
from runtimeuse_sync.runtime import RequestFailedError

from .support.markdown import blocks

ROOT = Path(__file__).resolve().parents[1]
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")

#: Public, and not below `RuntimeUseError`.
OUTSIDE: List[Type[Exception]] = [WrongKindOfResult, RequestFailedError]

#: What `OSError` has and the package sets.
OS_ERROR = {"errno": "Optional[int]", "filename": "Optional[str]", "strerror": "Optional[str]"}

#: What constructors set besides their arguments.
SET_BESIDES = {"error": "str", "status": "Optional[int]"}

_TABLE = re.compile(r"^\| attribute \| type \| what it is \|\n\| --- \| --- \| --- \|\n((?:\|.*\n)+)", re.MULTILINE)


def public_errors() -> Set[Type[RuntimeUseError]]:
    """Returns the errors of all modules that users may import, found in the modules' source."""
    modules = [runtimeuse_sync.__name__]
    for module in pkgutil.walk_packages(runtimeuse_sync.__path__, f"{runtimeuse_sync.__name__}."):
        text = Path(ROOT, *module.name.split(".")).with_suffix(".py")
        if text.is_file() and re.search(
            r"^class \w+(Error|Exception)\(", text.read_text(encoding="utf-8"), re.MULTILINE
        ):
            modules.append(module.name)
    assert len(modules) > 5
    found: Set[Type[RuntimeUseError]] = set()
    for name in modules:
        found.update(each for each in vars(importlib.import_module(name)).values() if is_error(each))
    return found


def is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, RuntimeUseError) and not value.__name__.startswith("_")


def section(name: str) -> str:
    """Returns the text below the heading of a class."""
    assert ERRORS.count(f"\n### {name}\n") == 1, name
    return ERRORS.partition(f"\n### {name}\n")[2].partition("\n#")[0]


def attributes(error: Type[Exception]) -> Dict[str, str]:
    """Returns the public attributes of a class of errors, with their types as the page writes them."""
    found = {"source_id": "Optional[str]"} if issubclass(error, RuntimeUseError) else {}
    made: Any = error("x")
    for name, parameter in inspect.signature(type(made).__init__).parameters.items():
        if name in ("self", "message", "args", "kwargs") or (error is RequestFailedError and name == "error"):
            continue
        found[name] = str(parameter.annotation)
    for name, value in inspect.getmembers(error, lambda each: isinstance(each, property)):
        found[name] = inspect.signature(value.fget).return_annotation
    found.update({name: SET_BESIDES[name] for name in vars(made) if not name.startswith("_") and name not in found})
    if isinstance(made, OSError) and not isinstance(made, (ConnectionError, TimeoutError)):
        found.update(OS_ERROR)
    return {name: as_written(text, made, name) for name, text in found.items()}


def as_written(text: Any, made: Exception, name: str) -> str:
    """Returns an annotation as text. A list that may be left out is a list all the same: it is never `None`."""
    written = re.sub(r"\btyping\.|\bruntimeuse_sync\.\w+\.|<class '(\w+)'>", r"\1", str(text))
    # As Python 3.8 writes it.
    written = re.sub(r"\bUnion\[(.*), NoneType\]$", r"Optional[\1]", written)
    if isinstance(getattr(made, name, None), list):
        written = re.sub(r"^Optional\[(.*)\]$", r"\1", written)
    return "List[OutputProblem]" if name == "errors" else written


def test_the_tree_of_errors_is_the_real_one() -> None:
    (tree,) = [block.text for block in blocks(ERRORS) if block.text.startswith("RuntimeUseError\n")]
    above: List[Any] = [RuntimeUseError]
    named: Set[Any] = {RuntimeUseError}
    by_name = {each.__name__: each for each in public_errors()}
    for line in tree.splitlines()[1:]:
        found = re.match(r"([│├└─ ]+)(\w+)", line)
        assert found is not None, line
        depth = len(found.group(1)) // 4
        error = by_name[found.group(2)]
        assert error.__bases__[0] is above[depth - 1], line
        for also in re.findall(r"also an? (\w+)", line):
            assert issubclass(error, by_name.get(also) or getattr(builtins, also)), line
        above[depth:] = [error]
        named.add(error)
    assert named == public_errors()


def test_each_error_has_a_section_and_none_else() -> None:
    expected = {each.__name__ for each in [*public_errors(), *OUTSIDE]}
    assert set(re.findall(r"^### (\w+)$", ERRORS, re.MULTILINE)) == expected


@pytest.mark.parametrize("error", sorted([*public_errors(), *OUTSIDE], key=str), ids=lambda each: each.__name__)
def test_a_section_has_the_attributes_of_its_class(error: Type[Exception]) -> None:
    written = written_of(error)
    if error.__bases__[0] is FileError:
        assert written == {}
        assert attributes(error) == attributes(FileError)
    elif written:
        assert written == attributes(error)
    elif error is WrongKindOfResult:
        assert attributes(error) == {}
    else:
        assert "no attributes but `source_id`" in " ".join(section(error.__name__).split())
        assert attributes(error) == {"source_id": "Optional[str]"}


def written_of(error: Type[Exception]) -> Dict[str, str]:
    """Returns the attributes that the page gives a class, with their types."""
    tables = _TABLE.findall(section(error.__name__))
    assert len(tables) <= 1
    return dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \| \S", tables[0] if tables else "", re.MULTILINE))


def test_each_error_says_whether_its_call_may_be_repeated() -> None:
    table = ERRORS.partition("| error | what has happened | repeat the call? |\n")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines())))
    # Where a class is not named, its base class is: "other `FileError`s".
    missing = {each for each in public_errors() if not {above.__name__ for above in each.__mro__} & named}
    assert missing == {RuntimeUseError}


def test_the_keys_of_metadata_are_those_of_the_code() -> None:
    table = ERRORS.partition("| key | in | what it is |\n")[2].partition("\n\n")[0]
    keys = {key for row in table.splitlines()[1:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(keys) > 5
    sources = [
        ROOT / "runtimeuse_sync" / path
        for path in ("_session/reader.py", "_session/callbacks.py", "runtime/failures.py")
    ]
    written = {
        key for path in sources for key in re.findall(r'"(\w+)": |metadata\["(\w+)"\] =', path.read_text("utf-8"))
    }
    assert keys - {key for pair in written for key in pair} == set()


def test_every_module_that_injects_faults_is_named() -> None:
    modules = {path.name for path in (ROOT / "tests" / "reliability").glob("test_*.py")} - {"test_tally.py"}
    assert len(modules) > 20
    assert modules - set(re.findall(r"`(test_\w+\.py)`", RELIABILITY)) == set()


def test_the_table_of_faults_adds_up() -> None:
    table = RELIABILITY.partition("| area | faults injected | tries | survived | tests |\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[1:]]
    assert len(rows) >= 20
    for area, faults, tried, survived, tests in rows:
        assert tried == survived, area
        counts = [number(each) for each in re.findall(r"\(([\d,]+)", faults)]
        assert len(counts) < 2 or sum(counts) == number(tried), area
        for path in re.findall(r"`([\w/.]+)`", tests):
            assert (ROOT / path if "/" in path else ROOT / "tests" / "reliability" / path).is_file(), path


def number(text: str) -> int:
    return int(text.replace(",", ""))
