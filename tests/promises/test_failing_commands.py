"""Failing commands raise, unless `check=False`."""

from __future__ import annotations

import inspect
from typing import Any, List
from unittest import mock

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    CancelledException,
    CommandFailedError,
    CommandInterface,
    CommandResultItem,
    ConnectionLostError,
    ExecuteCommandsOptions,
    ProtocolError,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
)
from runtimeuse_sync.runtime import LocalRuntime
from runtimeuse_sync.testing import (
    HANG,
    FakeRuntime,
    assistant_message,
    command_output,
    command_results,
    structured_result,
    text_result,
)

from ..support.builders import Serve, client_of, output

COMMANDS = ["echo one", "echo two; exit 3", "echo never"]
RAN = [CommandResultItem("echo one", 0, "one\n"), CommandResultItem("echo two; exit 3", 3, "two\n")]


@pytest.mark.parametrize("in_session", [False, True])
def test_it_names_the_command_and_its_exit_code(runtime: LocalRuntime, in_session: bool) -> None:
    client = client_of(runtime)
    with client.session() as session:
        caller: Any = session if in_session else client
        with pytest.raises(CommandFailedError, match=r"exit code 3.*echo two") as caught:
            caller.execute_commands(COMMANDS)
        assert isinstance(caught.value, AgentRuntimeError)
        assert caught.value.results == RAN
        assert (caught.value.command, caught.value.exit_code) == ("echo two; exit 3", 3)
        assert caught.value.metadata == {"command": "echo two; exit 3", "exit_code": 3}
        # Nothing is in flight any more, nor unsure.
        assert caller.execute_commands(["echo next"], timeout=10).results == [
            CommandResultItem("echo next", 0, "next\n")
        ]


@pytest.mark.parametrize("how", ["keyword", "option"])
def test_without_check_it_is_returned(runtime: LocalRuntime, how: str) -> None:
    client = client_of(runtime)
    if how == "keyword":
        result = client.execute_commands(COMMANDS, check=False)
    else:
        result = client.execute_commands(COMMANDS, ExecuteCommandsOptions(check=False))
    assert result.results == RAN


def test_a_command_that_a_signal_ends(runtime: LocalRuntime) -> None:
    with pytest.raises(CommandFailedError) as caught:
        client_of(runtime).execute_commands(["kill -9 $$"])
    assert caught.value.exit_code == -1


def test_streamed(runtime: LocalRuntime) -> None:
    with client_of(runtime).stream_commands(COMMANDS) as run:
        seen: List[str] = []
        with pytest.raises(CommandFailedError):
            seen.extend(message.message_type for message in run)
        assert set(seen) == {"command_output_message"}
        with pytest.raises(CommandFailedError):
            _ = run.result


def test_the_text_ends_with_stderr(runtime: LocalRuntime) -> None:
    script = "echo out; for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $n >&2; done; exit 3"
    with pytest.raises(CommandFailedError) as caught:
        client_of(runtime).execute_commands([script], source_id="job-1")
    error = caught.value
    assert str(error).split("\n") == [
        f"command failed with exit code 3: {script}",
        *[f"line {n}" for n in range(3, 13)],
    ]
    assert (error.stdout, error.source_id) == ("out\n", "job-1")
    assert error.stderr == "".join(f"line {n}\n" for n in range(1, 13))
    assert error.results == [CommandResultItem(script, 3, error.stdout, error.stderr)]


def test_the_text_is_short(runtime: LocalRuntime) -> None:
    script = f"printf '%5000s' why >&2; exit 3 # {'x' * 1000}"
    with pytest.raises(CommandFailedError) as caught:
        client_of(runtime).execute_commands([script])
    first, rest = str(caught.value).split("\n")
    assert first == f"command failed with exit code 3: {script[:199]}…"
    assert rest == "…" + "why".rjust(1999)
    assert caught.value.command == script


def test_without_stderr_the_text_ends_with_stdout(runtime: LocalRuntime) -> None:
    with pytest.raises(CommandFailedError) as caught:
        client_of(runtime).execute_commands(["echo 1 failed; exit 1"])
    assert str(caught.value).endswith("echo 1 failed; exit 1\nnothing on stderr; stdout ends with:\n1 failed")


