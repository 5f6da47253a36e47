"""The fake runtime for users' tests: it follows the protocol and reports misuse."""

from __future__ import annotations

import threading
from typing import Any, Iterator

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    CommandFailedError,
    RunTimeoutError,
    RuntimeUseClient,
)
from runtimeuse_sync.testing import (
    HANG,
    FakeConnection,
    FakeRuntime,
    assistant_message,
    command_output,
    command_results,
    error,
    structured_result,
    text_result,
    upload_request,
)

from ..support.builders import SOON
from ..support.servers import PATIENCE


def client_of(fake: FakeRuntime) -> RuntimeUseClient:
    return RuntimeUseClient(transport=fake, model="any")


def test_each_kind_of_reply() -> None:
    fake = FakeRuntime(
        [
            [assistant_message("thinking", "hard"), *text_result("4", {"tokens": 7})],
            structured_result({"a": 1}),
            lambda request: [command_output("x", "ls"), *command_results("x", 0)(request)],
            error("it broke", {"error_name": "E"}),
        ]
    )
    client = client_of(fake)
    said: list[Any] = []
    result = client.query("What is 2 + 2?", on_assistant_message=lambda message: said.extend(message.text_blocks))
    assert (result.text, result.metadata, said) == ("4", {"tokens": 7}, ["thinking", "hard"])
    assert client.query("as JSON").structured_output == {"a": 1}
    output: list[str] = []
    done = client.execute_commands(["ls", "true"], on_command_output=lambda message: output.append(message.text))
    assert [(item.command, item.exit_code, item.stdout) for item in done.results] == [("ls", 0, "x"), ("true", 0, None)]
    assert output == ["x"]
    with pytest.raises(AgentRuntimeError, match="it broke"):
        client.query("fail")
    assert [request.get("user_prompt") for request in fake.requests] == ["What is 2 + 2?", "as JSON", None, "fail"]


def test_a_command_that_fails() -> None:
    whole = {"command": "make", "exit_code": 2, "stdout": "no rule"}
    with pytest.raises(CommandFailedError) as caught:
        client_of(FakeRuntime([command_results(whole)])).execute_commands(["make", "never"])
    assert caught.value.exit_code == 2
    assert caught.value.results[0].stdout == "no rule"


def test_a_session_goes_on_after_a_hang_and_an_error() -> None:
    fake = FakeRuntime([HANG, error("broken"), text_result("fine")])
    with client_of(fake).session() as session:
        with pytest.raises(RunTimeoutError):
            session.query("hang", timeout=SOON)
        with pytest.raises(AgentRuntimeError, match="broken"):
            session.query("fail")
        assert session.query("go on").text == "fine"
    assert fake.cancelled == 1


def test_uploads() -> None:
    fake = FakeRuntime([[upload_request("/out/a.txt"), *text_result("done")]])
    client_of(fake).query(
        "write",
        artifacts_dirs=["/out"],
        on_artifact_upload_request=lambda request: ArtifactUploadResult(f"https://s.test/{request.filename}", "text/x"),
    )
    assert [(each["filepath"], each["presigned_url"]) for each in fake.uploads] == [
        ("/out/a.txt", "https://s.test/a.txt")
    ]


@pytest.mark.parametrize("in_session", [False, True])
def test_late_uploads_are_answered_before_the_end_is_confirmed(in_session: bool) -> None:
    end_asked_for = threading.Event()

    class Connection(FakeConnection):
        def send(self, message: Any) -> None:
            super().send(message)
            if message["message_type"] == "end_session_message":
                end_asked_for.set()

    class Runtime(FakeRuntime):
        def connect(self) -> FakeConnection:
            return Connection(self)

    fake = Runtime([[*text_result("done"), upload_request("/out/a.txt"), upload_request("/out/b.txt")]])

    def upload(request: Any) -> ArtifactUploadResult:
        assert end_asked_for.wait(PATIENCE)
        return ArtifactUploadResult(f"https://s.test/{request.filename}", "text/x")

    options: Any = {"artifacts_dirs": ["/out"], "on_artifact_upload_request": upload}
    if in_session:
        with client_of(fake).session() as session:
            session.query("write", **options)
    else:
        client_of(fake).query("write", **options)
    assert [each["filepath"] for each in fake.uploads] == ["/out/a.txt", "/out/b.txt"]


def test_a_reply_may_be_a_generator() -> None:
    def reply(request: Any) -> Iterator[Any]:
        yield assistant_message(request["user_prompt"])
        yield from text_result("4")

    said: list[Any] = []
    fake = FakeRuntime([reply, (message for message in text_result("5"))])
    client = client_of(fake)
    result = client.query("2 + 2", timeout=5, on_assistant_message=lambda message: said.extend(message.text_blocks))
    assert (result.text, said) == ("4", ["2 + 2"])
    assert client.query("2 + 3", timeout=5).text == "5"


def test_misuse_is_reported() -> None:
    with pytest.raises(AgentRuntimeError, match="no reply left for request number 1"):
        client_of(FakeRuntime()).query("x")
    with pytest.raises(TypeError, match="list of replies"):
        FakeRuntime(text_result("a forgotten list"))  # type: ignore[arg-type]  # that is the point


def test_a_reply_that_raises_is_the_cause() -> None:
    def reply(_: Any) -> Any:
        raise LookupError("nope")

    with pytest.raises(AgentRuntimeError, match="LookupError") as caught:
        client_of(FakeRuntime([reply])).query("x")
    assert isinstance(caught.value.__cause__, LookupError)
