"""Options, results and messages: JSON, pickles and copies."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any, List

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    CommandExecutionResult,
    CommandInterface,
    CommandResultItem,
    ExecuteCommandsOptions,
    QueryOptions,
    QueryResult,
    ResultMessageInterface,
    RuntimeEnvironmentDownloadableInterface,
    StructuredOutputResult,
    TextResult,
)
from runtimeuse_sync._wire.request import Defaults

from ...support.duplicates import duplicates


def upload(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
    raise AssertionError("not called here")


COMMAND = CommandInterface("make", cwd="/app", env={"A": "b"})

DOWNLOAD = RuntimeEnvironmentDownloadableInterface("https://x.test/a.zip?sig=1", "/data")

VALUES: List[Any] = [
    QueryOptions(),
    QueryOptions(
        system_prompt="s",
        model="m",
        output_format_json_schema_str='{"type": "json_schema", "schema": {}}',
        source_id="id",
        agent_env={"K": "v"},
        secrets_to_redact=["x"],
        artifacts_ignore_content="*.log",
        pre_agent_invocation_commands=[COMMAND],
        post_agent_invocation_commands=[CommandInterface("ls"), COMMAND],
        pre_agent_downloadables=[DOWNLOAD],
        timeout=1.5,
        idle_timeout=2.0,
        assistant_callback_timeout=3.0,
        artifact_upload_callback_timeout=4.0,
        end_session_timeout=None,
    ),
    ExecuteCommandsOptions(),
    ExecuteCommandsOptions(
        pre_execution_downloadables=[DOWNLOAD], check=False, end_session_timeout=5.0, source_id="é\0"
    ),
    COMMAND,
    CommandInterface("ls"),
    DOWNLOAD,
    ArtifactUploadResult("https://x.test/a?sig=1", "text/plain"),
    QueryResult(TextResult("4")),
    QueryResult(TextResult(""), {"tokens": {"in": 1, "out": [2, None]}}),
    QueryResult(StructuredOutputResult({"a": [1, {"b": None}], "ü": "x"}), {}),
    TextResult("x"),
    StructuredOutputResult({}),
    CommandExecutionResult([]),
    CommandExecutionResult([CommandResultItem("ls", 0, "x\n"), CommandResultItem("false", 1)]),
    CommandResultItem("ls", -1),
    ResultMessageInterface("result_message", StructuredOutputResult({"type": "text"}), {"a": 1}),
]

_IDS = [f"{type(each).__name__}-{number}" for number, each in enumerate(VALUES)]


@pytest.mark.parametrize("value", VALUES, ids=_IDS)
def test_json_and_back(value: Any) -> None:
    kind = type(value)
    assert kind.from_json(value.to_json()) == value
    assert kind.from_dict(value.to_dict()) == value
    assert kind.from_dict(json.loads(json.dumps(value.to_dict(encode_json=True)))) == value
    again = kind.from_json(value.to_json())
    assert [type(each) for each in vars(again).values()] == [type(each) for each in vars(value).values()]


@pytest.mark.parametrize("value", VALUES, ids=_IDS)
def test_pickle_and_copy(value: Any) -> None:
    for again in duplicates(value):
        assert again == value
        assert type(again) is type(value)


@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
def test_callbacks_and_loggers_stay_out_of_json(kind: Any) -> None:
    options = kind(on_assistant_message=print, on_heartbeat=print, logger=logging.getLogger("x"), timeout=3)
    options.cancel_when, options.cancel_poll_interval = threading.Event().is_set, 2
    as_dict = options.to_dict()
    assert not {"on_assistant_message", "on_heartbeat", "on_command_output", "logger", "cancel_when"} & set(as_dict)
    assert kind.from_json(options.to_json()) == kind(timeout=3, cancel_poll_interval=2)


@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
def test_options_with_artifacts_can_be_read_back(kind: Any) -> None:
    # The callback cannot be in the JSON. It is passed to the call as a keyword, and the call checks the pair.
    options = kind(artifacts_dirs=["/out"], on_artifact_upload_request=upload)
    again = kind.from_json(options.to_json())
    assert again.artifacts_dirs == ["/out"]
    merged = Defaults({}).merged(kind, again, {"on_artifact_upload_request": upload}, "x")
    assert merged == options


def test_missing_fields_have_their_defaults() -> None:
    assert QueryOptions.from_json("{}") == QueryOptions()
    assert QueryOptions.from_dict({"model": "m"}) == QueryOptions(model="m")
    assert QueryOptions.from_dict({"model": "m", "new": 1}) == QueryOptions(model="m")


def test_options_from_json_are_checked() -> None:
    with pytest.raises(ValueError, match="timeout"):
        QueryOptions.from_json('{"timeout": -1}')
    with pytest.raises(ValueError, match=r".+"):
        QueryOptions.from_json("{")
    with pytest.raises(KeyError):
        CommandResultItem.from_json("{}")


def test_json_arguments_are_those_of_the_json_module() -> None:
    assert CommandInterface("é").to_json(ensure_ascii=False, separators=(",", ":")).startswith('{"command":"é"')


def test_shortcuts_of_results() -> None:
    text, structured = QueryResult(TextResult("4")), QueryResult(StructuredOutputResult({"a": 1}))
    assert text.text == "4"
    assert structured.structured_output == {"a": 1}
    with pytest.raises(TypeError, match="structured_output"):
        _ = structured.text
    with pytest.raises(TypeError, match=r"\.text"):
        _ = text.structured_output


def test_options_whose_callbacks_cannot_be_copied_become_json() -> None:
    class Holder:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def on_message(self, message: Any) -> None:
            """Does nothing."""

    options = QueryOptions(model="m", on_assistant_message=Holder().on_message)
    assert json.loads(options.to_json())["model"] == "m"
    assert options.to_dict()["model"] == "m"
    assert options.on_assistant_message is not None
