"""Same API: what the async client's documentation shows, without `async` and `await`. One test per section."""

from __future__ import annotations

import io
import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    CancelledException,
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseClient,
    StructuredOutputResult,
    TextResult,
)
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Start, wait
from ..support.storage import Storage
from ..support.threads import when


@pytest.fixture
def client(runtime: LocalRuntime) -> RuntimeUseClient:
    return RuntimeUseClient(ws_url=runtime.ws_url)


def options(**more: Any) -> QueryOptions:
    return QueryOptions(**{"system_prompt": "You are a helpful assistant.", "model": "gpt-4.1", "timeout": 30, **more})


def test_basic_query(client: RuntimeUseClient) -> None:
    result = client.query(prompt="expr 2 + 2", options=options())
    assert isinstance(result.data, TextResult)
    assert result.data.text == "4\n"
    assert result.metadata == {}


def test_persistent_sessions(client: RuntimeUseClient) -> None:
    with client.session() as session:
        summary = session.query(prompt="echo summary", options=options())
        commands = session.execute_commands(
            commands=[CommandInterface(command="ls /")], options=ExecuteCommandsOptions()
        )
    assert summary.text == "summary\n"
    assert commands.results[0].exit_code == 0
    assert "tmp" in (commands.results[0].stdout or "")


def test_files_written_after_the_last_call_still_make_it_out(
    client: RuntimeUseClient, storage: Storage, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "returned")
    with client.session() as session:
        session.query(
            prompt="true",
            options=options(
                artifacts_dir="output",
                on_artifact_upload_request=storage.upload_result,
                post_agent_invocation_commands=[
                    CommandInterface("(read _ < returned; echo late > late; mv late output) > /dev/null &")
                ],
            ),
        )
        (tmp_path / "returned").write_text("it has\n")
        when((tmp_path / "output" / "late").exists)
    assert storage.stored == {"/late": b"late\n"}


def test_a_transport_that_is_not_persistent_has_no_sessions() -> None:
    with pytest.raises(TypeError, match="does not support persistent sessions"):
        RuntimeUseClient(transport=lambda send_queue: iter(())).session()


def test_return_structured_json(client: RuntimeUseClient) -> None:
    schema = {"type": "object", "properties": {"file_count": {"type": "integer"}}, "required": ["file_count"]}
    wanted = json.dumps({"type": "json_schema", "schema": schema})
    result = client.query(
        prompt="""echo '{"file_count": 3}'""",
        options=options(output_format_json_schema_str=wanted),
    )
    assert isinstance(result.data, StructuredOutputResult)
    assert result.data.structured_output == {"file_count": 3}
    with pytest.raises(AgentRuntimeError, match="schema"):
        client.query(prompt="echo '{}'", options=options(output_format_json_schema_str=wanted))


def test_set_agent_environment_variables(client: RuntimeUseClient) -> None:
    env = {"NODE_ENV": "production", "DATABASE_URL": "postgres://localhost/mydb"}
    result = client.query(prompt='echo "$NODE_ENV $DATABASE_URL $HOME"', options=options(agent_env=env))
    assert result.text.startswith("production postgres://localhost/mydb /")


