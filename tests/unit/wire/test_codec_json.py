"""The parser for what comes in: whatever way it takes, it returns what `json.loads` does."""

from __future__ import annotations

import json
from typing import Any, List

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync._wire import codec
from runtimeuse_sync._wire.codec import load_json

LARGE = "x" * 100_000

strings = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | strings,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(strings, inside, max_size=4),
)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts and strings of a few characters go the way of those of megabytes."""
    monkeypatch.setattr(codec, "_LARGE_TEXT", 0)
    monkeypatch.setattr(codec, "_LONG_STRING", 5)
    monkeypatch.setattr(codec, "_MAX_STRINGS", 8)


def outcome(parse: Any, text: str) -> str:
    try:
        return repr(parse(text))
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.usefixtures("everything_is_large")
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=400)
@hypothesis.given(value=values, spaced=st.booleans())
def test_any_value_is_what_json_says(value: Any, spaced: bool) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1 if spaced else None)
    assert outcome(load_json, text) == outcome(json.loads, text)


@pytest.mark.usefixtures("everything_is_large")
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=400)
@hypothesis.given(
    value=values,
    at=st.integers(0, 60),
    removed=st.integers(0, 3),
    put=st.text('"\\[]{}:,-1eNaInfity \u00e4', max_size=4),
)
def test_any_damaged_text_is_what_json_says(value: Any, at: int, removed: int, put: str) -> None:
    text = json.dumps(value, ensure_ascii=False)
    damaged = text[:at] + put + text[at + removed :]
    assert outcome(load_json, damaged) == outcome(json.loads, damaged)


@pytest.mark.parametrize(
    "value",
    [
        LARGE,
        {"a": LARGE, "b": "short", "c": [LARGE + "1", {"d": LARGE + "2"}], "e": "x" * 5000},
        {"key " + LARGE: LARGE},
        {"a": LARGE + '"', "b": LARGE + "\\", "c": LARGE + "\n"},
        {"a": LARGE, "b": [float("inf"), -float("inf")]},
        ["x" * 3000] * 100,
        ["short"] * 10_000 + [LARGE],
        [LARGE + "\u6f22\U0001f600", "\u00e4"],
        list(range(20_000)),
    ],
    ids=lambda value: f"{type(value).__name__}-{len(json.dumps(value))}",
)
def test_long_strings_anywhere(value: Any) -> None:
    assert load_json(json.dumps(value, ensure_ascii=False)) == value


def test_the_last_of_two_fields_of_one_name_counts() -> None:
    assert load_json(f'{{"a": "{LARGE}1", "a": "{LARGE}2", "b": "{LARGE}3"}}') == {"a": LARGE + "2", "b": LARGE + "3"}


@pytest.mark.parametrize(
    "damaged", ['["{}', '["{}" "{}"]', '["{}"]]', '[1"{}"]', '[-"{}"]', '["{}", tru]', '[N"{}"]', '"{}""']
)
def test_what_is_wrong_is_said_as_json_says_it(damaged: str) -> None:
    text = damaged.replace("{}", LARGE)
    said = outcome(load_json, text)
    assert said.startswith("JSONDecodeError")
    assert said == outcome(json.loads, text)


def test_too_many_brackets_are_too_many_beside_long_strings_too() -> None:
    with pytest.raises(RecursionError):
        load_json("[" * 100_000 + f'"{LARGE}"' + "]" * 100_000)


def test_a_long_string_without_escapes_is_cut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a stream of large chunks would spend its time in `json`'s scanner."""
    seen: List[int] = []
    plain = json.loads

    def watched(text: str, **hooks: Any) -> Any:
        seen.append(len(text))
        return plain(text, **hooks)

    monkeypatch.setattr(json, "loads", watched)
    monkeypatch.setattr(codec, "_scan_json", lambda _: pytest.fail("it was scanned"))
    assert load_json(f'{{"message_type": "command_output_message", "text": "{LARGE}"}}')["text"] == LARGE
    assert max(seen) < 100


def test_control_characters_pass_in_long_strings_only() -> None:
    assert load_json(f'["{LARGE}\n"]') == [LARGE + "\n"]
    with pytest.raises(ValueError, match="control character"):
        load_json('["\n"]')
    with pytest.raises(ValueError, match="control character"):
        load_json(f'["\n", "{LARGE}"]')
