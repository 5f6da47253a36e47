"""One connection and its requests, mostly as recorded conversations with the reference runtime go."""

from __future__ import annotations

import threading
from typing import Any, Dict, List

import pytest

from runtimeuse_sync.runtime import Invocation, Sender

from ..support.servers import PATIENCE
from .conftest import Connect, StartRuntime
from .wire import BUSY, CANCELLED, Wire, assert_closed, wire_to


class Slow:
    """A plain agent that returns only when it is let go, whatever else happens."""

    def __init__(self) -> None:
        self.runs = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.cancelled: List[bool] = []

    def run(self, invocation: Invocation, sender: Sender) -> str:
        if not invocation.user_prompt.startswith("slow"):
            return invocation.user_prompt
        self.runs.release()
        assert self.go.acquire(timeout=PATIENCE)
        self.cancelled.append(invocation.cancelled.is_set())
        return "slow done"

    def wait(self) -> None:
        assert self.runs.acquire(timeout=PATIENCE)


def text(result: str) -> List[Dict[str, Any]]:
    return [{"message_type": "result_message", "data": {"type": "text", "text": result}, "metadata": {}}]


def test_a_query_is_answered_and_the_session_ends(talk: Connect) -> None:
    wire = talk("echo")
    assert wire.query("hello") == text("hello")
    assert wire.query("again") == text("again")
    assert wire.end() == [{"message_type": "end_session_confirm_message"}]


def test_a_second_request_is_refused_and_the_first_goes_on(talk: Connect) -> None:
    agent = Slow()
    wire = talk(agent)
    wire.send_query("slow")
    agent.wait()
    for refused in (wire.query("second"), wire.commands(), wire.commands("echo x")):
        assert [message["error"] for message in refused] == [BUSY]
        assert refused[0]["metadata"]["error_name"] == "Error"
        assert BUSY in refused[0]["metadata"]["stack"]
    agent.go.release()
    assert wire.receive_until() == text("slow done")
    wire.assert_idle()


def test_a_cancel_with_nothing_in_flight_does_nothing(talk: Connect) -> None:
    wire = talk("echo")
    wire.cancel()
    assert wire.query("hello") == text("hello")


def test_an_agent_may_ignore_a_cancel(talk: Connect) -> None:
    agent = Slow()
    wire = talk(agent)
    wire.send_query("slow")
    agent.wait()
    wire.cancel()
    wire.cancel()
    assert wire.commands()[0]["error"] == BUSY
    agent.go.release()
    assert wire.receive() == CANCELLED
    assert agent.cancelled == [True]
    assert wire.query("next") == text("next")


def test_each_connection_has_its_own_request_in_flight(start: StartRuntime) -> None:
    agent = Slow()
    runtime = start(agent)
    with wire_to(runtime) as first, wire_to(runtime) as second:
        first.send_query("slow")
        second.send_query("slow")
        agent.wait()
        agent.wait()
        second.cancel()
        second.commands()
        agent.go.release()
        agent.go.release()
        assert first.receive_until() == text("slow done")
        assert second.receive_until() == [CANCELLED]


@pytest.mark.parametrize("ending", ["late result", "second"])
def test_an_agents_own_error_does_not_end_its_request(talk: Connect, ending: str) -> None:
    goes_on = threading.Event()

    def agent(invocation: Invocation, sender: Sender) -> str:
        if invocation.user_prompt == "next":
            return "next"
        sender.send_error_message("first")
        assert goes_on.wait(PATIENCE)
        if ending == "second":
            raise ValueError("second")
        return ending

    wire = talk(agent)
    assert wire.query("go") == [{"message_type": "error_message", "error": "first", "metadata": {}}]
    assert wire.commands()[0]["error"] == BUSY
    goes_on.set()
    if ending == "second":
        [terminal] = wire.receive_until()
        assert terminal["error"] == "second"
        assert terminal["metadata"]["error_name"] == "ValueError"
    else:
        assert wire.receive_until() == text(ending)
    assert wire.query("next") == text("next")


def test_heartbeats_come_while_a_request_is_in_flight(talk: Connect) -> None:
    agent = Slow()
    wire = talk(agent, heartbeat_interval=0.05)
    wire.send_query("slow")
    beats = [wire.receive(), wire.receive()]
    agent.go.release()
    assert all(beat["message_type"] == "heartbeat_message" for beat in beats)
    assert all(beat["phase"] == "request_in_flight" for beat in beats)
    assert 50 <= beats[0]["elapsed_ms"] < beats[1]["elapsed_ms"]
    assert wire.receive_until("result_message")[-1:] == text("slow done")
    with pytest.raises(TimeoutError):
        wire.receive(timeout=0.2)