def test_what_failing_commands_print_comes_from_the_stream() -> None:
    # As the real runtime sends it: no stdout of a command that fails.
    chunks = [command_output("out\n", "make"), command_output("why\n", "make", "stderr")]
    ran = {"message_type": "command_execution_result_message", "results": [{"command": "make", "exit_code": 2}]}
    for keep, kept in ((1024, CommandResultItem("make", 2, "out\n", "why\n")), (0, CommandResultItem("make", 2))):
        fake = FakeRuntime([[*chunks, ran], [*chunks, ran]])
        client = RuntimeUseClient(transport=fake, keep_output=keep)
        with client.session() as session:
            assert session.execute_commands(["make"], check=False).results == [kept]
            with pytest.raises(CommandFailedError) as caught:
                session.execute_commands(["make"])
        assert (caught.value.stdout, caught.value.stderr) == (kept.stdout, kept.stderr)


def test_a_command_that_is_killed_for_what_it_prints() -> None:
    ran = {"message_type": "command_execution_result_message", "results": [{"command": "yes", "exit_code": -1}]}
    texts = []
    for size in (1024, 1025):
        chunks = [command_output("y" * 1024, "yes")] * (size - 1) + [command_output("y" * 1023, "yes")]
        with pytest.raises(CommandFailedError) as caught:
            RuntimeUseClient(transport=FakeRuntime([[*chunks, ran]])).execute_commands(["yes"])
        texts.append(str(caught.value).split("\n")[0])
    assert texts[0] == "command failed with exit code -1: yes"
    assert "1 MiB" in texts[1]


@pytest.mark.parametrize("when", ["pre", "post"])
def test_a_failing_command_of_a_query(runtime: LocalRuntime, when: str) -> None:
    commands: Any = {f"{when}_agent_invocation_commands": [CommandInterface("echo out; echo why >&2; exit 5")]}
    with pytest.raises(CommandFailedError) as caught:
        client_of(runtime).query("echo hi", source_id="q", **commands)
    error = caught.value
    assert error.error == f"{when}-agent command failed with exit code: 5"
    assert error.metadata is not None
    assert "stack" in error.metadata
    assert (error.command, error.exit_code) == ("echo out; echo why >&2; exit 5", 5)
    assert (error.stdout, error.stderr, error.source_id) == ("out\n", "why\n", "q")
    assert str(error) == f"{error.error}\ncommand: echo out; echo why >&2; exit 5\nwhy"
    assert error.assistant_texts == ([] if when == "pre" else ["hi"])


def test_a_secret_is_in_no_text(runtime: LocalRuntime) -> None:
    command = CommandInterface("echo $KEY >&2; echo $KEY; exit 3", env={"KEY": "hunter2-and-more"})
    with pytest.raises(CommandFailedError) as caught:
        client_of(runtime).execute_commands([command])
    assert "hunter2" not in str(caught.value) + repr(caught.value) + repr(caught.value.args)
    assert caught.value.stderr == "[REDACTED]\n"


def test_a_secret_is_in_no_text_and_not_in_the_failing_commands_result() -> None:
    """The results of the commands before it are what the runtime has sent, as without an exception."""
    secret = "hunter2-and-more"
    replies = [
        command_results(
            {"stdout": secret, "stderr": secret}, {"exit_code": 3, "stderr": f"{secret[:4]}\x1b[m{secret[4:]}"}
        )
    ]
    commands = [CommandInterface("one", env={"KEY": secret}), CommandInterface("two")]
    with pytest.raises(CommandFailedError) as caught:
        RuntimeUseClient(transport=FakeRuntime(replies)).execute_commands(commands)
    assert "hunter2" not in str(caught.value) + repr(caught.value) + repr(caught.value.results[1])
    assert caught.value.results[0] == CommandResultItem("one", 0, secret, secret)
    assert caught.value.stderr == "[REDACTED]"


UNDER_WAY = [
    CommandResultItem("echo one", 0, "one\n"),
    CommandResultItem("echo two >&2; exec sleep 60", None, None, "two\n"),
]


