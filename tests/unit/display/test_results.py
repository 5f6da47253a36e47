"""How results, sessions and clients look in IPython and in notebooks."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any, List, Optional, Tuple

import pytest

from runtimeuse_sync import (
    CommandExecutionResult,
    CommandResultItem,
    QueryResult,
    RuntimeUseClient,
    StructuredOutputResult,
    TextResult,
    TypedQueryResult,
)
from runtimeuse_sync.testing import FakeRuntime, assistant_message, text_result

from ...support.packages import needs

#: What must never be obeyed: by a notebook, or by a terminal.
HOSTILE = "<script>alert(1)</script> \x1b]52;c;aGk=\x07\x1b[31mred $x$ </pre></details>"


class Printer:
    """What IPython gives to `_repr_pretty_`."""

    def __init__(self, depth: int = 1) -> None:
        self.stack = list(range(depth))
        self.printed = ""

    def text(self, text: str) -> None:
        self.printed += text


def pretty(shown: Any, depth: int = 1, *, cycle: bool = False) -> str:
    printer = Printer(depth)
    shown._repr_pretty_(printer, cycle)
    return printer.printed


class Tags(HTMLParser):
    """Checks that all tags are closed in order, and notes what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.open: List[str] = []
        self.names: List[str] = []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.open.append(tag)
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(shown: Any) -> str:
    """Returns an object's HTML, which is sound and has no tags but ours."""
    text: str = shown._repr_html_()
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    assert set(tags.names) <= {"div", "pre", "code", "b", "details", "summary", "table", "tr", "td"}
    return text


def read(page: str) -> str:
    """Returns the text of a page."""
    return html.unescape(re.sub("<[^>]*>", "|", page))


def lines(first: int, last: int) -> str:
    return "\n".join(map(str, range(first, last + 1)))


def result(text: str, **metadata: Any) -> QueryResult:
    return QueryResult(TextResult(text), metadata or None)


# Answers.


def test_an_answer_in_ipython() -> None:
    assert pretty(result("4")) == "QueryResult (text)\n4"
    assert pretty(result("4\n", tokens=3)) == "QueryResult (text)\n4\nmetadata: {'tokens': 3}"
    assert pretty(result("")) == "QueryResult (text)\n(empty)"
    structured = QueryResult(StructuredOutputResult({"ä": 1}))
    assert pretty(structured) == 'QueryResult (structured output)\n{\n  "ä": 1\n}'
    typed = TypedQueryResult(StructuredOutputResult({"n": 1}), None, 1)
    assert pretty(typed) == 'TypedQueryResult (structured output)\n{\n  "n": 1\n}'


def test_a_long_answer_in_ipython() -> None:
    assert pretty(result(lines(1, 50))) == f"QueryResult (text)\n{lines(1, 40)}\n… 10 lines more: .text"
    structured = pretty(QueryResult(StructuredOutputResult({"list": list(range(50))})))
    assert structured.endswith("\n… 14 lines more: .structured_output")
    assert len(pretty(result("x" * 10_000_000, answer="y" * 10_000_000))) < 10_000


def test_inside_of_something_else_all_is_one_line() -> None:
    assert pretty(result("two\nlines"), 2) == "QueryResult('two⏎lines')"
    assert pretty(result("it's"), cycle=True) == 'QueryResult("it\'s")'
    assert len(pretty(result("x" * 10_000_000), 2)) < 100
    assert pretty(QueryResult(StructuredOutputResult({"a": 1})), 2) == 'QueryResult({⏎  "a": 1⏎})'
    items = [CommandResultItem("make test", 2), CommandResultItem("ls", 0)]
    assert pretty(items[0], 2) == "CommandResultItem('make test', exit_code=2)"
    assert pretty(CommandExecutionResult(items), 2) == "CommandExecutionResult(2 commands, exit codes: 2, 0)"
    assert pretty(CommandExecutionResult([]), 2) == "CommandExecutionResult(0 commands)"
    assert pretty(CommandExecutionResult(items * 50), 2).endswith(
        "(100 commands, exit codes: 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, …)"
    )


def test_an_answer_in_a_notebook() -> None:
    short = page(result("one\ntwo", tokens=3))
    assert "QueryResult (text)" in short
    assert '">one\ntwo</pre>' in short
    assert read(short).count("metadata") == 1
    assert '"tokens": 3' in read(short)
    assert "<details>" not in page(result("one\ntwo"))
    assert '"ä": 1' in read(page(QueryResult(StructuredOutputResult({"ä": 1}))))


def test_a_long_answer_in_a_notebook_is_folded() -> None:
    long = page(result(lines(1, 50)))
    shown, _, folded = long.partition("<details>")
    assert shown.endswith(f">{lines(1, 20)}</pre>")
    assert "<summary><code>30 lines more</code></summary>" in folded
    assert f">{lines(21, 50)}</pre></details>" in folded


def test_a_page_is_not_larger_than_a_notebook_can_bear() -> None:
    huge = "x" * 5_000_000
    for shown in (
        result(huge),
        result("\n" * 5_000_000 + "x"),
        result("a", answer=huge),
        CommandResultItem("c" * 5_000_000, 0, huge, huge),
        CommandExecutionResult([CommandResultItem(f"{number}", 0, huge, huge) for number in range(120)]),
    ):
        assert len(page(shown)) < 500_000
    assert "4,900,000 characters more: .text" in read(page(result(huge)))


