"""The limit on the memory of parsed JSON: a text that passes stays within it."""

from __future__ import annotations

import json
import sys
import tracemalloc
from typing import Any, Callable, Dict, List, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimeuse_sync._wire import json_size
from runtimeuse_sync._wire.codec import MalformedMessage, decode, parse
from runtimeuse_sync._wire.json_size import MAX_GROWTH, TooDense, check_density

MIB = 1024 * 1024

#: How many bytes any message may take in these tests: less than usual, so that small messages suffice.
ALWAYS = 4 * MIB


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_size, "ALWAYS_ALLOWED", ALWAYS)


def many(unit: str, size: int) -> str:
    return f"[{','.join([unit] * (size // (len(unit) + 1)))}]"


def structured(value: str) -> str:
    return (
        '{"message_type":"result_message","data":{"type":"structured_output","structured_output":{"value":'
        + value
        + "}}}"
    )


SHAPES: Dict[str, Callable[[int], str]] = {
    "lists": lambda size: many("[]", size),
    "lists in lists": lambda size: many("[[]]", size),
    "objects": lambda size: many('{"a":0}', size),
    "objects in objects": lambda size: many('{"":{}}', size),
    "points": lambda size: many('{"x":1.5,"y":2.5}', size),
    "numbers": lambda size: many("1234", size),
    "floats": lambda size: many("0.12345", size),
    "short strings": lambda size: many('"ab"', size),
    "strings": lambda size: many('"' + "word" * 5 + '"', size),
    "names": lambda size: json.dumps(dict.fromkeys(range(size // 13), 0)),
    "objects with names of their own": lambda size: json.dumps([{f"{i:x}": 0} for i in range(size // 14)]),
    "wide characters": lambda size: many('"' + "😀" * 5 + '"', size),
    "strings beside a wide character": lambda size: '["😀",' + many('"' + "word" * 6 + '"', size)[1:],
    "short strings beside a wide character": lambda size: '["😀",' + many('"ab"', size)[1:],
}


PASSES = ("floats", "strings", "wide characters", "strings beside a wide character")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_that_passes_takes_at_most_eight_times_its_size(shape: str) -> None:
    text = structured(SHAPES[shape](MIB))
    tracemalloc.start()
    try:
        was_refused = refused(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The limit accepts the shapes that runtimes send and rejects those that only an attacker would.
    assert was_refused == (shape not in PASSES)
    assert sys.getsizeof(text) + peak <= max(MAX_GROWTH * len(text.encode()), ALWAYS)


def refused(text: str) -> bool:
    try:
        decode(parse(text))
    except MalformedMessage:
        return True
    return False


@pytest.mark.parametrize(
    "shape", ["lists", "lists in lists", "objects", "objects in objects", "objects with names of their own"]
)
def test_a_text_that_takes_far_more_is_rejected(shape: str) -> None:
    with pytest.raises(MalformedMessage, match="times their size in memory"):
        parse(structured(SHAPES[shape](MIB)))


def commands(size: int) -> str:
    item = {"command": "make all", "exit_code": 0, "stdout": 'a[i] = {1, 2, 3}; // \\ "quoted"\n' * 4}
    return json.dumps({"message_type": "command_execution_result_message", "results": [item] * (size // 220)})


HONEST: Dict[str, Callable[[int], str]] = {
    "results of many commands": commands,
    "source text as one string": lambda size: structured(
        json.dumps('for (i = 0; i < n; i++) { a["x"] = [1]; }\n' * (size // 45))
    ),
    "JSON in a string": lambda size: structured(json.dumps('{"a":[1,2],"b":{}},\n' * (size // 26))),
    "floats": lambda size: structured(SHAPES["floats"](size)),
    "strings": lambda size: structured(SHAPES["strings"](size)),
    "strings beside a wide character": lambda size: structured(SHAPES["strings beside a wide character"](size)),
}


@pytest.mark.parametrize("shape", HONEST)
def test_messages_of_runtimes_pass_at_any_size(shape: str) -> None:
    text = HONEST[shape](2 * MIB)
    check_density(text)
    assert json.loads(text) == parse(text)


def naive(value: Any, counts: Dict[str, int], names: Set[str]) -> None:
    """Counts the values of a tree as the module counts them in the JSON text."""
    if isinstance(value, str):
        counts["strings"] += 1
        counts["characters"] += len(value)
    elif isinstance(value, list):
        counts["lists"] += 1
        counts["commas"] += max(0, len(value) - 1)
        for item in value:
            naive(item, counts, names)
    elif isinstance(value, dict):
        counts["dicts"] += 1
        counts["commas"] += max(0, len(value) - 1)
        counts["colons"] += len(value)
        names.update(value)
        for name, item in value.items():
            counts["characters"] += len(name)
            naive(item, counts, names)


TEXTS = st.text(st.sampled_from(list('ab",:[]{}\\ \n')), max_size=12)
TREES = st.recursive(
    st.none() | st.integers(0, 999) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=30,
)


@given(tree=st.lists(TREES, min_size=1, max_size=5), blanks=st.booleans())
def test_characters_inside_strings_are_not_counted(tree: List[Any], blanks: bool) -> None:
    text = json.dumps(tree, indent=1 if blanks else None)
    counts = dict.fromkeys(("strings", "lists", "dicts", "commas", "colons", "characters"), 0)
    names: Set[str] = set()
    naive(tree, counts, names)
    expected = json_size._Counts()
    expected.commas, expected.colons = counts["commas"], counts["colons"]
    expected.lists, expected.dicts = counts["lists"], counts["dicts"]
    expected.quotes = 2 * (counts["strings"] + counts["colons"])
    # Escaped characters of a key are left out, so two keys may look equal.
    plain_names = {json.dumps(name)[1:-1].replace("\\\\", "").replace('\\"', "") for name in names}
    taken = json_size._precise_upper_bound(text, json_size._DICT, sys.maxsize)
    least = expected.upper_bound(json_size._DICT, len(plain_names))
    assert least <= taken <= least + 8 * len(text)


@given(tree=st.lists(TREES, min_size=1, max_size=5), window=st.integers(1, 40))
def test_strings_may_span_windows(tree: List[Any], window: int) -> None:
    text = json.dumps(tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_size._Counts, "upper_bound", lambda self, per_dict, keys: self.commas + self.quotes)
        whole_taken = json_size._precise_upper_bound(text, 0, sys.maxsize)
        patch.setattr(json_size, "_WINDOW", window)
        assert json_size._precise_upper_bound(text, 0, sys.maxsize) == whole_taken


def test_an_unterminated_string_is_left_to_the_parser() -> None:
    with pytest.raises(MalformedMessage, match="not JSON"):
        parse('{"message_type":"' + "x" * MIB)


def test_every_message_may_take_64_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    check_density(many("[[]]", MIB))
    with pytest.raises(TooDense):
        check_density(many("[[]]", 3 * MIB))


def test_the_error_gives_the_length_of_the_text() -> None:
    text = many("[[]]", MIB)
    with pytest.raises(TooDense, match=f"its {len(text)} characters"):
        check_density(text)
