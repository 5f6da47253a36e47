"""Whole lines out of chunks, wherever these are cut."""

from __future__ import annotations

import random
from typing import Any, List, Optional, Tuple

import pytest

from runtimeuse_sync import (
    AssistantMessageInterface,
    CommandOutputMessageInterface,
    HeartbeatMessageInterface,
    OutputLine,
)
from runtimeuse_sync._session import lines as lines_module
from runtimeuse_sync._session.lines import LineIterator, Lines


def output(text: str, stream: Any = "stdout", command: str = "c") -> CommandOutputMessageInterface:
    return CommandOutputMessageInterface("command_output_message", stream, text, command)


def assistant(*blocks: str) -> AssistantMessageInterface:
    return AssistantMessageInterface("assistant_message", list(blocks))


def lines_of(*messages: Any, error: Optional[BaseException] = None) -> List[Tuple[str, str, str]]:
    """Returns all lines; with an error, those that come before it is raised."""
    left = iter(messages)

    def next_message() -> Any:
        message = next(left, None)
        if message is None and error is not None:
            raise error
        return message

    iterator = LineIterator(Lines(), next_message, lambda _: True)
    lines: List[Tuple[str, str, str]] = []

    def take_all() -> None:
        lines.extend(iterator)
        next(iterator)

    with pytest.raises(StopIteration if error is None else type(error)):
        take_all()
    with pytest.raises(StopIteration if error is None else type(error)):
        next(iterator)
    return lines


def texts(*messages: Any) -> List[str]:
    return [text for _, text, _ in lines_of(*messages)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n", [""]),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\nb", ["a", "b"]),
        ("a\n\n\nb\n", ["a", "", "", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("\r\n", [""]),
        # Neither a carriage return by itself nor anything else ends a line.
        ("10 %\r20 %\rdone\n", ["10 %\r20 %\rdone"]),
        ("a\r", ["a\r"]),
        ("a\r\r\n", ["a\r"]),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\n", ["a\x0bb\x0cc\x1cd\x85e\u2028f"]),
        ("ä€😀\n日本\n", ["ä€😀", "日本"]),
    ],
)
def test_it_does_not_matter_where_chunks_are_cut(text: str, expected: List[str]) -> None:
    assert texts(output(text)) == expected
    assert texts(*(output(character) for character in text)) == expected
    for end in range(len(text) + 1):
        assert texts(output(text[:end]), output(""), output(text[end:])) == expected


def test_any_text_in_any_chunks() -> None:
    chance = random.Random(1)
    for _ in range(300):
        whole = {stream: "".join(chance.choices("ab\r\n", k=chance.randrange(40))) for stream in ("stdout", "stderr")}
        left = dict(whole)
        messages = []
        while any(left.values()):
            stream = chance.choice([stream for stream, text in left.items() if text])
            size = chance.randrange(1, 8)
            messages.append(output(left[stream][:size], stream))
            left[stream] = left[stream][size:]
        lines = lines_of(*messages)
        for stream, text in whole.items():
            # What is between two line feeds, without the carriage return before the second.
            *ended, last = text.split("\n")
            expected = [line[:-1] if line.endswith("\r") else line for line in ended] + [last] * bool(last)
            assert [line for of, line, _ in lines if of == stream] == expected


def test_the_streams_are_kept_apart_and_lines_come_when_they_are_complete() -> None:
    messages = [
        output("out", "stdout"),
        output("err", "stderr"),
        HeartbeatMessageInterface("heartbeat_message", "agent", 1),
        output("or\n", "stderr"),
        output("put\nmore", "stdout"),
        output("x", "stderr"),
    ]
    assert lines_of(*messages) == [
        ("stderr", "error", "c"),
        ("stdout", "output", "c"),
        ("stdout", "more", "c"),
        ("stderr", "x", "c"),
    ]


def test_another_command_ends_the_lines_of_the_one_before() -> None:
    messages = [
        output("a", "stderr", "first"),
        output("b", "stdout", "first"),
        output("c", "stdout", "second"),
        output("\n", "stdout", "second"),
        output("d", "stdout", "third"),
    ]
    assert lines_of(*messages) == [
        ("stderr", "a", "first"),
        ("stdout", "b", "first"),
        ("stdout", "c", "second"),
        ("stdout", "d", "third"),
    ]


def test_messages_of_the_agent() -> None:
    messages = [
        output("before", "stdout"),
        assistant("one"),
        assistant("two\nthree\n"),
        assistant("four", "five"),
        assistant(""),
        assistant(),
        output("after\n", "stdout"),
    ]
    assert lines_of(*messages) == [
        ("stdout", "before", "c"),
        *(("assistant", text, "") for text in ("one", "two", "three", "four", "five")),
        ("stdout", "after", "c"),
    ]


def test_unfinished_lines_come_before_the_error() -> None:
    messages = [output("whole\nhalf"), output("too", "stderr")]
    assert lines_of(*messages, error=OSError("broken")) == [
        ("stdout", "whole", "c"),
        ("stdout", "half", "c"),
        ("stderr", "too", "c"),
    ]


def test_what_must_not_be_held_back_is_not() -> None:
    messages: List[Any] = [output("half")]

    def next_message() -> Any:
        if messages:
            return messages.pop()
        raise KeyboardInterrupt

    lines = Lines()
    with pytest.raises(KeyboardInterrupt):
        next(LineIterator(lines, next_message, lambda _: False))
    # It is still there for whoever reads on.
    messages.append(output(" and half\n"))
    assert next(LineIterator(lines, next_message, lambda _: False)).text == "half and half"


def test_each_iterator_goes_on_where_the_one_before_has_stopped() -> None:
    messages: List[Any] = [output("d\n"), output("a\nb\nc")]
    lines = Lines()

    def iterator() -> LineIterator:
        return LineIterator(lines, lambda: messages.pop() if messages else None, lambda _: False)

    assert [next(iterator()).text for _ in range(2)] == ["a", "b"]
    assert [line.text for line in iterator()] == ["cd"]


def test_a_line_without_end_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 10)
    text = "".join(chr(ord("a") + number % 26) for number in range(35))
    pieces = [text[:10], text[10:20], text[20:30], text[30:]]
    for size in (1, 3, 10, 11, 35):
        chunks = [output(text[start : start + size]) for start in range(0, 35, size)]
        assert texts(*chunks) == pieces
        assert texts(*chunks, output("\nx\n")) == [*pieces, "x"]
    assert texts(assistant(text)) == pieces
    # A line that just fits is no piece.
    assert texts(output("0123456789\n0123456789"), output("\n")) == ["0123456789"] * 2


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_the_work_does_not_grow_faster_than_a_line_without_end(size: int) -> None:
    # Copied again with each chunk, a line of this size would take hours for chunks of one character.
    count = 1_000_000 // size
    chunk = output("x" * size)
    assert [len(text) for text in texts(*[chunk] * count, output("y\n"))] == [count * size + 1]


def test_a_line_is_a_tuple() -> None:
    line = OutputLine("stdout", "text", "ls")
    stream, text, command = line
    assert (stream, text, command) == (line.stream, line.text, line.command) == ("stdout", "text", "ls")
