"""Encoding requests."""

from __future__ import annotations

import json
from typing import Any, Dict

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
)
from runtimeuse_sync._wire.codec import (
    CANCEL,
    END_SESSION,
    encode,
    encode_artifact_response,
    encode_barrier,
    encode_commands,
    encode_query,
)


@hypothesis.given(st.text(st.characters(), max_size=50))
@hypothesis.example("\ud800")
@hypothesis.example("\0")
@hypothesis.example("\U0001f600")
def test_any_text_survives_encoding(text: str) -> None:
    payload = encode({"message_type": text, "other": [text]})
    # The payload of a text frame must be UTF-8.
    assert json.loads(payload.decode("utf-8")) == {"message_type": text, "other": [text]}


def test_encoding_is_compact() -> None:
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
def test_artifact_directories_keep_their_spelling(spelling: str) -> None:
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