@pytest.mark.parametrize("name", ["main.zip", "notes%20of%20today.txt"])
def test_download_files_into_the_sandbox(client: RuntimeUseClient, storage: Storage, tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("codex-main/README.md", "read me")
    storage.files[f"/{name}"] = packed.getvalue() if name.endswith(".zip") else b"read me"
    item = RuntimeEnvironmentDownloadableInterface(
        download_url=f"{storage.url}/{name}?sig=1", working_dir=str(tmp_path / "work")
    )
    path = "codex-main/README.md" if name.endswith(".zip") else "notes of today.txt"
    assert client.query(prompt=f"cat 'work/{path}'", options=options(pre_agent_downloadables=[item])).text == "read me"
    done = client.execute_commands([f"cat 'work/{path}'"], ExecuteCommandsOptions(pre_execution_downloadables=[item]))
    assert done.results[0].stdout == "read me"


def test_a_download_that_fails(client: RuntimeUseClient, storage: Storage) -> None:
    item = RuntimeEnvironmentDownloadableInterface(f"{storage.url}/none", "work")
    with pytest.raises(AgentRuntimeError) as caught:
        client.query(prompt="true", options=options(pre_agent_downloadables=[item]))
    assert caught.value.error == "Download failed: 404 Not Found"


@pytest.mark.parametrize("spelling", ["artifacts_dir", "artifacts_dirs"])
def test_upload_artifacts(client: RuntimeUseClient, storage: Storage, spelling: str) -> None:
    def on_artifact_upload_request(request: Any) -> ArtifactUploadResult:
        asked.append((request.filename, request.filepath))
        return ArtifactUploadResult(
            presigned_url=f"{storage.url}/bucket/{request.filename}?sig=x", content_type="application/octet-stream"
        )

    asked: List[Any] = []
    named: Any = "output" if spelling == "artifacts_dir" else ["output"]
    client.query(
        prompt="sleep 0.1; echo report > output/report.txt",
        options=options(on_artifact_upload_request=on_artifact_upload_request, **{spelling: named}),
    )
    assert storage.stored == {"/bucket/report.txt": b"report\n"}
    assert storage.content_types == {"/bucket/report.txt": "application/octet-stream"}
    assert [name for name, _ in asked] == ["report.txt"]
    assert asked[0][1].endswith("output/report.txt")


@pytest.mark.parametrize(
    "given", [{"artifacts_dir": "o"}, {"artifacts_dirs": ["o"]}, {"on_artifact_upload_request": len}]
)
def test_both_options_must_be_given_together(given: Any) -> None:
    for kind in (QueryOptions, ExecuteCommandsOptions):
        with pytest.raises(ValueError, match="together"):
            kind(**given)


def test_stream_assistant_messages(client: RuntimeUseClient) -> None:
    said: List[str] = []
    printed: List[Any] = []
    result = client.query(
        prompt="echo one; echo two",
        options=options(
            on_assistant_message=lambda msg: said.extend(msg.text_blocks),
            on_command_output=lambda msg: printed.append((msg.stream, msg.text, msg.command)),
            pre_agent_invocation_commands=[CommandInterface("echo pre")],
            post_agent_invocation_commands=[CommandInterface("echo post >&2")],
        ),
    )
    assert result.text == "one\ntwo\n"
    assert said == ["one", "two"]
    assert printed == [("stdout", "pre\n", "echo pre"), ("stderr", "post\n", "echo post >&2")]


@pytest.mark.parametrize("when", ["pre", "post"])
def test_a_command_around_the_agent_that_fails(client: RuntimeUseClient, when: str) -> None:
    failing: Any = {f"{when}_agent_invocation_commands": [CommandInterface("exit 4")]}
    with pytest.raises(AgentRuntimeError) as caught:
        client.query(prompt="true", options=options(**failing))
    assert caught.value.error == f"{when}-agent command failed with exit code: 4"


def test_run_commands_without_the_agent(client: RuntimeUseClient, tmp_path: Path) -> None:
    printed: List[str] = []
    result = client.execute_commands(
        commands=[
            CommandInterface(command="mkdir -p app/output"),
            CommandInterface(command="echo $GREETING > app/output/status.txt", env={"GREETING": "sandbox is ready"}),
            CommandInterface(command="cat app/output/status.txt"),
            CommandInterface(command="pwd; echo $GREETING", cwd=str(tmp_path / "new")),
        ],
        options=ExecuteCommandsOptions(on_command_output=lambda msg: printed.append(msg.text)),
    )
    assert [item.exit_code for item in result.results] == [0, 0, 0, 0]
    assert [item.stdout for item in result.results] == [None, None, "sandbox is ready\n", f"{tmp_path}/new\n\n"]
    assert "".join(printed) == f"sandbox is ready\n{tmp_path}/new\n\n"
    assert result.results[2].command == "cat app/output/status.txt"


def test_cancel_a_run(client: RuntimeUseClient, tmp_path: Path) -> None:
    started = threading.Event()

    def cancel_soon() -> None:
        wait(started)
        client.abort()

    canceller = threading.Thread(target=cancel_soon)
    canceller.start()
    with pytest.raises(CancelledException):
        client.query(
            prompt="echo started; sleep 60; touch survived",
            options=options(on_assistant_message=lambda _: started.set()),
        )
    canceller.join()
    assert not (tmp_path / "survived").exists()


def test_set_a_timeout(client: RuntimeUseClient) -> None:
    with pytest.raises(TimeoutError):
        client.query(prompt="sleep 60", options=options(timeout=0.3))


def test_redact_secrets(client: RuntimeUseClient) -> None:
    said: List[str] = []
    result = client.query(
        prompt="echo sk-live-abc123 and my_db_password",
        options=options(
            secrets_to_redact=["sk-live-abc123", "my_db_password"],
            on_assistant_message=lambda msg: said.extend(msg.text_blocks),
        ),
    )
    assert (result.text, said) == ("[REDACTED] and [REDACTED]\n", ["[REDACTED] and [REDACTED]"])


def test_handle_errors(client: RuntimeUseClient, start: Start) -> None:
    def agent(invocation: Any, sender: Any) -> str:
        raise LookupError(f"no {invocation.user_prompt}")

    with pytest.raises(AgentRuntimeError) as caught:
        RuntimeUseClient(ws_url=start(agent).ws_url).query(prompt="thing", options=options())
    assert caught.value.error == "no thing"
    assert (caught.value.metadata or {})["error_name"] == "LookupError"