def test_what_comes_out_of_the_sandbox_is_escaped() -> None:
    item = CommandResultItem(HOSTILE, 1, HOSTILE, HOSTILE)
    for shown in (
        result(HOSTILE, **{HOSTILE: HOSTILE}),
        QueryResult(StructuredOutputResult({HOSTILE: HOSTILE}), {"a": HOSTILE}),
        item,
        CommandExecutionResult([item]),
    ):
        text = page(shown)
        assert "&lt;script&gt;" in text
        assert "\x1b" not in text + pretty(shown) + pretty(shown, 2)
        assert "\x07" not in text + pretty(shown) + pretty(shown, 2)


@pytest.mark.parametrize("shown", [result("half \ud83d"), CommandResultItem("half \ud83d", 0, "\ud83d")])
def test_half_a_character_can_be_sent(shown: Any) -> None:
    assert "half \\ud83d" in (page(shown) + pretty(shown)).encode().decode()


# Commands.


def test_commands_in_ipython() -> None:
    items = [CommandResultItem("ls", 0, "a\nb\n"), CommandResultItem("make", 2, lines(1, 50), "no rule\n")]
    assert pretty(CommandExecutionResult(items)) == (
        "CommandExecutionResult (2 commands)\n"
        "$ ls  [exit code 0]\na\nb\n"
        f"$ make  [exit code 2]\n… 10 lines before: .results[1].stdout\n{lines(11, 50)}\nstderr:\nno rule"
    )
    assert pretty(items[1]).startswith("CommandResultItem\n$ make  [exit code 2]\n… 10 lines before: .stdout\n11\n")
    assert pretty(CommandResultItem("sleep 9", None)) == "CommandResultItem\n$ sleep 9  [not ended yet]"
    assert pretty(CommandExecutionResult([])) == "CommandExecutionResult (0 commands)"


def test_many_commands_in_ipython() -> None:
    items = [CommandResultItem(f"command {number}", 0, lines(1, 1000)) for number in range(1000)]
    shown = pretty(CommandExecutionResult(items)).splitlines()
    assert len(shown) < 1000
    assert shown[-1] == "… 900 commands more: .results"


def test_commands_in_a_notebook() -> None:
    items = [CommandResultItem("ls", 0, "a\n"), CommandResultItem("make", 2, lines(1, 50), "no rule\n")]
    text = page(CommandExecutionResult(items))
    assert "CommandExecutionResult (2 commands)" in text
    good, _, bad = text.partition("$ make")
    assert "$ ls  [exit code 0]" in good
    assert "<details>" not in good
    assert "<summary><code>30 lines before</code></summary><pre" in bad
    assert f">{lines(31, 50)}</pre>" in bad.partition("</details>")[2]
    assert "no rule" in bad
    assert "not ended yet" in page(CommandResultItem("sleep 9", None))
    many = CommandExecutionResult([CommandResultItem("x", 0)] * 1000)
    assert "… 900 commands more: .results" in page(many)


# Sessions and clients.


def test_sessions_and_clients() -> None:
    secret = "t0ken-of-the-url"
    client = RuntimeUseClient(
        f"ws://h:1/{secret}?t={secret}", model="m", headers={"A": secret}, agent_env={"K": secret}
    )
    session = client.session()
    assert pretty(client) == repr(client) == "RuntimeUseClient('ws://h:1')"
    assert pretty(session) == repr(session) == "<RuntimeUseSession ws://h:1 new>"
    assert read(page(client)).replace("|", " ").split() == [
        "RuntimeUseClient",
        "runtime",
        "ws://h:1",
        "one-shot",
        "calls",
        "0",
        "in",
        "progress",
    ]
    assert "new" in page(session)
    assert secret not in page(client) + page(session)


def test_a_session_says_what_it_does() -> None:
    pages: List[str] = []
    client = RuntimeUseClient(transport=FakeRuntime([[assistant_message("hi"), *text_result("1")]]), model="m")
    with client.session() as session:
        pages.append(page(session))
        session.query("p", on_assistant_message=lambda _: pages.append(page(session)))
    pages.append(page(session))
    assert [re.findall("new|open|closed|[0-9] in progress or waiting", read(each)) for each in pages] == [
        ["open", "0 in progress or waiting"],
        ["open", "1 in progress or waiting"],
        ["closed", "0 in progress or waiting"],
    ]


def test_what_is_shown_does_not_change_what_is() -> None:
    shown = result("4")
    assert repr(shown) == "QueryResult(data=TextResult(text='4', type='text'), metadata=None)"
    assert shown == result("4")
    assert shown.to_dict() == {"data": {"text": "4", "type": "text"}, "metadata": None}


@needs("IPython")
def test_by_ipython_itself() -> None:
    from IPython.lib.pretty import pretty as by_ipython

    item = CommandResultItem("ls", 0, "a\n")
    assert by_ipython(result("4")) == "QueryResult (text)\n4"
    assert by_ipython({"a": [item]}) == "{'a': [CommandResultItem('ls', exit_code=0)]}"
    assert by_ipython(CommandExecutionResult([item])) == "CommandExecutionResult (1 command)\n$ ls  [exit code 0]\na"
