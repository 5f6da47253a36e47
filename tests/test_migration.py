"""The page about the async client says the truth about both clients: each pair of snippets runs, and prints it.

The first block of Python starts the runtime for both, the last one stops it. Every other one is the second of a pair,
after a block of `py`, which is for the async client and may await. What follows is what both print, or a block for each
of them, whose first line is that of the code.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import pytest

from .support.markdown import blocks
from .support.servers import PATIENCE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "migration.md"
THEIRS, OURS = "# runtimeuse-client\n", "# runtimeuse_sync\n"


class Pair(NamedTuple):
    """What both clients do, and what each prints."""

    theirs: str
    ours: str
    they_print: str
    we_print: str


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def parts() -> List[Tuple[str, str]]:
    """Returns the language and the text of each block of the page."""
    return [(block.language, block.text) for block in blocks(page())]


def pairs() -> Iterator[Pair]:
    rest = parts()[1:-1]
    while rest:
        (first, theirs), (second, ours) = rest[:2]
        shown = [text for language, text in rest[2:4] if language == "text"]
        assert (first, second) == ("py", "python"), ours
        assert theirs.startswith(THEIRS), theirs
        assert ours.startswith(OURS), ours
        if shown[0].startswith(THEIRS):
            assert shown[1].startswith(OURS), ours
            yield Pair(theirs, ours, shown[0][len(THEIRS) :], shown[1][len(OURS) :])
            rest = rest[4:]
        else:
            yield Pair(theirs, ours, shown[0], shown[0])
            rest = rest[3:]


def run(code: str, namespace: Dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec", dont_inherit=True), namespace)
    return printed.getvalue()


async def run_awaiting(code: str, namespace: Dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        compiled = compile(code, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        awaited = eval(compiled, namespace)
        if awaited is not None:
            await asyncio.wait_for(awaited, PATIENCE)
    return printed.getvalue()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dict[str, Any]]:
    monkeypatch.chdir(tmp_path)
    (language, begin), (_, end) = parts()[0], parts()[-1]
    assert language == "python"
    names: Dict[str, Any] = {"__name__": "migration"}
    run(begin, names)
    try:
        yield names
    finally:
        run(end, names)


def test_what_this_client_does(shared: Dict[str, Any]) -> None:
    found = list(pairs())
    assert len(found) > 8
    for pair in found:
        assert run(pair.ours, shared) == pair.we_print, pair.ours


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the async client needs Python 3.11 or later")
def test_what_the_async_client_does(shared: Dict[str, Any]) -> None:
    pytest.importorskip("runtimeuse_client")

    async def all_of_them() -> None:
        for pair in pairs():
            assert await run_awaiting(pair.theirs, shared) == pair.they_print, pair.theirs

    asyncio.run(all_of_them())


def test_the_table_is_python() -> None:
    table = page().partition("| async | here |")[2].partition("\n\n")[0].strip().splitlines()[1:]
    assert table
    for row in table:
        left, right = row.strip("| ").split(" | ")
        for cell, flags in ((left, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), (right, 0)):
            for code in re.findall(r"`([^`]+)`", cell):
                if code != "await":
                    compile(code.replace(": …", ": ..."), row, "exec", ast.PyCF_ONLY_AST | flags, dont_inherit=True)
