"""Options, results and errors as values: merging, JSON, pickle, copy."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
from typing import Any, Dict, Iterator, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    CancelledException,
    CommandExecutionResult,
    CommandFailedError,
    CommandInterface,
    CommandResultItem,
    ConnectionLostError,
    ExecuteCommandsOptions,
    ProtocolError,
    QueryOptions,
    QueryResult,
    ResultMessageInterface,
    RuntimeConnectionError,
    RuntimeEnvironmentDownloadableInterface,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
    SessionStateError,
    StructuredOutputResult,
    TextResult,
    errors,
)
from runtimeuse_sync._requests import Defaults, commands_request, query_request
from runtimeuse_sync.options import merge_options

from .doubles import MemoryTransports


def upload(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
    raise AssertionError("not called here")


# Merging.


def test_keywords_win_over_the_object() -> None:
    options = QueryOptions(model="from object", timeout=1, secrets_to_redact=["a"], source_id="kept")
    merged = merge_options(QueryOptions, options, {"model": "from keyword", "timeout": None}, "query()")
    assert (merged.model, merged.timeout, merged.secrets_to_redact, merged.source_id) == (
        "from keyword",
        None,
        ["a"],
        "kept",
    )
    # The object is the caller's, and is as it was.
    assert (options.model, options.timeout) == ("from object", 1)


def test_object_only_and_keywords_only() -> None:
    options = ExecuteCommandsOptions(check=False)
    assert merge_options(ExecuteCommandsOptions, options, {}, "x") == options
    assert merge_options(ExecuteCommandsOptions, None, {"check": False}, "x") == options
    assert merge_options(QueryOptions, None, {}, "x") == QueryOptions()


def _sent(request: Any) -> Dict[str, Any]:
    message: Dict[str, Any] = json.loads(request.payload)
    return message


def test_the_clients_defaults_come_last() -> None:
    defaults = Defaults("default model", "default prompt")
    message = _sent(query_request("p", None, {}, defaults, "query()"))
    assert (message["model"], message["system_prompt"]) == ("default model", "default prompt")
    message = _sent(query_request("p", QueryOptions(model="m", system_prompt=""), {}, defaults, "query()"))
    assert (message["model"], message["system_prompt"]) == ("m", "")
    message = _sent(query_request("p", QueryOptions(model="m"), {"model": "k"}, defaults, "query()"))
    assert (message["model"], message["system_prompt"]) == ("k", "default prompt")
    # None is "not set" in a keyword as well.
    message = _sent(query_request("p", QueryOptions(model="m"), {"model": None}, defaults, "query()"))
    assert message["model"] == "default model"
    assert _sent(query_request("p", None, {}, Defaults("m", None), "query()"))["system_prompt"] == ""


@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
def test_every_option_is_checked(kind: Any) -> None:
    for field in dataclasses.fields(kind):
        with pytest.raises(TypeError, match=f"^{field.name} must be"):
            kind(**{field.name: object()})


def test_commands_may_be_strings() -> None:
    message = _sent(commands_request(["ls", CommandInterface("pwd", cwd="/x")], None, {}, "x"))
    assert message["commands"] == [{"command": "ls"}, {"command": "pwd", "cwd": "/x"}]


def test_the_secrets_of_a_request() -> None:
    command = CommandInterface("ls", env={"A": "env-of-command"})
    options: Dict[str, Any] = {
        "secrets_to_redact": ["listed"],
        "pre_execution_downloadables": [RuntimeEnvironmentDownloadableInterface("https://x.test/a?signature", "/d")],
    }
    secrets = commands_request([command], None, options, "x").secrets
    assert {"listed", "env-of-command", "signature"} <= set(secrets)


def test_a_client_with_a_transport_passes_its_defaults_on() -> None:
    assert RuntimeUseClient(transport=MemoryTransports(), model="m", system_prompt="s")._defaults.model == "m"


# JSON.

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


def duplicates(value: Any) -> Iterator[Any]:
    yield copy.copy(value)
    yield copy.deepcopy(value)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize("value", VALUES, ids=_IDS)
def test_pickle_and_copy(value: Any) -> None:
    for again in duplicates(value):
        assert again == value
        assert type(again) is type(value)


@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
def test_callbacks_and_loggers_stay_out_of_json(kind: Any) -> None:
    options = kind(on_assistant_message=print, on_heartbeat=print, logger=logging.getLogger("x"), timeout=3)
    as_dict = options.to_dict()
    assert not {"on_assistant_message", "on_heartbeat", "on_command_output", "logger"} & set(as_dict)
    assert kind.from_json(options.to_json()) == kind(timeout=3)


@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
def test_options_with_artifacts_can_be_read_back(kind: Any) -> None:
    # Their callback cannot be in the JSON; it is given with the call (keywords win), where the pair is checked.
    options = kind(artifacts_dirs=["/out"], on_artifact_upload_request=upload)
    again = kind.from_json(options.to_json())
    assert again.artifacts_dirs == ["/out"]
    merged = merge_options(kind, again, {"on_artifact_upload_request": upload}, "x")
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


# Errors.

RESULTS = [CommandResultItem("false", 3, "x")]
ERRORS: List[Any] = [
    RuntimeUseError("x"),
    AgentRuntimeError("it failed", {"stack": "s"}),
    AgentRuntimeError("it failed"),
    CommandFailedError("failed", {"exit_code": 3}, results=RESULTS, command="false", exit_code=3),
    ProtocolError("broken", {"in_flight": "query"}),
    CancelledException("cancelled"),
    RunTimeoutError("late", result=QueryResult(TextResult("4"))),
    RuntimeConnectionError("refused", status=403),
    ConnectionLostError("lost", {"in_flight": "query"}, result=CommandExecutionResult(RESULTS)),
    ArtifactUploadError("not uploaded", ["/out/a"]),
    SessionStateError("closed"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
def test_errors_pickle_and_copy(error: Any) -> None:
    error.extra = ["kept, too"]
    for again in duplicates(error):
        assert type(again) is type(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        assert str(again) == str(error)
        assert repr(again) == repr(error)
        again.another = 1
        assert not hasattr(error, "another")


def test_the_list_of_errors_is_complete() -> None:
    public = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, RuntimeUseError)}
    assert {type(error) for error in ERRORS} == public


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    parents: List[str] = []
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        stripped = line.lstrip(" │├└─")
        if stripped[:1].isupper() and (line.startswith("    ")):
            depth = (len(line) - len(stripped) - 4) // 4
            name = stripped.split()[0]
            parents = [*parents[:depth], name]
            drawn[name] = (parents[depth - 1] if depth else None, stripped)
    assert set(drawn) == {type(error).__name__ for error in ERRORS}
    for name, (parent, text) in drawn.items():
        kind = getattr(errors, name)
        assert kind.__bases__[0].__name__ == (parent or "Exception")
        for also in ("TimeoutError", "ConnectionError", "AgentRuntimeError"):
            if f"also a {also}" in text or f"also an {also}" in text:
                assert issubclass(kind, {**vars(errors), **__builtins_of()}[also])


def __builtins_of() -> Dict[str, Any]:
    return {"TimeoutError": TimeoutError, "ConnectionError": ConnectionError}


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (RunTimeoutError("x"), (RuntimeUseError, TimeoutError)),
        (RuntimeConnectionError("x"), (RuntimeUseError, ConnectionError)),
        (ConnectionLostError("x"), (RuntimeConnectionError, AgentRuntimeError, ConnectionError)),
        (CommandFailedError("x"), (AgentRuntimeError,)),
        (ProtocolError("x"), (AgentRuntimeError,)),
        (SessionStateError("x"), (RuntimeUseError, RuntimeError)),
    ],
)
def test_what_errors_can_be_caught_as(error: Exception, bases: Any) -> None:
    for base in bases:
        assert isinstance(error, base)
    assert not isinstance(CancelledException("x"), AgentRuntimeError)
    assert not isinstance(RunTimeoutError("x"), AgentRuntimeError)


def test_texts_of_errors() -> None:
    assert str(AgentRuntimeError("it failed")) == "it failed"
    assert str(AgentRuntimeError("it failed", {})) == "it failed"
    assert str(AgentRuntimeError("it failed", {"b": 1, "a": [None]})) == 'it failed\nmetadata: {"a": [null], "b": 1}'
    assert str(ConnectionLostError("lost", {"in_flight": "query"})) == "lost"
    assert str(RuntimeConnectionError("refused", status=403)) == "refused"
    assert str(RunTimeoutError("late", result=1)) == "late"
    assert str(ArtifactUploadError("not uploaded", ["/out/a"])) == "not uploaded"


@pytest.mark.parametrize("metadata", [{1: "a", "b": 2}, {"o": object()}, {"s": {1, 2}}, {(1, 2): 3}])
def test_any_metadata_can_be_shown(metadata: Any) -> None:
    # As in the async client, whose users may raise such errors themselves.
    assert str(AgentRuntimeError("it failed", metadata)).startswith("it failed\nmetadata: ")


@pytest.mark.parametrize("depth", [400, 900, 5000])
def test_deep_metadata_can_be_shown(depth: int) -> None:
    nested: Any = "x"
    for _ in range(depth):
        nested = {"a": nested}
    assert str(AgentRuntimeError("it failed", nested)).startswith("it failed")