def test_unknown_messages_are_ignored(talk: Connect) -> None:
    wire = talk("echo")
    wire.send("no_such_message", some="thing")
    assert wire.query("still", no_such_field=1) == text("still")


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"message_type": "invocation_message", "system_prompt": "s", "model": "m"}, '"user_prompt"'),
        ({"message_type": "invocation_message", "system_prompt": 1, "user_prompt": "", "model": ""}, '"system_prompt"'),
        ({"message_type": "command_execution_message"}, '"commands"'),
        ({"message_type": "command_execution_message", "commands": "ls"}, '"commands"'),
        ({"message_type": "command_execution_message", "commands": ["ls"]}, '"commands"'),
        ({"message_type": "command_execution_message", "commands": [{"command": "a"}, {}]}, 'commands[1]: "command"'),
        ({"message_type": "command_execution_message", "commands": [{"command": "a", "env": {"A": 1}}]}, '"env"'),
        (
            {"message_type": "command_execution_message", "commands": [], "secrets_to_redact": [1]},
            '"secrets_to_redact"',
        ),
        ({"message_type": "command_execution_message", "commands": [], "artifacts_dirs": "x"}, '"artifacts_dirs"'),
        (
            {"message_type": "command_execution_message", "commands": [], "pre_execution_downloadables": [{}]},
            'pre_execution_downloadables[0]: "download_url"',
        ),
        ({"message_type": None}, '"message_type"'),
        ({}, '"message_type"'),
        ([], "not a JSON object"),
    ],
)
def test_a_malformed_request_is_answered_with_what_is_wrong(wire: Wire, message: Any, named: str) -> None:
    import json

    wire.connection.send(json.dumps(message))
    answer = wire.receive()
    assert answer["message_type"] == "error_message"
    assert named in answer["error"]
    wire.assert_idle()


def test_an_output_format_must_be_json(wire: Wire) -> None:
    assert '"output_format_json_schema_str"' in wire.query("x", output_format_json_schema_str="{")[0]["error"]


@pytest.mark.parametrize("asked", ["[]", '{"type": "json_schema"}', '"yaml"', "3", "true"])
@pytest.mark.parametrize("agent", ["shell", "echo"])
def test_the_built_in_agents_need_a_schema(talk: Connect, agent: str, asked: str) -> None:
    wire = talk(agent)
    assert "is not a JSON schema" in wire.query("echo x", output_format_json_schema_str=asked)[-1]["error"]
    wire.assert_idle()


@pytest.mark.parametrize("frame", ["", "{", "\u0000", b"\xff\xfe", "[" * 100_000])
def test_a_frame_that_is_not_json_is_answered(wire: Wire, frame: Any) -> None:
    wire.connection.send(frame)
    assert "not JSON" in wire.receive()["error"]
    wire.assert_idle()


def test_null_is_the_same_as_unset(talk: Connect) -> None:
    unset = dict.fromkeys(
        (
            "source_id",
            "agent_env",
            "output_format_json_schema_str",
            "artifacts_dirs",
            "artifacts_dir",
            "secrets_to_redact",
        )
    )
    assert talk("echo").query("x", **unset) == text("x")


def test_the_end_of_a_session_waits_for_what_is_in_flight(talk: Connect) -> None:
    agent = Slow()
    wire = talk(agent)
    wire.send_query("slow")
    agent.wait()
    wire.send("end_session_message")
    agent.go.release()
    assert wire.receive_until() == text("slow done")
    assert wire.receive() == {"message_type": "end_session_confirm_message"}
    assert_closed(wire.connection)


def test_a_client_that_vanishes_has_its_request_cancelled(start: StartRuntime) -> None:
    seen = threading.Event()
    running = threading.Event()

    def agent(invocation: Invocation, sender: Sender) -> str:
        running.set()
        if invocation.cancelled.wait(PATIENCE):
            seen.set()
        return ""

    runtime = start(agent)
    with wire_to(runtime) as wire:
        wire.send_query()
        assert running.wait(PATIENCE)
        wire.connection.socket.shutdown(2)
    assert seen.wait(PATIENCE)


def test_a_slow_client_is_pushed_back_on(talk: Connect) -> None:
    sent = 0
    megabyte = "x" * 1_000_000

    def agent(invocation: Invocation, sender: Sender) -> str:
        nonlocal sent
        for _ in range(100):
            sender.send_assistant_message([megabyte])
            sent += 1
        return "done"

    wire = talk(agent)
    wire.send_query()
    # The agent cannot be ahead of the client by more than what sockets and the client's library hold.
    for received in range(1, 101):
        assert wire.receive()["text_blocks"] == [megabyte]
        assert sent <= received + 40
    assert wire.receive_until() == text("done")


def test_large_messages_come_whole(talk: Connect) -> None:
    wire = talk("echo")
    prompt = "é" * 10_000_000
    assert wire.query(prompt)[0]["data"]["text"] == prompt
