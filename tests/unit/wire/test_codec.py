"""Decoding messages: each type, and each of its fields."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest

from runtimeuse_sync._wire.codec import MalformedMessage, decode, parse

from ...support.messages import VALID, read

Wire = Dict[str, Any]

_IDS = [f"{wire['message_type']}-{number}" for number, (wire, _) in enumerate(VALID)]


@pytest.mark.parametrize(("wire", "message"), VALID, ids=_IDS)
def test_valid_messages(wire: Wire, message: Any) -> None:
    assert read(json.dumps(wire)) == message
    # A custom transport may return objects instead of text.
    assert decode(parse(dict(wire))) == message


@pytest.mark.parametrize(("wire", "message"), VALID, ids=_IDS)
def test_unknown_fields_are_tolerated(wire: Wire, message: Any) -> None:
    more = {**wire, "new": {"deep": [1]}, "text_blocks_2": None}
    if "data" in more:
        more["data"] = {**more["data"], "new": 1}
    if "results" in more:
        more["results"] = [{**item, "new": 1} for item in more["results"]]
    assert read(json.dumps(more)) == message


@pytest.mark.parametrize("optional", ["metadata", "stdout"])
def test_null_is_unset(optional: str) -> None:
    for wire, _ in VALID:
        if optional == "metadata" and wire["message_type"] in ("result_message", "error_message"):
            assert read(json.dumps({**wire, "metadata": None})).metadata is None
        if optional == "stdout" and "results" in wire:
            items = [{**item, "stdout": None} for item in wire["results"]]
            assert all(item.stdout is None for item in read(json.dumps({**wire, "results": items})).results)


WRONG: List[Any] = [None, True, False, 1, 1.5, "text", [], ["x"], {}, {"a": 1}, [1], [None], [["x"]]]


def _with(wire: Wire, path: List[Any], name: str, value: Any) -> Wire:
    changed: Wire = json.loads(json.dumps(wire))
    place: Any = changed
    for step in path:
        place = place[step]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return changed


def _field_cases() -> List[Any]:
    output = VALID[2][0]
    heartbeat, artifact, text, structured = VALID[4][0], VALID[5][0], VALID[6][0], VALID[7][0]
    commands, error, assistant = VALID[8][0], VALID[10][0], VALID[0][0]
    strings: List[Any] = ["text"]
    objects: List[Any] = [{}, {"a": 1}]
    return [
        (assistant, [], "text_blocks", [[], ["x"]]),
        (output, [], "stream", []),
        (output, [], "text", strings),
        (output, [], "command", strings),
        (heartbeat, [], "phase", strings),
        (heartbeat, [], "elapsed_ms", [1, 1.5]),
        (artifact, [], "filename", strings),
        (artifact, [], "filepath", strings),
        (text, [], "data", []),
        (text, ["data"], "type", []),
        (text, ["data"], "text", strings),
        (text, [], "metadata", [None, *objects]),
        (structured, ["data"], "type", []),
        (structured, ["data"], "structured_output", objects),
        (commands, [], "results", [[]]),
        (commands, ["results", 0], "command", strings),
        (commands, ["results", 0], "exit_code", [1]),
        (commands, ["results", 0], "stdout", [None, *strings]),
        (error, [], "error", strings),
        # Invalid metadata are ignored: the error itself matters more.
        (error, [], "metadata", WRONG),
    ]


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


@pytest.mark.parametrize(
    ("wire", "path", "name", "right"),
    _field_cases(),
    ids=[f"{wire['message_type']}.{'.'.join(map(str, [*path, name]))}" for wire, path, name, _ in _field_cases()],
)
def test_each_field_is_checked(wire: Wire, path: List[Any], name: str, right: List[Any]) -> None:
    for value in WRONG:
        changed = json.dumps(_with(wire, path, name, value))
        if any(_same(value, each) for each in right):
            read(changed)
            continue
        # Skip a value that happens to be valid: "text" is also the type of a text result.
        if name == "type" and value == "text" and path == ["data"] and wire["data"]["type"] == "text":
            continue
        with pytest.raises(MalformedMessage) as caught:
            read(changed)
        assert name in str(caught.value) or (name == "type" and "text" in str(caught.value)), value
        assert wire["message_type"] in str(caught.value)
    if name in ("metadata", "stdout"):
        read(json.dumps(_with(wire, path, name, ...)))
    else:
        with pytest.raises(MalformedMessage, match=rf"{name} is missing"):
            read(json.dumps(_with(wire, path, name, ...)))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_times_are_finite(value: str) -> None:
    with pytest.raises(MalformedMessage, match="elapsed_ms"):
        read('{"message_type": "heartbeat_message", "phase": "x", "elapsed_ms": ' + value + "}")


def test_exit_codes_are_integers() -> None:
    item = {"command": "a", "exit_code": 1.0}
    with pytest.raises(MalformedMessage, match=r"results\[0\].*exit_code"):
        read(json.dumps({"message_type": "command_execution_result_message", "results": [item]}))


def test_items_of_results_are_objects() -> None:
    items: List[Any] = [{"command": "a", "exit_code": 0}, "b"]
    with pytest.raises(MalformedMessage, match=r"results\[1\]"):
        read(json.dumps({"message_type": "command_execution_result_message", "results": items}))


def test_unknown_types_are_tolerated() -> None:
    assert read('{"message_type": "something_new", "error": 1}') is None
    assert read('{"message_type": ""}') is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[]",
        "1",
        "null",
        '"x"',
        "{}",
        '{"message_type": 1}',
        '{"message_type": null}',
        "\ufeff{}",
        "{'a': 1}",
    ],
)
def test_text_that_is_not_a_message(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parse(text)


@pytest.mark.parametrize("item", [None, 1, [], b"{}", ("message_type",)])
def test_objects_that_are_not_a_message(item: Any) -> None:
    with pytest.raises(MalformedMessage):
        parse(item)


def test_errors_repeat_no_payload() -> None:
    for wire in (
        {"message_type": "error_message", "error": {"secret": "hunter2"}},
        {"message_type": "command_output_message", "stream": "hunter2", "text": "hunter2", "command": "hunter2"},
        {"message_type": "result_message", "data": {"type": "hunter2"}},
        {"message_type": "assistant_message", "text_blocks": ["hunter2", 1]},
    ):
        with pytest.raises(MalformedMessage) as caught:
            read(json.dumps(wire))
        assert "hunter2" not in str(caught.value)
    with pytest.raises(MalformedMessage) as caught:
        parse('{"hunter2": hunter2}')
    assert "hunter2" not in str(caught.value)


def test_everything_that_a_real_runtime_sends_can_be_decoded() -> None:
    read_types = set()
    for path in (Path(__file__).parents[2] / "transcripts").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.get("from") == "runtime" and "message" in entry:
                message = read(json.dumps(entry["message"]))
                assert message is not None, (path.name, entry)
                read_types.add(message.message_type)
    assert len(read_types) == 8
    assert all(re.fullmatch(r"[a-z_]+", name) for name in read_types)
