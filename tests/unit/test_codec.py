"""The wire codec: what comes in is checked field by field, what goes out is PROTOCOL.md's tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CommandExecutionResultMessageInterface,
    CommandInterface,
    CommandOutputMessageInterface,
    CommandResultItem,
    EndSessionConfirmMessage,
    ErrorMessageInterface,
    ExecuteCommandsOptions,
    HeartbeatMessageInterface,
    QueryOptions,
    ResultMessageInterface,
    RuntimeEnvironmentDownloadableInterface,
    StructuredOutputResult,
    TextResult,
)
from runtimeuse_sync._codec import (
    CANCEL,
    END_SESSION,
    MalformedMessage,
    decode,
    encode,
    encode_artifact_response,
    encode_barrier,
    encode_commands,
    encode_query,
    parse,
)

Wire = Dict[str, Any]


def read(text: str) -> Any:
    return decode(parse(text))


VALID: List[Any] = [
    (
        {"message_type": "assistant_message", "text_blocks": ["a", ""]},
        AssistantMessageInterface("assistant_message", ["a", ""]),
    ),
    ({"message_type": "assistant_message", "text_blocks": []}, AssistantMessageInterface("assistant_message", [])),
    (
        {"message_type": "command_output_message", "stream": "stdout", "text": "x\n", "command": "ls"},
        CommandOutputMessageInterface("command_output_message", "stdout", "x\n", "ls"),
    ),
    (
        {"message_type": "command_output_message", "stream": "stderr", "text": "", "command": ""},
        CommandOutputMessageInterface("command_output_message", "stderr", "", ""),
    ),
    (
        {"message_type": "heartbeat_message", "phase": "agent", "elapsed_ms": 15000},
        HeartbeatMessageInterface("heartbeat_message", "agent", 15000),
    ),
    (
        {"message_type": "artifact_upload_request_message", "filename": "a", "filepath": "/out/a"},
        ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "a", "/out/a"),
    ),
    (
        {"message_type": "result_message", "data": {"type": "text", "text": "4"}, "metadata": {"n": 1}},
        ResultMessageInterface("result_message", TextResult("4"), {"n": 1}),
    ),
    (
        {"message_type": "result_message", "data": {"type": "structured_output", "structured_output": {"a": [None]}}},
        ResultMessageInterface("result_message", StructuredOutputResult({"a": [None]}), None),
    ),
    (
        {
            "message_type": "command_execution_result_message",
            "results": [{"command": "a", "exit_code": 0, "stdout": "x"}, {"command": "b", "exit_code": -1}],
        },
        CommandExecutionResultMessageInterface(
            "command_execution_result_message", [CommandResultItem("a", 0, "x"), CommandResultItem("b", -1, None)]
        ),
    ),
    (
        {"message_type": "command_execution_result_message", "results": []},
        CommandExecutionResultMessageInterface("command_execution_result_message", []),
    ),
    (
        {"message_type": "error_message", "error": "no", "metadata": {"stack": "s"}},
        ErrorMessageInterface("error_message", "no", {"stack": "s"}),
    ),
    ({"message_type": "error_message", "error": ""}, ErrorMessageInterface("error_message", "", None)),
    ({"message_type": "end_session_confirm_message"}, EndSessionConfirmMessage()),
]
_IDS = [f"{wire['message_type']}-{number}" for number, (wire, _) in enumerate(VALID)]


@pytest.mark.parametrize(("wire", "message"), VALID, ids=_IDS)
def test_valid_messages(wire: Wire, message: Any) -> None:
    assert read(json.dumps(wire)) == message
    # From a custom transport, which hands in objects.
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
        # What went wrong matters more than metadata that make no sense: those are passed over.
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
        # `text` is a fine value for some fields only by chance: "text" as the type of a text result.
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


def test_exit_codes_are_whole() -> None:
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
def test_what_is_no_message(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parse(text)


@pytest.mark.parametrize("item", [None, 1, [], b"{}", ("message_type",)])
def test_objects_that_are_no_message(item: Any) -> None:
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


# Anything at all.

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
def test_no_json_makes_it_fail_otherwise_than_by_a_malformed_message(value: Any) -> None:
    for item in (value, json.dumps(value)):
        try:
            message = decode(parse(item))
        except MalformedMessage:
            continue
        assert message is None or message.message_type == value["message_type"]


@hypothesis.given(st.text(max_size=60))
def test_no_text_makes_it_fail_otherwise_than_by_a_malformed_message(text: str) -> None:
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


def test_of_duplicate_keys_the_last_counts() -> None:
    assert read('{"message_type": "error_message", "error": 1, "error": "last"}').error == "last"
    assert read('{"message_type": 1, "message_type": "error_message", "error": "x"}').error == "x"


def test_strange_characters_come_in() -> None:
    assert read(r'{"message_type": "error_message", "error": "\ud800 \u0000 \udfff"}').error == "\ud800 \0 \udfff"


def test_objects_of_other_string_classes_are_strings() -> None:
    class Text(str):
        """Such as a custom transport's JSON library may make."""

    message = decode({"message_type": "command_output_message", "stream": "stdout", "text": Text("x"), "command": "c"})
    assert (message.text, message.command) == ("x", "c")


# What goes out.


@hypothesis.given(st.text(st.characters(), max_size=50))
@hypothesis.example("\ud800")
@hypothesis.example("\0")
@hypothesis.example("\U0001f600")
def test_any_text_goes_out_and_comes_back(text: str) -> None:
    payload = encode({"message_type": text, "other": [text]})
    # UTF-8, so that it may be the payload of a text frame.
    assert json.loads(payload.decode("utf-8")) == {"message_type": text, "other": [text]}


