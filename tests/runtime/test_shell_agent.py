"""The built-in agent `shell`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Connect
from .wire import CANCELLED, FORMAT, SCHEMA


def test_the_shell_agent_streams_lines_and_returns_all(talk: Connect) -> None:
    messages = talk().query('echo "$A"; printf "two\\nthree"; echo oops >&2', agent_env={"A": "one"})
    assert [message["text_blocks"] for message in messages[:-1]] == [["one"], ["two"], ["three"]]
    assert messages[-1]["data"] == {"type": "text", "text": "one\ntwo\nthree"}


def test_the_shell_agent_reports_a_failure(talk: Connect) -> None:
    [answer] = talk().query("echo my SECRET problem >&2; exit 3", secrets_to_redact=["SECRET"])
    assert answer["error"] == "the script failed with exit code: 3"
    assert answer["metadata"]["error_details"] == "my [REDACTED] problem\n"


def test_the_shell_agent_masks_secrets_of_several_lines(talk: Connect) -> None:
    messages = talk().query("echo a; echo b; echo c", secrets_to_redact=["a\nb"])
    assert [message["text_blocks"] for message in messages[:-1]] == [["[REDACTED]"], ["c"]]


def test_the_shell_agent_is_cancelled(talk: Connect) -> None:
    wire = talk()
    wire.send_query("echo running; sleep 60; echo never")
    assert wire.receive()["text_blocks"] == ["running"]
    wire.cancel()
    assert wire.receive() == CANCELLED


@pytest.mark.parametrize("asked", [FORMAT, json.dumps(SCHEMA)], ids=["wrapped", "bare"])
@pytest.mark.parametrize(("agent", "prefix"), [("shell", "echo "), ("echo", "")])
def test_with_a_schema_the_result_is_json(talk: Connect, agent: str, prefix: str, asked: str) -> None:
    wire = talk(agent)

    def ask(text: str) -> Any:
        prompt = f"{prefix}'{text}'" if prefix else text
        return wire.query(prompt, output_format_json_schema_str=asked)[-1]

    assert ask('{"n": 3}')["data"] == {"type": "structured_output", "structured_output": {"n": 3}}
    assert "is not JSON" in ask("hello")["error"]
    assert "$.n: " in ask('{"n": "x"}')["error"]
    assert "schema" in ask("[]")["error"]
