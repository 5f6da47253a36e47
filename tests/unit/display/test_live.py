"""The views of a run: text on stdout, or a notebook's display."""

from __future__ import annotations

import io
import math
import re
import sys
import types
from typing import Any, Dict, List, Optional, Tuple

import pytest

from runtimeuse_sync._display import live
from runtimeuse_sync._display.live import INTERVAL, TICK, NotebookView, PlainView, View, view_for

from ...support.doubles import FakeClock


class Pages:
    """A notebook's front end: the pages that it was told to show, and whether each replaced the one before."""

    def __init__(self, *secrets: str) -> None:
        self.clock = FakeClock()
        self.texts: List[str] = []
        self.html = ""
        self.updates: List[bool] = []
        self.view = NotebookView(self._publish, "query", secrets, self.clock)

    def _publish(self, page: Dict[str, str], update: bool) -> None:
        assert sorted(page) == ["text/html", "text/plain"]
        self.texts.append(page["text/plain"])
        self.html = page["text/html"]
        self.updates.append(update)


def plain(*secrets: str, stream: Optional[io.StringIO] = None) -> Tuple[View, io.StringIO]:
    out = stream or io.StringIO()
    return PlainView(out, secrets), out


# Text.


def test_text_is_written_as_it_comes() -> None:
    view, out = plain()
    view.add_printed("ab", "make")
    assert out.getvalue() == "ab"
    view.add_printed("c\n", "make")
    view.add_said("hi\nyou")
    assert out.getvalue() == "abc\nhi\nyou\n"
    view.end("done")
    assert out.getvalue() == "abc\nhi\nyou\n"
    assert view.due == math.inf
    view.refresh()


def test_each_speaker_begins_a_line() -> None:
    view, out = plain()
    for text, command in [("a", "1"), ("b", "1"), ("c", "2"), ("", "2")]:
        view.add_printed(text, command)
    view.add_said("hi")
    view.add_printed("d", "2")
    view.end("done")
    view.end("done")
    assert out.getvalue() == "ab\nc\nhi\nd\n"


def test_secrets_are_masked_wherever_the_text_is_cut() -> None:
    view, out = plain("hunter2")
    for piece in ("a hun", "ter2 b, hun"):
        view.add_printed(piece, "c")
    assert out.getvalue() == "a [REDACTED] b, "
    view.end("done")
    assert out.getvalue() == "a [REDACTED] b, hun\n"


def test_a_stream_gets_what_it_can_encode() -> None:
    raw = io.BytesIO()
    view = PlainView(io.TextIOWrapper(raw, encoding="ascii", newline=""), ())
    view.add_printed("ü \ud83d\n", "c")
    assert raw.getvalue() == b"\\xfc \\ud83d\n"
    out = io.StringIO()
    PlainView(out, ()).add_said("ü \ud83d")
    assert out.getvalue() == "ü \\ud83d\n"


# Notebooks.


def test_a_display_is_shown_and_then_updated() -> None:
    pages = Pages()
    pages.view.add_said("hi")
    assert pages.texts == ["query: running, 0.0 s, 1 message\nhi"]
    pages.clock.now += 2
    pages.view.add_printed("out\n", "c")
    pages.clock.now += 0.25
    pages.view.end("done")
    assert pages.texts[1:] == [
        "query: running, 2.0 s, 2 messages\nhi\nout",
        "query: done, 2.2 s, 2 messages\nhi\nout",
    ]
    assert pages.updates == [False, True, True]
    assert pages.view.due == math.inf


def test_many_messages_make_few_updates() -> None:
    pages = Pages()
    for number in range(10_000):
        pages.view.add_said(f"message {number}")
        pages.clock.now += 1 / 5000
    assert 2 / INTERVAL <= len(pages.texts) <= 2 / INTERVAL + 1
    assert all(len(text) < 1000 for text in pages.texts)
    pages.view.end("done")
    assert pages.texts[-1].endswith("\nmessage 9998\nmessage 9999")
    assert "<summary><code>9,980 lines before</code></summary>" in pages.html
    assert "message 9000\n" in pages.html
    assert "message 5\n" not in pages.html


def test_the_last_of_many_messages_is_shown_in_time() -> None:
    pages = Pages()
    for said in ("a", "b"):
        pages.view.add_said(said)
    assert pages.texts[-1].endswith("\na")
    assert pages.view.due == pages.clock.now + INTERVAL
    pages.clock.now = pages.view.due
    pages.view.refresh()
    assert pages.texts[-1].endswith("\na\nb")
    assert pages.view.due == pages.clock.now + TICK


def test_the_time_goes_on_where_nothing_comes() -> None:
    pages = Pages()
    assert pages.view.due > pages.clock.now
    for _ in range(3):
        pages.clock.now = pages.view.due
        pages.view.refresh()
    assert [text.split(", ")[1] for text in pages.texts] == ["0.5 s", "1.5 s", "2.5 s"]


def test_a_short_run_that_says_nothing_has_no_display() -> None:
    pages = Pages()
    pages.view.end("done")
    assert pages.texts == []


def test_a_display_keeps_no_more_than_a_notebook_can_bear() -> None:
    pages = Pages()
    for number in range(200):
        pages.view.add_printed(f"{number} {'x' * 9000}\n", "c")
    pages.view.end("failed (RunTimeoutError)")
    assert len(pages.html) < 300_000
    assert "failed (RunTimeoutError)" in pages.texts[-1]
    dropped, folded = (int(re.sub("[^0-9]", "", found)) for found in re.findall(r"([0-9,]+ \w+) before<", pages.html))
    assert dropped > 150
    assert folded > 10_000
    one_line = Pages()
    for _ in range(100):
        one_line.view.add_printed("x" * 9000, "c")
    one_line.view.end("done")
    assert 100_000 < len(one_line.html) < 300_000
    # Its end is the end of the output.
    ended = Pages()
    ended.view.add_printed("x" * 250_000 + "\n", "cat big.json")
    ended.view.end("done")
    assert len(ended.html) > 100_000
    assert "xxx" in ended.texts[-1]


def test_a_display_has_neither_secrets_nor_tags_of_the_output() -> None:
    pages = Pages("hunter2")
    for piece in ("<b>hun", "ter2\x1b[0m"):
        pages.view.add_printed(piece, "c")
    pages.view.end("done")
    assert "&lt;b&gt;[REDACTED]</pre>" in pages.html
    assert pages.texts[-1].endswith("\n<b>[REDACTED]")


# Which of them.


def shell(publisher: str) -> Any:
    return types.SimpleNamespace(display_pub=type(publisher, (), {})())


@pytest.mark.parametrize(
    ("ipython", "expected"),
    [
        (None, PlainView),
        (types.SimpleNamespace(), PlainView),
        (types.SimpleNamespace(get_ipython=lambda: None), PlainView),
        (types.SimpleNamespace(get_ipython=lambda: shell("DisplayPublisher")), PlainView),
        (types.SimpleNamespace(get_ipython=lambda: shell("ZMQDisplayPublisher")), NotebookView),
    ],
    ids=["not imported", "being imported", "not started", "in a terminal", "in a kernel"],
)
def test_which_view(monkeypatch: pytest.MonkeyPatch, ipython: Any, expected: type) -> None:
    monkeypatch.setattr(live, "_publisher", lambda: lambda page, update: None)
    if ipython is None:
        monkeypatch.delitem(sys.modules, "IPython", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert type(view_for("query", (), FakeClock())) is expected


def test_no_stdout_no_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "stdout", None)
    assert view_for("query", (), FakeClock()) is None
