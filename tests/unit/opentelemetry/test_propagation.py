"""The span's context in the environment of what runs in the sandbox."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.propagators.textmap import CarrierT, Setter, TextMapPropagator, default_setter
from opentelemetry.sdk.trace import ReadableSpan

from runtimeuse_sync import CommandInterface, RuntimeUseClient
from runtimeuse_sync._wire import request as requests
from runtimeuse_sync.opentelemetry import _propagation
from runtimeuse_sync.runtime import LocalRuntime
from runtimeuse_sync.testing import FakeRuntime, command_results, text_result

from ...support.builders import BOTH, caller_of, client_of
from .recorded import Recorded


class Odd(TextMapPropagator):
    """A propagator with names that no shell keeps, and a value that no environment takes."""

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        raise NotImplementedError

    def inject(self, carrier: CarrierT, context: Any = None, setter: Setter[CarrierT] = default_setter) -> None:
        setter.set(carrier, "uber-trace-id", "1:2")
        setter.set(carrier, "3x", "3")
        setter.set(carrier, "null", "a\0b")

    @property
    def fields(self) -> Any:
        return {"uber-trace-id"}


@pytest.fixture
def odd_propagator() -> Iterator[None]:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Odd())
    yield
    propagate.set_global_textmap(before)


def traceparent(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


@BOTH
def test_an_agent_and_commands_see_it(recorded: Recorded, runtime: LocalRuntime, in_session: bool) -> None:
    script = 'echo "$traceparent $TRACEPARENT"'
    said: List[str] = []
    with caller_of(client_of(runtime), in_session) as caller:
        answers = [
            caller.query(
                script,
                pre_agent_invocation_commands=[CommandInterface(script)],
                post_agent_invocation_commands=[CommandInterface(script)],
                on_command_output=lambda message: said.append(message.text.strip()),
            ).text,
            caller.execute_commands([script]).results[0].stdout,
            caller.run(script).stdout,
            caller.run(script, input="short").stdout,
            caller.run(script, input=b"x" * 1_000_000).stdout,
        ]
    expected = [f"{traceparent(span)} {traceparent(span)}" for span in recorded.spans()]
    assert [answer.strip() for answer in answers] == expected
    assert said == expected[:1] * 2


def sent(recorded: Recorded, **options: Any) -> Dict[str, Any]:
    fake = FakeRuntime([text_result("4")])
    RuntimeUseClient(transport=fake, model="m", **options).query("p \ud800 ü")
    return fake.requests[0]


def test_a_request_stays_as_it_is_otherwise(recorded: Recorded) -> None:
    request = sent(recorded, agent_env={"A": "1", "B": "\udcff"}, source_id="me")
    env = request.pop("agent_env")
    value = traceparent(recorded.span())
    assert env == {"traceparent": value, "TRACEPARENT": value, "A": "1", "B": "\udcff"}
    assert request == {
        "message_type": "invocation_message",
        "system_prompt": "",
        "user_prompt": "p \ud800 ü",
        "model": "m",
        "secrets_to_redact": [],
        "source_id": "me",
    }


@pytest.mark.parametrize("name", ["traceparent", "TRACEPARENT", "Traceparent"])
def test_what_the_user_has_set_stays(recorded: Recorded, name: str) -> None:
    assert sent(recorded, agent_env={name: "mine"})["agent_env"] == {name: "mine"}


def test_each_environment_is_looked_at_by_itself(recorded: Recorded) -> None:
    fake = FakeRuntime([command_results(0, 0)])
    RuntimeUseClient(transport=fake).execute_commands([CommandInterface("a", env={"traceparent": "mine"}), "b"])
    first, second = fake.requests[0]["commands"]
    assert first["env"] == {"traceparent": "mine"}
    assert sorted(second["env"]) == ["TRACEPARENT", "traceparent"]


def test_the_callers_objects_do_not_change(recorded: Recorded) -> None:
    command, env = CommandInterface("a"), {"A": "1"}
    RuntimeUseClient(transport=FakeRuntime([command_results(0)])).execute_commands([command])
    sent(recorded, agent_env=env)
    assert (command.env, env) == (None, {"A": "1"})


def test_whatever_the_propagator_says(recorded: Recorded) -> None:
    token = context.attach(baggage.set_baggage("user", "7"))
    try:
        request = sent(recorded)
    finally:
        context.detach(token)
    assert request["agent_env"]["baggage"] == request["agent_env"]["BAGGAGE"] == "user=7"


@pytest.mark.usefixtures("odd_propagator")
def test_names_that_no_shell_keeps(recorded: Recorded) -> None:
    assert sent(recorded)["agent_env"] == {"UBER_TRACE_ID": "1:2", "_3X": "3"}


def test_a_request_that_would_become_too_large(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_propagation, "MAX_REQUEST_SIZE", 200)
    assert requests.MAX_REQUEST_SIZE > 200
    assert "agent_env" not in sent(recorded)


def test_operations_on_files_send_what_they_did(recorded: Recorded) -> None:
    fake = FakeRuntime([command_results("yes")])
    assert RuntimeUseClient(transport=fake).files.exists("x")
    assert ["env" in command for command in fake.requests[0]["commands"]] == [False]
    assert len(recorded.spans()) == 1
