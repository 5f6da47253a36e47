"""The fast JSON parser: it always returns what `json.loads` returns."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, List

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync._wire import json_text
from runtimeuse_sync._wire.json_text import encode_json, encode_long_strings, load_json

from ...support.processes import CHILD_LIMIT

LARGE = "x" * 100_000

strings = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | strings,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(strings, inside, max_size=4),
)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the parser treat texts and strings of a few characters like those of megabytes."""
    monkeypatch.setattr(json_text, "_LARGE_TEXT", 0)
    monkeypatch.setattr(json_text, "_LONG_STRING", 5)
    monkeypatch.setattr(json_text, "_LONGEST_ESCAPED", 9)
    monkeypatch.setattr(json_text, "_MAX_STRINGS", 8)
    monkeypatch.setattr(json_text, "_CHARACTERS_PER_STRING", 20)


def outcome(parse: Any, text: str) -> str:
    try:
        return repr(parse(text))
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.usefixtures("everything_is_large")
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=400)
@hypothesis.given(value=values, spaced=st.booleans())
def test_any_value_equals_that_of_json(value: Any, spaced: bool) -> None:
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
def test_any_damaged_text_fails_as_in_json(value: Any, at: int, removed: int, put: str) -> None:
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
        {"a": '"' * 5000, "b": "\\" * 5000, "c": '\\"', "d": LARGE},
        {'\\"': LARGE, "b": '"\\"\\' * 100, "c": [LARGE, "\\" + LARGE]},
        {"a": LARGE, "b": [float("inf"), -float("inf")]},
        ["x" * 3000] * 100,
        ["short"] * 10_000 + [LARGE],
        {f"{number}": LARGE for number in range(100)},
        [LARGE + "\u6f22\U0001f600", "\u00e4"],
        list(range(20_000)),
    ],
    ids=lambda value: f"{type(value).__name__}-{len(json.dumps(value))}",
)
def test_long_strings_anywhere(value: Any) -> None:
    assert load_json(json.dumps(value, ensure_ascii=False)) == value


def test_the_last_of_duplicate_keys_wins() -> None:
    assert load_json(f'{{"a": "{LARGE}1", "a": "{LARGE}2", "b": "{LARGE}3"}}') == {"a": LARGE + "2", "b": LARGE + "3"}


@pytest.mark.parametrize(
    "damaged", ['["{}', '["{}" "{}"]', '["{}"]]', '[1"{}"]', '[-"{}"]', '["{}", tru]', '[N"{}"]', '"{}""']
)
def test_errors_are_those_of_json(damaged: str) -> None:
    text = damaged.replace("{}", LARGE)
    said = outcome(load_json, text)
    assert said.startswith("JSONDecodeError")
    assert said == outcome(json.loads, text)


def test_nesting_is_limited_beside_long_strings_too() -> None:
    with pytest.raises(RecursionError):
        load_json("[" * 100_000 + f'"{LARGE}"' + "]" * 100_000)


@pytest.mark.parametrize("command", ["make", 'echo "a" \\', "tr '\\0' x", '"'], ids=["plain", "ends", "inside", "mark"])
def test_a_long_string_without_escapes_is_cut_out(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Otherwise `json`'s scanner would dominate the time of a stream of large chunks."""
    seen: List[int] = []
    plain = json.loads

    def watched(text: str, **hooks: Any) -> Any:
        seen.append(len(text))
        return plain(text, **hooks)

    monkeypatch.setattr(json, "loads", watched)
    monkeypatch.setattr(json_text, "_scan_json", lambda _: pytest.fail("it was scanned"))
    message = {"message_type": "command_output_message", "command": command, "text": LARGE}
    assert load_json(json.dumps(message, ensure_ascii=False)) == message
    assert max(seen) < 120


def test_so_are_many_of_them_beside_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the requests that write a file."""
    monkeypatch.setattr(json_text, "_scan_json", lambda _: pytest.fail("it was scanned"))
    commands = [{"command": 'cat "$1"\n' * 300, "env": {f"{number}": LARGE for number in range(12)}}] * 4
    assert load_json(json.dumps(commands, ensure_ascii=False)) == commands


@hypothesis.settings(max_examples=200)
@hypothesis.given(value=values)
def test_what_has_long_strings_is_encoded_alike(value: Any) -> None:
    for each in (value, [value, {"a": value, 'long"\n' + LARGE: [value, LARGE + "\u00e9", "\\" + LARGE]}]):
        assert encode_long_strings(each) == encode_json(each)


def test_half_a_character_in_a_long_string_becomes_an_escape() -> None:
    value = {"a": [LARGE + "\ud800", "\u00e9"]}
    assert json.loads(encode_long_strings(value).decode()) == value


def test_control_characters_are_accepted_in_long_strings_only() -> None:
    assert load_json(f'["{LARGE}\n"]') == [LARGE + "\n"]
    with pytest.raises(ValueError, match="control character"):
        load_json('["\n"]')
    with pytest.raises(ValueError, match="control character"):
        load_json(f'["\n", "{LARGE}"]')


FINALIZERS = """
import gc, sys, traceback
from runtimeuse_sync._wire.json_text import load_json

def hook(failed):
    traceback.format_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)

sys.unraisablehook = hook

def call(depth):
    return depth and call(depth - 1)

class Garbage:
    def __init__(self):
        self.cycle = self
    def __del__(self):
        call(80)

for allocations in range(800, 1050, 5):
    # The collector runs when so many lists are open, one in another.
    gc.collect()
    gc.disable()
    Garbage()
    gc.set_threshold(allocations)
    gc.enable()
    try:
        load_json("[" * 60000)
    except RecursionError:
        pass
assert gc.isenabled()
"""


def test_finalizers_during_a_text_that_is_nested_too_deeply() -> None:
    """Python 3.8 would abort the process."""
    subprocess.run([sys.executable, "-c", FINALIZERS], check=True, timeout=CHILD_LIMIT, stderr=subprocess.DEVNULL)
