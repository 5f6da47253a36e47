"""The README says the truth: its snippets run and print what it shows, its figures are those of the pages behind it.

As the README says, the first snippet is run first, and each of the others needs nothing but that one. A block of `text`
right below a snippet is what it prints; a snippet without one prints nothing.
"""

from __future__ import annotations

import configparser
import contextlib
import io
import re
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

from .support.markdown import Block, blocks, snippets

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"

#: Pages of the site alone: its homepage, which has in its place what README has.
OF_THE_SITE = {"index.md"}

INSTALL_AND_RUN = (
    'python3 -m venv .venv && .venv/bin/pip install -q -e ".[runtime]" && .venv/bin/python examples/quickstart.py'
)
INSTALL_AND_TEST = 'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/python -m pytest'


def test_every_snippet_runs_and_prints_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (first, first_prints), *others = snippets(text())
    shared: Dict[str, Any] = {"__name__": "readme"}
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(clean_up, shared)
        assert run(first, shared) == first_prints
        for snippet, prints in others:
            own = dict(shared)
            cleaning.callback(clean_up, own)
            assert run(snippet, own) == prints, f"the snippet at README.md:{snippet.line}"
    assert list(tmp_path.iterdir()) == [], "snippets write into their workspace only"


def run(snippet: Block, namespace: Dict[str, Any]) -> str:
    """Runs a snippet and returns what it prints."""
    # With the README's own line numbers in tracebacks.
    code = compile("\n" * (snippet.line - 1) + snippet.text, str(README), "exec", dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def clean_up(namespace: Dict[str, Any]) -> None:
    """Ends what a snippet that failed has left; changes nothing where all went well."""
    if "runtime" in namespace:
        namespace["runtime"].stop()
    if "workspace" in namespace:
        namespace["workspace"].cleanup()


def test_the_two_commands_are_there_each_on_a_line_of_its_own() -> None:
    fenced = [line for block in blocks(text()) for line in block.text.splitlines()]
    assert [line for line in fenced if "-m pytest" in line] == [INSTALL_AND_TEST]
    assert [line for line in fenced if "quickstart.py" in line] == [INSTALL_AND_RUN]


def test_it_is_short() -> None:
    assert len(text().splitlines()) <= 250


def test_every_extra_is_named() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = set(re.findall(r"`\[(\w+)\]`", text()))
    assert named == set(setup["options.extras_require"]) - {"test", "docs", "lint", "dev", "benchmarks"}


def test_the_figures_of_speed_are_those_of_the_page_about_it() -> None:
    figures = table(text(), "| work | unit | ours | async | ratio |")
    measured = {row[0]: row for row in table(page("performance.md"), "| work | unit | ours | async | raw socket |")}
    assert len(figures) >= 5
    for work, unit, ours, theirs, ratio in figures:
        assert [unit, ours, theirs] == measured[work][1:4], work
        assert ratio == measured[work][5], work


def test_the_figures_of_reliability_are_those_of_the_page_about_it() -> None:
    rows = table(page("reliability.md"), "| area | faults injected |")
    tries = sum(int(row[2].replace(",", "")) for row in rows)
    assert f"{tries:,} tries in {len(rows)} areas" in text()


def test_every_page_of_the_docs_can_be_found_from_here() -> None:
    found: Set[Path] = set()
    to_read = [README]
    while to_read:
        reading = to_read.pop()
        found.add(reading)
        linked = {(reading.parent / link).resolve() for link in links(reading.read_text(encoding="utf-8"))}
        to_read += [each for each in linked - found if each.suffix == ".md" and each.exists()]
    assert {each for each in DOCS.glob("*.md") if each.name not in OF_THE_SITE} - found == set()


def test_every_file_that_is_linked_exists() -> None:
    assert links(text())
    assert [link for link in links(text()) if not (ROOT / link).exists()] == []


def text() -> str:
    return README.read_text(encoding="utf-8")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def links(page: str) -> List[str]:
    """Returns the files that a page links to."""
    return re.findall(r"\]\(([^)#:]+)[^):]*\)", page)


def table(page: str, head: str) -> List[List[str]]:
    """Returns the cells of the table whose first line begins so."""
    _, found, rest = page.partition(f"\n{head}")
    assert found, head
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("|")]
