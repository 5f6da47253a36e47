"""CONTRIBUTING.md, PROMISES.md and tox.ini name what there is: what they name exists, and nothing is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, List, Set

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "runtimeuse_sync"
PROMISES = ROOT / "tests" / "promises"

#: The section of docs/PROMISES.md for tests that belong to no single promise.
ALL_OF_THEM = "All of them"


def promises() -> Dict[str, List[Path]]:
    """Returns the test modules that docs/PROMISES.md names for each promise."""
    sections = re.split(r"^## ", (ROOT / "docs" / "PROMISES.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        name, _, rest = section.partition("\n")
        _, _, tests = rest.partition("\nTests: ")
        found[name.strip()] = [ROOT / path for path in re.findall(r"`([^`]+)`", tests)]
    return found


def rows() -> List[List[Path]]:
    """Returns the modules and tests that each row of CONTRIBUTING.md's table of features names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| feature | modules | tests |\n")[2].partition("\n\n")[0].splitlines()[1:]
    found = []
    for row in table:
        _, _, modules, tests, _ = row.split("|")
        found.append([PACKAGE / path for path in code(modules)] + [ROOT / "tests" / path for path in code(tests)])
    return found


def code(text: str) -> List[str]:
    return re.findall(r"`([^`]+)`", text)


def client_modules() -> Set[Path]:
    modules = {path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    return {path for path in modules if PACKAGE / "runtime" not in path.parents}


def test_every_promise_names_its_tests() -> None:
    found = promises()
    assert len(found) == 15 + len([ALL_OF_THEM])
    assert [name for name, tests in found.items() if not tests] == []


def test_every_test_that_a_promise_names_exists() -> None:
    assert [path for tests in promises().values() for path in tests if not path.is_file()] == []


def test_every_test_that_tox_names_exists() -> None:
    # What `quick` leaves out would be run again under another name, without a word.
    named = re.findall(r"\btests/[\w./]*\w", (ROOT / "tox.ini").read_text(encoding="utf-8"))
    assert len(named) > 50
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_module_of_tests_of_promises_is_named() -> None:
    named = {path for tests in promises().values() for path in tests}
    assert set(PROMISES.glob("test_*.py")) - named == set()


def test_tests_of_promises_cite_them_by_name() -> None:
    for name, tests in promises().items():
        for path in tests:
            if path.parent == PROMISES and name != ALL_OF_THEM and "regressions" not in path.name:
                cited = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
                assert name.lower() in cited.lower(), path


def test_the_table_of_features_names_what_exists() -> None:
    assert len(rows()) > 20
    assert [path for row in rows() for path in row if not path.exists()] == []


def test_the_table_of_features_names_every_module() -> None:
    assert client_modules() - {path for row in rows() for path in row} == set()


def test_how_it_works_names_what_exists() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    names = {path.name for path in client_modules()}
    missing = []
    for path in set(re.findall(r"`([\w/]+\.py)`", text)):
        # Within a row, a module without a folder is in the folder of the one before it.
        exists = (PACKAGE / path).is_file() or ("/" not in path and path in names)
        if not exists:
            missing.append(path)
    assert missing == []


def test_the_path_of_a_query_is_short() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    path = text.partition("## The path, module by module")[2].partition("is beside that path")[0]
    entered = re.findall(r"^\| `([\w/]+\.py)` \|", path, flags=re.MULTILINE)
    assert len(entered) > 20
    assert len(set(entered)) <= 18
    assert [module for module in set(entered) if entered.count(module) > 2] == []


def test_every_file_that_is_linked_exists() -> None:
    for page in (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "PROMISES.md", ROOT / "docs" / "how-it-works.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert links, page
        assert [link for link in links if not (page.parent / link).exists()] == []
