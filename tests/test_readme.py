"""The README says the truth: its snippets run and print what it shows, its lists name what there is.

As the README says, the first snippet is run first, and each of the others needs nothing but that one. A block of `text`
right below a snippet is what it prints; a snippet without one prints nothing.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"

INSTALL_AND_RUN = (
    'python3 -m venv .venv && .venv/bin/pip install -q -e ".[runtime]" && .venv/bin/python examples/quickstart.py'
)
INSTALL_AND_TEST = 'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/python -m pytest'

FENCE = re.compile(r"^```(\w*)$")


class Block(NamedTuple):
    """A fenced block: its language, the number of its first line, its text."""

    language: str
    line: int
    text: str


def blocks() -> List[Block]:
    found: List[Block] = []
    opened: Optional[Tuple[str, int]] = None
    lines = README.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        fence = FENCE.match(line)
        if fence and opened is None:
            opened = (fence.group(1), number + 1)
        elif fence and opened is not None:
            assert not fence.group(1), f"line {number}: a block begins inside another one"
            found.append(Block(*opened, "".join(f"{each}\n" for each in lines[opened[1] - 1 : number - 1])))
            opened = None
    assert opened is None, "the last block is not closed"
    return found


def snippets() -> Iterator[Tuple[Block, str]]:
    """Yields each Python block with what it is said to print."""
    all_blocks = blocks()
    for block, following in zip(all_blocks, [*all_blocks[1:], None]):
        if block.language == "python":
            end = block.line + len(block.text.splitlines())
            shown = following is not None and following.language == "text" and following.line == end + 2
            yield block, following.text if shown and following is not None else ""


def test_every_snippet_runs_and_prints_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (first, first_prints), *others = snippets()
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
    if "files" in namespace and namespace["files"].socket.fileno() >= 0:
        namespace["files"].shutdown()
        namespace["files"].server_close()
    if "runtime" in namespace:
        namespace["runtime"].stop()
    if "workspace" in namespace:
        namespace["workspace"].cleanup()


def test_the_two_commands_are_there_each_on_a_line_of_its_own() -> None:
    fenced = [line for block in blocks() for line in block.text.splitlines()]
    assert [line for line in fenced if "-m pytest" in line] == [INSTALL_AND_TEST]
    assert [line for line in fenced if "quickstart.py" in line] == [INSTALL_AND_RUN]


def test_the_table_for_those_who_come_from_the_async_client_is_python() -> None:
    text = README.read_text(encoding="utf-8")
    table = text.partition("| async | here |")[2].partition("\n\n")[0].strip().splitlines()[1:]
    assert table
    for row in table:
        left, right = row.strip("| ").split(" | ")
        for cell, flags in ((left, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), (right, 0)):
            for code in re.findall(r"`([^`]+)`", cell):
                if code != "await":
                    compile(code.replace(": …", ": ..."), row, "exec", ast.PyCF_ONLY_AST | flags, dont_inherit=True)


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
