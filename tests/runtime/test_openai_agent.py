"""The built-in agent `openai` against a scripted server of the chat completions API."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from runtimeuse_sync.runtime.agents.openai import _offers_web_search

from ..support.packages import said_without
from ..support.processes import Pipe, wait_until_ended
from ..support.servers import PATIENCE
from .conftest import StartRuntime
from .model_server import (
    ModelServer,
    Stalls,
    Turn,
    breaks_off,
    fails,
    message,
    responds,
    runs,
    says,
    shell_call,
    web_search_call,
)
from .wire import CANCELLED, FORMAT, SCHEMA, Message, Wire, wire_to

Ask = Callable[..., List[Message]]


def test_a_missing_sdk_is_named() -> None:
    assert 'pip install "runtimeuse-sync[runtime,openai]"' in said_without("agents", "openai")


class TestWithTheSdk:
    @pytest.fixture(autouse=True)
    def sdk(self) -> None:
        pytest.importorskip(
            "agents.agent", reason="needs the OpenAI Agents SDK: the extra [openai], Python 3.10 or later"
        )

    @pytest.fixture
    def model(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
        with ModelServer() as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-runtime")
            yield server

    @pytest.fixture
    def wire(self, start: StartRuntime, model: ModelServer) -> Iterator[Wire]:
        with wire_to(start("openai")) as wire:
            yield wire

    @pytest.fixture
    def ask(self, wire: Wire, model: ModelServer) -> Ask:
        def ask(*turns: Turn, **fields: Any) -> List[Message]:
            model.turns.extend(turns)
            return wire.query("the question", **{"system_prompt": "be brief", "model": "gpt-x", **fields})

        return ask

    def test_an_answer_is_an_assistant_message_and_the_result(self, ask: Ask, model: ModelServer) -> None:
        message, result = ask(says("Hel", "lo", "!"))
        assert message == {"message_type": "assistant_message", "text_blocks": ["Hello!"]}
        assert result["data"] == {"type": "text", "text": "Hello!"}
        usage = {"requests": 1, "inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
        assert result["metadata"] == {"model": "gpt-x", "usage": usage}
        [request] = model.requests
        assert request["path"] == "/v1/chat/completions"
        assert request["authorization"] == "Bearer sk-of-the-runtime"
        assert request["model"] == "gpt-x"
        assert [(item["role"], item["content"]) for item in request["messages"]] == [
            ("system", "be brief"),
            ("user", "the question"),
        ]

    def test_key_and_url_of_the_client_come_first(
        self, ask: Ask, model: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        ask(says("x"), agent_env={"OPENAI_API_KEY": "sk-of-the-client", "OPENAI_BASE_URL": model.url})
        assert model.requests[0]["authorization"] == "Bearer sk-of-the-client"

    def test_without_a_key_the_client_is_told(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY")
        monkeypatch.delenv("OPENAI_BASE_URL")
        assert "needs OPENAI_API_KEY" in ask()[-1]["error"]

    def test_the_shell_tool_runs_commands(self, ask: Ask, model: ModelServer, tmp_path: Path) -> None:
        turn = runs("echo $A | tee made; echo oops >&2; exit 3", saying=["I'll ", "look."])
        messages = ask(turn, says("Done."), agent_env={"A": "from the client"})
        assert [message.get("text_blocks") for message in messages] == [["I'll look."], ["Done."], None]
        assert messages[-1]["metadata"]["usage"]["requests"] == 2
        assert (tmp_path / "made").read_text() == "from the client\n"
        assert self.tool_outputs(model) == ["exit code: 3\nstdout:\nfrom the client\n\nstderr:\noops\n"]
        [tool] = model.requests[0]["tools"]
        assert tool["function"]["name"] == "shell"

    def test_several_commands_run_at_once(self, ask: Ask, model: ModelServer) -> None:
        # Each waits for the other one.
        ask(runs("mkfifo a; cat a", "until [ -p a ]; do :; done; echo hello > a"), says("Done."))
        assert self.tool_outputs(model) == ["exit code: 0\nstdout:\nhello\n", "exit code: 0"]

    @staticmethod
    def tool_outputs(model: ModelServer) -> List[str]:
        return [item["content"] for item in model.requests[-1]["messages"] if item["role"] == "tool"]

    @pytest.mark.parametrize("arguments", ["{]", "[]", '{"cwd": null}', '{"command": 3}'])
    def test_the_model_is_told_of_wrong_arguments(self, ask: Ask, model: ModelServer, arguments: str) -> None:
        assert ask(runs(arguments=arguments), says("Done."))[-1]["data"]["text"] == "Done."
        assert "arguments" in self.tool_outputs(model)[0]

    def test_and_of_a_command_that_cannot_be_started(self, ask: Ask, model: ModelServer) -> None:
        ask(runs("true\0"), says("Done."))
        assert "could not be started" in self.tool_outputs(model)[0]

    def test_secrets_reach_neither_model_nor_client(
        self, ask: Ask, model: ModelServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, logger="runtimeuse_sync"):
            messages = ask(
                runs("printf hun; sleep 0.1; echo ter2"), says("It is hun", "ter2."), secrets_to_redact=["hunter2"]
            )
        assert "hunter2" not in json.dumps(messages)
        assert messages[-1]["data"]["text"] == "It is [REDACTED]."
        assert self.tool_outputs(model) == ["exit code: 0\nstdout:\n[REDACTED]\n"]
        assert "hunter2" not in caplog.text

    def test_of_a_long_output_the_model_sees_both_ends(self, ask: Ask, model: ModelServer) -> None:
        ask(runs("echo begin; yes | head -c 1000000; echo end"), says("Done."))
        [shown] = self.tool_outputs(model)
        assert shown.startswith("exit code: 0\nstdout:\nbegin\ny\n")
        assert shown.endswith("y\nend\n")
        assert "characters left out" in shown
        assert len(shown) < 21_000

    def test_with_a_schema_the_result_is_json(self, ask: Ask, model: ModelServer) -> None:
        result = ask(says('{"n"', ": 3}"), output_format_json_schema_str=FORMAT)[-1]
        assert result["data"] == {"type": "structured_output", "structured_output": {"n": 3}}
        asked = model.requests[0]["response_format"]
        assert (asked["type"], asked["json_schema"]["schema"]) == ("json_schema", SCHEMA)

    @pytest.mark.parametrize(("answer", "said"), [("no", "not JSON"), ('{"n": "x"}', "$.n: "), ("[]", "schema")])
    def test_what_does_not_keep_to_it_is_an_error(self, ask: Ask, answer: str, said: str) -> None:
        assert said in ask(says(answer), output_format_json_schema_str=FORMAT)[-1]["error"]

    def test_an_error_of_the_server_is_the_answer(self, ask: Ask, wire: Wire) -> None:
        [answer] = ask(fails(401, "Incorrect API key"))
        assert "Incorrect API key" in answer["error"]
        assert answer["metadata"]["error_name"] == "AuthenticationError"
        wire.assert_idle()

    def test_a_broken_answer_is_an_error_or_at_least_ends(self, ask: Ask, wire: Wire) -> None:
        # The SDK tries again, or takes what came for the whole answer.
        assert ask(breaks_off, breaks_off, breaks_off, breaks_off)[-1]["message_type"] in (
            "error_message",
            "result_message",
        )
        wire.assert_idle()

    def test_a_server_that_is_not_there(self, ask: Ask) -> None:
        answer = ask(agent_env={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})[-1]
        assert answer["metadata"]["error_name"] == "APIConnectionError"

    def test_a_message_comes_before_the_next_one_is_asked_for(self, wire: Wire, model: ModelServer) -> None:
        stalls = Stalls()
        model.turns += [runs("true", saying=["I'll look."]), stalls]
        wire.send_query("x")
        assert wire.expect("assistant_message")["text_blocks"] == ["I'll look."]
        assert stalls.begun.wait(PATIENCE)
        wire.cancel()
        assert wire.receive_until()[-1] == CANCELLED
        stalls.go_on.set()

    def test_a_web_search_where_it_is_offered(self, ask: Ask, model: ModelServer, tmp_path: Path) -> None:
        first = responds(web_search_call(), message("Found it."), shell_call("echo found > made"))
        messages = ask(first, responds(message("Done.")), agent_env={"OPENAI_WEB_SEARCH": "1"})
        assert [message.get("text_blocks") for message in messages] == [["Found it."], ["Done."], None]
        assert messages[-1]["data"] == {"type": "text", "text": "Done."}
        usage = {"requests": 2, "inputTokens": 20, "outputTokens": 10, "totalTokens": 30}
        assert messages[-1]["metadata"] == {"model": "gpt-x", "usage": usage}
        assert (tmp_path / "made").read_text() == "found\n"
        assert [request["path"] for request in model.requests] == ["/v1/responses", "/v1/responses"]
        asked = model.requests[0]
        assert [tool.get("name", tool["type"]) for tool in asked["tools"]] == ["shell", "web_search"]
        assert asked["instructions"] == "be brief"
        [output] = [item for item in model.requests[1]["input"] if item.get("type") == "function_call_output"]
        assert output["output"] == "exit code: 0"

    def test_with_a_schema_too(self, ask: Ask, model: ModelServer) -> None:
        environment = {"OPENAI_WEB_SEARCH": "1"}
        answer = responds(message('{"n": 3}'))
        result = ask(answer, output_format_json_schema_str=FORMAT, agent_env=environment)[-1]
        assert result["data"] == {"type": "structured_output", "structured_output": {"n": 3}}
        assert model.requests[0]["text"]["format"]["schema"] == SCHEMA

    @pytest.mark.parametrize("status", [400, 404, 422])
    def test_without_it_where_it_is_refused(self, ask: Ask, model: ModelServer, status: int) -> None:
        messages = ask(fails(status, "not with this model"), says("Done."), agent_env={"OPENAI_WEB_SEARCH": "1"})
        assert messages[-1]["data"]["text"] == "Done."
        assert [request["path"] for request in model.requests] == ["/v1/responses", "/v1/chat/completions"]

    def test_what_is_refused_later_is_an_error(self, ask: Ask, wire: Wire, model: ModelServer) -> None:
        turns = [responds(shell_call("true")), fails(400, "too long")]
        assert "too long" in ask(*turns, agent_env={"OPENAI_WEB_SEARCH": "1"})[-1]["error"]
        assert len(model.requests) == 2
        wire.assert_idle()

    def test_a_key_that_is_refused_is_not_tried_again(self, ask: Ask, model: ModelServer) -> None:
        assert "no" in ask(fails(401, "no"), agent_env={"OPENAI_WEB_SEARCH": "1"})[-1]["error"]
        assert len(model.requests) == 1

    def test_another_value_is_an_error(self, ask: Ask) -> None:
        assert ask(agent_env={"OPENAI_WEB_SEARCH": "yes"})[-1]["error"] == "OPENAI_WEB_SEARCH must be 0 or 1, not 'yes'"

    @pytest.mark.parametrize(
        ("environment", "offered"),
        [
            ({}, True),
            ({"OPENAI_BASE_URL": ""}, True),
            ({"OPENAI_BASE_URL": "https://api.openai.com/v1"}, True),
            ({"OPENAI_BASE_URL": "https://eu.api.openai.com/v1"}, True),
            ({"OPENAI_BASE_URL": "https://api.openai.com/v1", "OPENAI_WEB_SEARCH": "0"}, False),
            ({"OPENAI_BASE_URL": "https://notapi.openai.com/v1"}, False),
            ({"OPENAI_BASE_URL": "https://api.openai.com.example/v1"}, False),
            ({"OPENAI_BASE_URL": "http://localhost:11434/v1"}, False),
            ({"OPENAI_BASE_URL": "http://localhost:11434/v1", "OPENAI_WEB_SEARCH": "1"}, True),
            ({"OPENAI_BASE_URL": "nonsense"}, False),
        ],
    )
    def test_by_default_it_is_openai_that_offers_it(self, environment: Dict[str, str], offered: bool) -> None:
        assert _offers_web_search(environment) is offered

    def test_a_cancel_in_the_middle_of_an_answer(self, wire: Wire, model: ModelServer) -> None:
        stalls = Stalls()
        model.turns.append(stalls)
        wire.send_query("x")
        assert stalls.begun.wait(PATIENCE)
        wire.cancel()
        assert wire.receive_until()[-1] == CANCELLED
        stalls.go_on.set()
        wire.assert_idle()

    def test_a_cancel_ends_the_tools_processes(self, wire: Wire, model: ModelServer, tmp_path: Path) -> None:
        pipe = Pipe(tmp_path / "pids")
        model.turns.append(runs("sleep 60 & echo $! $$ > pids; wait"))
        wire.send_query("x")
        pids = pipe.numbers()
        wire.cancel()
        assert wire.receive_until()[-1] == CANCELLED
        wait_until_ended(*pids)

    def test_a_client_that_vanishes_ends_them_too(
        self, start: StartRuntime, model: ModelServer, tmp_path: Path
    ) -> None:
        pipe = Pipe(tmp_path / "pids")
        model.turns.append(runs("sleep 60 & echo $! $$ > pids; wait"))
        with wire_to(start("openai")) as wire:
            wire.send_query("x")
            pids = pipe.numbers()
        wait_until_ended(*pids)

    def test_nothing_but_the_base_url_is_reached(
        self, ask: Ask, model: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import socket

        reached: List[Any] = []
        original = socket.socket.connect

        def connect(self: socket.socket, address: Any) -> None:
            reached.append(address)
            original(self, address)

        monkeypatch.setattr(socket.socket, "connect", connect)
        looked_up: List[Any] = []
        original_lookup = socket.getaddrinfo

        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            looked_up.append(host)
            return original_lookup(host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        ask(runs("true"), says("Done."))
        assert {address[0] for address in reached} == {"127.0.0.1"}
        assert set(looked_up) <= {"127.0.0.1", b"127.0.0.1"}
