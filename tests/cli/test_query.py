"""`runtimeuse-sync query`: where the prompt comes from, what is written, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import pytest

from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, Start, assistant, error, heartbeat, output, text
from ..support.servers import Message, Peer
from .conftest import Command


def answering(*messages: Message) -> Any:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(*messages)

    return script


def structured(value: Any) -> Message:
    data = {"type": "structured_output", "structured_output": value}
    return {"message_type": "result_message", "data": data, "metadata": {}}


# --- The prompt.


def test_the_prompt_is_the_argument(command: Command, runtime: LocalRuntime) -> None:
    assert command("query", "--url", runtime.ws_url, "echo hello") == (0, "hello\n", "")


@pytest.mark.parametrize("arguments", [[], ["-"], ["--file", "-"]])
def test_the_prompt_is_standard_input(command: Command, runtime: LocalRuntime, arguments: List[str]) -> None:
    outcome = command("query", "--url", runtime.ws_url, *arguments, stdin="\ufeffecho größer".encode())
    assert outcome == (0, "größer\n", "")


def test_the_prompt_is_a_file(command: Command, runtime: LocalRuntime, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("echo from a file")
    assert command("query", "--url", runtime.ws_url, "-f", tmp_path / "prompt.txt") == (0, "from a file\n", "")


def test_an_argument_wins_over_standard_input(command: Command, runtime: LocalRuntime) -> None:
    assert command("query", "--url", runtime.ws_url, "echo this", stdin=b"echo that").out == "this\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ([], b"", "the prompt on standard input is empty"),
        ([" "], b"", "the prompt is empty"),
        (["--file", "/no/such/file"], b"", "--file /no/such/file: No such file or directory"),
        (["--file", "/"], b"", "--file /: Is a directory"),
        (["--file", "x", "y"], b"", "the prompt is given twice"),
        ([], b"\xff", "standard input is not text in UTF-8"),
        (["one", "two"], b"", "unexpected extra argument"),
    ],
)
def test_no_prompt_is_wrong_usage(command: Command, arguments: List[str], stdin: bytes, said: str) -> None:
    code, out, err = command("query", "--url", "ws://127.0.0.1:1", *arguments, stdin=stdin)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


# --- What is written.


def test_what_the_agent_says_comes_first_and_then_its_answer(command: Command, serve: Serve) -> None:
    server = serve(answering(assistant("I count", "24 of them."), heartbeat(), assistant("done: 4\n"), text("4")))
    assert command("query", "--url", server.url, "hi") == (0, "I count\n24 of them.\ndone: 4\n4\n", "")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (["one", "two"], "one\ntwo\n"),
        (["thinking", "two\n\nlines"], "two\nlines"),
        (["thinking", "  4 "], "4"),
    ],
)
def test_an_answer_that_has_just_been_said_is_not_repeated(
    command: Command, serve: Serve, said: List[str], answer: str
) -> None:
    server = serve(answering(*map(assistant, said), text(answer)))
    assert command("query", "--url", server.url, "hi").out == "".join(f"{each}\n" for each in said)


def test_of_a_long_answer_the_end_is_compared(command: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimeuse_sync.cli._output._COMPARED", 10)
    said = [f"line {number}" for number in range(9)]
    for last, repeated in (("line 8", False), ("line 9", True)):
        answer = "\n".join([*said[:-1], last])
        out = command("query", "--url", serve(answering(*map(assistant, said), text(answer))).url, "hi").out
        assert out == "".join(f"{line}\n" for line in said) + (f"{answer}\n" if repeated else "")


def test_an_empty_answer_is_nothing(command: Command, serve: Serve) -> None:
    assert command("query", "--url", serve(answering(text(""))).url, "hi") == (0, "", "")


def test_quiet_writes_the_answer_only(command: Command, serve: Serve) -> None:
    server = serve(answering(assistant("thinking"), text("4")))
    assert command("query", "-q", "--url", server.url, "hi") == (0, "4\n", "")


def test_what_commands_of_a_query_print_is_not_the_answer(command: Command, serve: Serve) -> None:
    server = serve(answering(output("installing\n"), text("4")))
    assert command("query", "--url", server.url, "hi") == (0, "4\n", "installing\n")


def test_json_lines(command: Command, serve: Serve) -> None:
    server = serve(answering(assistant("é"), heartbeat(3), text("4", tokens=7)))
    code, out, err = command("query", "--json", "--url", server.url, "hi")
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"message_type": "assistant_message", "text_blocks": ["é"]},
        {"message_type": "heartbeat_message", "phase": "request_in_flight", "elapsed_ms": 3},
        {
            "message_type": "result_message",
            "data": {"type": "text", "text": "4"},
            "metadata": {"tokens": 7},
            "exit_code": 0,
        },
    ]


def test_an_error_as_json(command: Command, serve: Serve) -> None:
    server = serve(answering(error("no such model", error_name="NotFound")))
    code, out, err = command("query", "--json", "--url", server.url, "hi")
    assert (code, err) == (1, "runtimeuse-sync: no such model\n")
    assert json.loads(out) == {
        "message_type": "error_message",
        "error": "no such model",
        "metadata": {"error_name": "NotFound"},
        "type": "AgentRuntimeError",
        "exit_code": 1,
    }


# --- A schema.


@pytest.mark.parametrize("wrapped", [False, True])
def test_with_a_schema_the_answer_is_json_and_nothing_else(
    command: Command, serve: Serve, tmp_path: Path, wrapped: bool
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    full = {"type": "json_schema", "schema": schema}
    (tmp_path / "schema.json").write_text(json.dumps(full if wrapped else schema))
    server = serve(answering(assistant("thinking"), structured({"n": 4, "name": "Ö"})))
    outcome = command("query", "--url", server.url, "--schema", tmp_path / "schema.json", "hi")
    assert outcome == (0, '{"n": 4, "name": "Ö"}\n', "")
    (sent,) = server.said("invocation_message")
    assert json.loads(sent["output_format_json_schema_str"]) == full


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is not JSON"), ("[]", "it must be an object"), (None, "No such file")],
)
def test_a_bad_schema_is_wrong_usage(command: Command, tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    code, out, err = command("query", "--url", "ws://127.0.0.1:1", "--schema", path, "hi")
    assert (code, out) == (2, "")
    assert said in err


# --- What is sent.


def test_options_are_sent(command: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "mine")
    monkeypatch.setenv("API_KEY", "hidden-value")
    server = serve(answering(text("the key is hidden-value")))
    code, out, err = command(
        "query", "--url", server.url, "-m", "gpt", "-s", "Be brief.", "--env", "A=b=c", "--env", "FROM_HERE",
        "--secret", "API_KEY", "--header", "X-One: 1", "--header", "X-Two:2", "hi",
    )  # fmt: skip
    assert (code, out, err) == (0, "the key is [REDACTED]\n", "")
    (sent,) = server.said("invocation_message")
    assert (sent["model"], sent["system_prompt"], sent["user_prompt"]) == ("gpt", "Be brief.", "hi")
    assert sent["agent_env"] == {"A": "b=c", "FROM_HERE": "mine", "API_KEY": "hidden-value"}
    assert sent["secrets_to_redact"] == ["hidden-value"]
    assert (server.peers[0].headers["x-one"], server.peers[0].headers["x-two"]) == ("1", "2")


@pytest.mark.parametrize(("variable", "model"), [(None, "default"), ("from-environment", "from-environment")])
def test_the_model_has_a_default(
    command: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch, variable: Any, model: str
) -> None:
    server = serve(answering(text("4")))
    monkeypatch.setenv("RUNTIMEUSE_WS_URL", server.url)
    if variable is not None:
        monkeypatch.setenv("RUNTIMEUSE_MODEL", variable)
    assert command("query", "hi").out == "4\n"
    assert server.said("invocation_message")[0]["model"] == model


# --- How it ends.


def test_an_agent_that_fails(command: Command, runtime: LocalRuntime) -> None:
    code, out, err = command("query", "--url", runtime.ws_url, "echo so far; echo oops >&2; echo no >&2; exit 3")
    assert (code, out) == (1, "so far\n")
    assert err == "runtimeuse-sync: the script failed with exit code: 3: oops; no\n"


def test_a_timeout_is_124(command: Command, runtime: LocalRuntime) -> None:
    code, out, err = command("query", "--url", runtime.ws_url, "--timeout", "1", "sleep 60")
    assert (code, out, err) == (124, "", "runtimeuse-sync: Query did not end within 1 s\n")


def test_a_runtime_that_is_not_there_is_1(command: Command) -> None:
    code, out, err = command("query", "--url", "ws://127.0.0.1:1", "--connect-timeout", "1", "hi")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "connection refused" in err


def test_a_secret_is_in_no_error(command: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "hidden-value")
    server = serve(answering(error("bad key hidden-value", error_details="hidden-value is bad")))
    code, out, err = command("query", "--json", "-vv", "--url", server.url, "--secret", "API_KEY", "hi")
    assert code == 1
    assert "bad key [REDACTED]" in out
    assert "bad key [REDACTED]" in err
    assert "hidden-value" not in out + err


def test_verbose_logs_to_stderr(command: Command, runtime: LocalRuntime) -> None:
    code, out, err = command("query", "-v", "--url", runtime.ws_url, "echo hi")
    assert (code, out) == (0, "hi\n")
    assert "INFO runtimeuse_sync:" in err


def test_the_embedded_runtime(command: Command, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIMEUSE_WS_URL", "ws://127.0.0.1:1")
    (tmp_path / "agent_of_this_test.py").write_text(
        "def run(invocation, sender):\n    return 'I am ' + invocation.model\n"
    )
    assert command("query", "--local", "pwd").out == f"{tmp_path}\n"
    assert command("query", "--local", "--agent", "echo", "hi").out == "hi\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert command("query", "--local", "--agent", "agent_of_this_test:run", "-m", "m", "hi").out == "I am m\n"