@pytest.mark.parametrize("how", ["timeout", "abort", "idle", "left"])
def test_what_had_come_is_kept(runtime: LocalRuntime, how: str) -> None:
    client = client_of(runtime)
    commands = [item.command for item in UNDER_WAY]
    seen: List[str] = []

    def see(message: Any) -> None:
        seen.append(message.text)
        if how == "abort" and len(seen) == 2:
            client.abort()

    def run_it() -> Any:
        options: Any = {"timeout": {"timeout": 3.0}, "idle": {"idle_timeout": 3.0}}.get(how, {})
        with client.stream_commands(commands, on_command_output=see, source_id="s", **options) as run:
            for _ in run:
                if how == "left" and len(seen) == 2:
                    break
        return run.result

    kinds = {"timeout": RunTimeoutError, "idle": AgentRuntimeError}
    with pytest.raises(kinds.get(how, CancelledException)) as caught:
        run_it()
    error: Any = caught.value
    assert error.results == UNDER_WAY
    assert (error.assistant_texts, error.source_id) == ([], "s")
    assert type(error)(*error.args).results == UNDER_WAY


def test_what_had_come_when_the_connection_was_lost(serve: Serve) -> None:
    def script(peer: Any) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("one", "stderr", "first"), output("two", "stdout", "second"))
        peer.cut()

    with pytest.raises(ConnectionLostError) as caught:
        client_of(serve(script)).execute_commands(["first", "second", "third"])
    assert caught.value.results == [
        CommandResultItem("first", 0, None, "one"),
        CommandResultItem("second", None, "two"),
    ]


def test_what_the_agent_had_said() -> None:
    fake = FakeRuntime([[assistant_message("a", "b"), assistant_message("c")]])
    with pytest.raises(RunTimeoutError) as caught:
        RuntimeUseClient(transport=fake, model="m").query("p", timeout=1.0)
    assert caught.value.assistant_texts == ["a", "b", "c"]


def test_errors_know_whose_they_are() -> None:
    client = RuntimeUseClient(transport=FakeRuntime([HANG]), model="m")
    with client.session() as session, pytest.raises(RuntimeUseError) as caught:
        session.query("p", timeout=0.2, source_id="mine hunter2", secrets_to_redact=["hunter2"])
    assert caught.value.source_id == "mine [REDACTED]"
    with pytest.raises(RuntimeUseError) as caught:
        session.query("p", source_id="closed")
    assert caught.value.source_id == "closed"


def test_text_where_a_schema_was_given() -> None:
    schema = '{"type":"json_schema","schema":{}}'
    fake = FakeRuntime([text_result("I could not, hunter2."), structured_result({"a": 1})])
    client = RuntimeUseClient(transport=fake, model="m")
    with pytest.raises(ProtocolError, match="I could not, ") as caught:
        client.query("p", output_format_json_schema_str=schema, secrets_to_redact=["hunter2"])
    assert caught.value.metadata == {"text": "I could not, [REDACTED]."}
    # The other way round the agent has its reasons.
    assert client.query("p").structured_output == {"a": 1}


def test_results_can_be_looked_at() -> None:
    fake = FakeRuntime([text_result("4"), structured_result({"ä": 1})])
    client = RuntimeUseClient(transport=fake, model="m")
    text, structured = client.query("p"), client.query("p")
    assert (str(text), str(structured)) == ("4", '{"ä": 1}')
    assert repr(text).startswith("QueryResult(data=TextResult(")
    for result, missing in ((text, "structured_output"), (structured, "text")):
        assert not hasattr(result, missing)
        assert getattr(result, missing, None) is None
        assert missing not in dict(inspect.getmembers(result))
        assert mock.create_autospec(result).metadata is not None
        for kind in (TypeError, AttributeError):
            with pytest.raises(kind, match="use"):
                getattr(result, missing)


def test_a_fake_runtime_fails_like_a_real_one() -> None:
    fake = FakeRuntime([command_results("fine", {"exit_code": 2, "stdout": "out", "stderr": "why"})])
    with pytest.raises(CommandFailedError) as caught:
        RuntimeUseClient(transport=fake).execute_commands(["a", "b"])
    assert caught.value.results == [CommandResultItem("a", 0, "fine"), CommandResultItem("b", 2, "out", "why")]
    assert caught.value.command == "b"
