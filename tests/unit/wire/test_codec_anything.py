"""Decoding any input: the result is a message, or the error is `MalformedMessage`."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync._wire.codec import MalformedMessage, decode, parse

from ...support.messages import VALID, read

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

_TYPES = st.sampled_from(sorted({wire["message_type"] for wire, _ in VALID}))

_NAMES = st.sampled_from(
    [
        "text_blocks",
        "stream",
        "text",
        "command",
        "phase",
        "elapsed_ms",
        "filename",
        "filepath",
        "data",
        "metadata",
        "results",
        "error",
        "type",
        "structured_output",
        "exit_code",
        "stdout",
    ]
)

_NEARLY = st.builds(
    lambda kind, fields: {"message_type": kind, **fields},
    _TYPES,
    st.dictionaries(_NAMES, _JSON | st.dictionaries(_NAMES, _JSON) | st.lists(st.dictionaries(_NAMES, _JSON))),
)


@hypothesis.given(_NEARLY | _JSON)
def test_any_json_is_a_message_or_malformed(value: Any) -> None:
    for item in (value, json.dumps(value)):
        try:
            message = decode(parse(item))
        except MalformedMessage:
            continue
        assert message is None or message.message_type == value["message_type"]


@hypothesis.given(st.text(max_size=60))
def test_any_text_is_a_message_or_malformed(text: str) -> None:
    try:
        decode(parse(text))
    except MalformedMessage:
        pass


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting(depth: int, begin: str, end: str) -> None:
    deep = begin * depth + "1" + end * depth
    for text in (deep, '{"message_type": "error_message", "error": "e", "metadata": {"m": ' + deep + "}}"):
        try:
            message = read(text)
        except MalformedMessage:
            assert depth > 100 or text is deep
            continue
        assert message.error == "e"


def test_huge_numbers() -> None:
    digits = "9" * 10_000
    for text in (
        digits,
        '{"message_type": "heartbeat_message", "phase": "x", "elapsed_ms": ' + digits + "}",
        '{"message_type": "error_message", "error": "e", "metadata": {"n": -' + digits + "}}",
    ):
        try:
            read(text)
        except MalformedMessage:
            pass


def test_the_last_of_duplicate_keys_wins() -> None:
    assert read('{"message_type": "error_message", "error": 1, "error": "last"}').error == "last"
    assert read('{"message_type": 1, "message_type": "error_message", "error": "x"}').error == "x"


def test_unusual_characters_are_preserved() -> None:
    assert read(r'{"message_type": "error_message", "error": "\ud800 \u0000 \udfff"}').error == "\ufffd \0 \ufffd"


def test_instances_of_subclasses_of_str_are_strings() -> None:
    class Text(str):
        """Such as a custom transport's JSON library may make."""

    message = decode({"message_type": "command_output_message", "stream": "stdout", "text": Text("x"), "command": "c"})
    assert (message.text, message.command) == ("x", "c")
