"""Text that is shown to people: visible, harmless, and cut."""

from __future__ import annotations

import pytest

from runtimeuse_sync._display.text import Excerpt, beginning, counted, end, indented_json, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("10%\r50%\r100%\r\nnext", "100%\nnext"),
        ("bell\x07 and \x9b31m, \x00", "bell\\x07 and \\x9b31m, \\x00"),
        ("\x1b(B", "\\x1b(B"),
        ("half \ud83d", "half \\ud83d"),
        ("ü 😀", "ü 😀"),
    ],
)
def test_what_is_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "lines", "characters", "excerpt"),
    [
        ("", 2, 9, Excerpt("", "", "")),
        ("a\nb\n", 2, 9, Excerpt("a\nb", "", "")),
        ("a\nb\nc", 2, 9, Excerpt("a\nb", "1 line", "c")),
        ("a\nb\nc\nd\n\n", 2, 9, Excerpt("a\nb", "2 lines", "c\nd")),
        ("abcdef", 2, 4, Excerpt("abcd", "2 characters", "ef")),
        ("a\nbcdef", 2, 4, Excerpt("a\nbc", "3 characters", "def")),
    ],
)
def test_the_beginning(text: str, lines: int, characters: int, excerpt: Excerpt) -> None:
    assert beginning(text, lines, characters) == excerpt


@pytest.mark.parametrize(
    ("text", "lines", "characters", "excerpt"),
    [
        ("", 2, 9, Excerpt("", "", "")),
        ("a\nb\n", 2, 9, Excerpt("a\nb", "", "")),
        ("a\nb\nc", 2, 9, Excerpt("b\nc", "1 line", "a")),
        ("\n\na\nb\n\n", 2, 9, Excerpt("a\nb", "2 lines", "\n")),
        ("abcdef", 2, 4, Excerpt("cdef", "2 characters", "ab")),
        ("abc\nd", 2, 4, Excerpt("bc\nd", "1 character", "a")),
        ("abc", 2, 0, Excerpt("", "3 characters", "abc")),
    ],
)
def test_the_end(text: str, lines: int, characters: int, excerpt: Excerpt) -> None:
    assert end(text, lines, characters) == excerpt


def test_one_line() -> None:
    assert one_line(" a\nb\x1b[1m ", 10) == "a⏎b"
    assert one_line("x" * 11, 10) == "x" * 9 + "…"
    assert one_line("\x1b[1m" * 100 + "x", 10).endswith("…")


def test_counts() -> None:
    assert [counted(number, "line") for number in (0, 1, 2, 1234)] == ["0 lines", "1 line", "2 lines", "1,234 lines"]


def test_json() -> None:
    nested: object = []
    for _ in range(100_000):
        nested = [nested]
    assert indented_json({"ä": [1]}) == '{\n  "ä": [\n    1\n  ]\n}'
    assert indented_json({"a": {1}}) == '{\n  "a": "{1}"\n}'
    assert indented_json({(1, 2): 3}) == indented_json(nested) == "(this value has no JSON, or cannot be shown)"