def test_texts_go_out_short() -> None:
    assert encode({"a": "Grüße", "b": [1]}) == '{"a":"Grüße","b":[1]}'.encode()


COMMAND = CommandInterface("make", cwd="/app", env={"A": "b"})
DOWNLOAD = RuntimeEnvironmentDownloadableInterface("https://x.test/a.zip?sig=1", "/data")


def _upload(request: Any) -> ArtifactUploadResult:
    raise AssertionError("not called here")


FULL_QUERY = QueryOptions(
    system_prompt="s",
    model="m",
    output_format_json_schema_str='{"type": "json_schema", "schema": {}}',
    source_id="id",
    agent_env={"K": "v"},
    secrets_to_redact=["x"],
    artifacts_dirs=["/a", "/b"],
    artifacts_dir="/c",
    artifacts_ignore_content="*.log",
    pre_agent_invocation_commands=[COMMAND],
    post_agent_invocation_commands=[CommandInterface("ls")],
    pre_agent_downloadables=[DOWNLOAD],
    on_artifact_upload_request=_upload,
)
FULL_COMMANDS = ExecuteCommandsOptions(
    source_id="id",
    secrets_to_redact=["x"],
    artifacts_dirs=["/a"],
    artifacts_dir="/c",
    artifacts_ignore_content="*.log",
    pre_execution_downloadables=[DOWNLOAD],
    on_artifact_upload_request=_upload,
)


def test_a_query_with_everything() -> None:
    assert encode_query("do", "s", "m", FULL_QUERY) == {
        "message_type": "invocation_message",
        "system_prompt": "s",
        "user_prompt": "do",
        "model": "m",
        "secrets_to_redact": ["x"],
        "source_id": "id",
        "agent_env": {"K": "v"},
        "output_format_json_schema_str": '{"type": "json_schema", "schema": {}}',
        "artifacts_dirs": ["/a", "/b"],
        "artifacts_dir": "/c",
        "artifacts_ignore_content": "*.log",
        "pre_agent_invocation_commands": [{"command": "make", "cwd": "/app", "env": {"A": "b"}}],
        "post_agent_invocation_commands": [{"command": "ls"}],
        "pre_agent_downloadables": [{"download_url": "https://x.test/a.zip?sig=1", "working_dir": "/data"}],
    }


def test_a_query_with_nothing() -> None:
    assert encode_query("do", "", "m", QueryOptions()) == {
        "message_type": "invocation_message",
        "system_prompt": "",
        "user_prompt": "do",
        "model": "m",
        "secrets_to_redact": [],
    }


def test_commands_with_everything() -> None:
    assert encode_commands([COMMAND, CommandInterface("ls")], FULL_COMMANDS) == {
        "message_type": "command_execution_message",
        "commands": [{"command": "make", "cwd": "/app", "env": {"A": "b"}}, {"command": "ls"}],
        "secrets_to_redact": ["x"],
        "source_id": "id",
        "artifacts_dirs": ["/a"],
        "artifacts_dir": "/c",
        "artifacts_ignore_content": "*.log",
        "pre_execution_downloadables": [{"download_url": "https://x.test/a.zip?sig=1", "working_dir": "/data"}],
    }


def test_commands_with_nothing() -> None:
    assert encode_commands([CommandInterface("ls")], ExecuteCommandsOptions()) == {
        "message_type": "command_execution_message",
        "commands": [{"command": "ls"}],
        "secrets_to_redact": [],
    }


@pytest.mark.parametrize("spelling", ["artifacts_dir", "artifacts_dirs"])
def test_artifact_directories_go_out_under_their_own_spelling(spelling: str) -> None:
    value: Any = "/out" if spelling == "artifacts_dir" else ["/out"]
    keywords: Dict[str, Any] = {spelling: value, "on_artifact_upload_request": _upload}
    for wire in (
        encode_query("do", "", "m", QueryOptions(**keywords)),
        encode_commands([CommandInterface("ls")], ExecuteCommandsOptions(**keywords)),
    ):
        assert {name: wire[name] for name in wire if name.startswith("artifacts_dir")} == {spelling: value}


def test_empty_lists_are_unset() -> None:
    options = QueryOptions(
        artifacts_dirs=[],
        pre_agent_invocation_commands=[],
        post_agent_invocation_commands=[],
        pre_agent_downloadables=[],
    )
    assert encode_query("do", "", "m", options) == encode_query("do", "", "m", QueryOptions())


def test_other_requests() -> None:
    request = ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "a", "/out/a")
    assert encode_artifact_response(request, "https://store.test/a?sig=1", "text/plain") == {
        "message_type": "artifact_upload_response_message",
        "filename": "a",
        "filepath": "/out/a",
        "presigned_url": "https://store.test/a?sig=1",
        "content_type": "text/plain",
    }
    assert CANCEL == {"message_type": "cancel_message"}
    assert END_SESSION == {"message_type": "end_session_message"}
    assert encode_barrier(("x",)) == {
        "message_type": "command_execution_message",
        "commands": [],
        "secrets_to_redact": ["x"],
    }


# Real conversations.


def test_all_that_a_real_runtime_sends_can_be_read() -> None:
    read_types = set()
    for path in (Path(__file__).parent.parent / "transcripts").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.get("from") == "runtime" and "message" in entry:
                message = read(json.dumps(entry["message"]))
                assert message is not None, (path.name, entry)
                read_types.add(message.message_type)
    assert len(read_types) == 8
    assert all(re.fullmatch(r"[a-z_]+", name) for name in read_types)
