"""`runtimeuse-sync exec`: the command's output on its own streams, the command's own exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import pytest

from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, output, ran
from ..support.servers import Message, Peer
from .conftest import Command


def running(*messages: Message) -> Any:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(*messages)

    return script


def test_each_stream_goes_to_its_own(command: Command, runtime: LocalRuntime) -> None:
    outcome = command("exec", "--url", runtime.ws_url, "echo out; echo err >&2; printf end")
    assert outcome == (0, "out\nend", "err\n")


@pytest.mark.parametrize("code", [0, 1, 2, 124, 130, 255])
def test_the_exit_code_is_the_commands_own(command: Command, runtime: LocalRuntime, code: int) -> None:
    assert command("exec", "--url", runtime.ws_url, f"exit {code}") == (code, "", "")


def test_a_command_that_a_signal_has_ended(command: Command, runtime: LocalRuntime) -> None:
    assert command("exec", "--url", runtime.ws_url, "kill -9 $$").code == 255


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["ls | wc -l"], "ls | wc -l"),
        (["--", "ls | wc -l"], "ls | wc -l"),
        (["--", "ls", "-l", "my file", "$HOME"], "ls -l 'my file' '$HOME'"),
        (["ls", "-l", "--url", "x"], "ls -l --url x"),
        (["--", "--json", "x"], "--json x"),
    ],
)
def test_the_words_of_a_command(command: Command, serve: Serve, words: List[str], sent: str) -> None:
    server = serve(running(ran(sent)))
    assert command("exec", "--url", server.url, *words).code == 0
    assert server.said("command_execution_message")[0]["commands"] == [{"command": sent}]


def test_directory_and_environment(command: Command, runtime: LocalRuntime, tmp_path: Path) -> None:
    outcome = command("exec", "--url", runtime.ws_url, "--cwd", "below", "--env", "A=b c", 'basename "$PWD"; echo "$A"')
    assert outcome == (0, "below\nb c\n", "")
    assert (tmp_path / "below").is_dir()


def test_standard_input_is_passed_on_if_that_is_asked_for(command: Command, runtime: LocalRuntime) -> None:
    url = runtime.ws_url
    data = "b\nä\n".encode()
    assert command("exec", "-i", "--url", url, "--env", "A=x", 'sort; echo "$A"', stdin=data).out == "b\nä\nx\n"
    assert command("exec", "-i", "--url", url, "wc -c", stdin=b"").out.strip() == "0"
    assert command("exec", "--url", url, "cat </dev/null", stdin=b"not read").out == ""
    out = command("exec", "-i", "--json", "--url", url, "cat", stdin=b"secret?").out
    assert [json.loads(line).get("command", "cat") for line in out.splitlines()] == ["cat", "cat"]
    code, _, err = command("exec", "-i", "--url", url, "cat", stdin=bytes(1_000_000))
    assert (code, err.count("\n")) == (2, 1)
    assert " KiB at most; for more, copy it first: runtimeuse-sync cp - sandbox:FILE" in err


def test_json_lines(command: Command, runtime: LocalRuntime) -> None:
    code, out, err = command("exec", "--json", "--url", runtime.ws_url, "echo one; exit 3")
    assert (code, err) == (3, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"message_type": "command_output_message", "stream": "stdout", "text": "one\n", "command": "echo one; exit 3"},
        {
            "message_type": "command_execution_result_message",
            "results": [{"command": "echo one; exit 3", "exit_code": 3, "stdout": "one\n", "stderr": None}],
            "exit_code": 3,
        },
    ]


def test_a_secret_is_masked_even_by_a_runtime_that_does_not(
    command: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "hidden-value")
    messages = [
        output("a hid"), output("oops hidden", "stderr"), output("den-"), output("value z hidden-", command="c"),
        ran("c", stdout="a hidden-value z"),
    ]  # fmt: skip
    server = serve(running(*messages))
    assert command("exec", "--url", server.url, "--secret", "KEY", "c") == (
        0,
        "a [REDACTED] z hidden-",
        "oops hidden",
    )
    server = serve(running(*messages))
    out = command("exec", "--json", "--url", server.url, "--secret", "KEY", "c").out
    assert [json.loads(line).get("text") for line in out.splitlines()] == [
        "a ", "oops ", "[REDACTED] z ", "hidden-", "hidden", None,
    ]  # fmt: skip
    assert "hidden-value" not in out


def test_output_that_was_not_streamed_is_written_in_the_end(command: Command, serve: Serve) -> None:
    assert command("exec", "--url", serve(running(ran("c", stdout="late\n"))).url, "c") == (0, "late\n", "")


def test_no_result_is_no_success(command: Command, serve: Serve) -> None:
    code, out, err = command("exec", "--url", serve(running(ran())).url, "c")
    assert (code, out) == (1, "")
    assert "has not run the command" in err


def test_what_came_before_a_timeout_is_written(command: Command, runtime: LocalRuntime) -> None:
    code, out, err = command("exec", "--url", runtime.ws_url, "--timeout", "1", "echo so far; sleep 60")
    assert (code, out) == (124, "so far\n")
    assert err == "runtimeuse-sync: Command execution did not end within 1 s\n"
