"""docs/troubleshooting.md quotes what the package says: each message that it shows is one of the package's.

Most messages stand below a snippet that produces them; tests/runtime/test_docs.py runs those. The fixed parts of the
others, between the `…`, must be in the package's source.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Set

import pytest

from runtimeuse_sync import QueryOptions, QueryResult, TextResult

from .support.markdown import quotes, snippets

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

#: What stands in messages and is not fixed, or not ours.
VARIABLE = re.compile("…|RUNTIMEUSE_WS_URL|^ResourceWarning: ")

#: What Python itself says of a wrong call; `test_what_python_says` holds them to it.
PYTHON_S_OWN = ("got an unexpected keyword argument", "object QueryResult can't be used in 'await' expression")

#: Shorter parts of a message, such as `s`, are in any source.
SHORTEST = 4

#: What a message must have at least, in its longest fixed part.
ENOUGH = 8


class Row(NamedTuple):
    """A row of the tables: the messages, and the heading that it leads to."""

    messages: List[str]
    heading: str


def rows() -> List[Row]:
    found = re.findall(r"^\| (.*) \| \[[^\]]+\]\(#([\w-]+)\) \|$", PAGE, re.MULTILINE)
    return [Row([each for each in re.findall(r"`([^`]+)`", cell) if not each.isdigit()], to) for cell, to in found]


def sections() -> List[str]:
    """Returns the sections of the symptoms, each with its heading."""
    return re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]


def anchor(section: str) -> str:
    return re.sub(r"[^\w -]", "", section.partition("\n")[0].lower()).replace(" ", "-")


def fixed_texts() -> Set[str]:
    """Returns the fixed parts of all texts in the package, docstrings left out."""
    found: Set[str] = set()
    for path in (ROOT / "runtimeuse_sync").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                found.add(node.value)
    return found


TEXTS = "\n\0".join(fixed_texts())
PRINTED = "\n".join(snippet.prints for snippet in snippets(PAGE))


def parts(message: str) -> List[str]:
    """Returns the fixed parts of a message that are long enough to be looked for."""
    return [each.strip() for each in VARIABLE.split(message) if len(each.strip()) >= SHORTEST]


def missing(message: str) -> List[str]:
    """Returns the fixed parts of a message that neither the package has nor a snippet prints."""
    return [part for part in parts(message) if not any(part in each for each in (TEXTS, PRINTED, *PYTHON_S_OWN))]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.heading)
def test_the_messages_of_a_row_are_the_package_s(row: Row) -> None:
    for message in row.messages:
        assert missing(message) == [], message


def test_what_python_says() -> None:
    unexpected, awaited = PYTHON_S_OWN

    async def ported(result: Any) -> None:
        await result

    with pytest.raises(TypeError, match=unexpected):
        QueryOptions(timout=10)  # type: ignore[call-arg]  # that is the point
    # Python 3.14 says it in other words.
    said = re.escape(awaited) if sys.version_info < (3, 14) else "QueryResult"
    with pytest.raises(TypeError, match=said):
        ported(QueryResult(data=TextResult(text="4"))).send(None)


def test_the_quoted_lines_are_the_package_s() -> None:
    lines = [line for block in quotes(PAGE) for line in block.text.splitlines()]
    assert len(lines) > 20
    assert [(line, missing(line)) for line in lines if missing(line)] == []


def test_each_message_has_something_to_look_for() -> None:
    messages = [message for row in rows() for message in row.messages]
    assert len(messages) > 60
    too_short = [each for each in messages if max(map(len, parts(each)), default=0) < ENOUGH and not each[:4].isdigit()]
    assert [each for each in too_short if each not in ("TLS: …",)] == []


@pytest.mark.parametrize(
    "changed",
    [
        "the handshake was never answered within … s",
        "the session is not opened: use it as a context manager, or call open()",
        "model is not set: give model=… to the call",
    ],
)
def test_a_message_that_the_package_does_not_have_is_found_out(changed: str) -> None:
    assert missing(changed) != []


def test_each_row_leads_to_a_section_that_shows_its_messages() -> None:
    found = {anchor(each): each for each in sections()}
    for row in rows():
        assert row.heading in found, row.heading
        text = " ".join(found[row.heading].split())
        for message in row.messages:
            for part in parts(message):
                assert " ".join(part.split()) in text, (row.heading, part)


def test_each_section_is_in_the_tables() -> None:
    assert len(sections()) > 40
    assert {anchor(each) for each in sections()} - {row.heading for row in rows()} == set()
