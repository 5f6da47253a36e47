"""One span a call: when it begins and ends, and what it shows."""

from __future__ import annotations

import gc
import importlib
import threading
import weakref
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from runtimeuse_sync import (
    AgentRuntimeError,
    CommandFailedError,
    CommandInterface,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    SessionStateError,
)
from runtimeuse_sync.opentelemetry import _attributes
from runtimeuse_sync.runtime import LocalRuntime
from runtimeuse_sync.testing import (
    HANG,
    assistant_message,
    command_results,
    error,
    structured_result,
    text_result,
)

from ...support.builders import BOTH, Serve, caller_of, client_of, echo
from ...support.threads import when
from .recorded import Recorded, events, fake, shown

FIRST = "runtimeuse.first_message"


@BOTH
def test_a_query(recorded: Recorded, in_session: bool) -> None:
    with caller_of(fake([assistant_message("hm"), *text_result("4")], model="gpt-4.1"), in_session) as caller:
        caller.query("What is 2 + 2?", source_id="sum")
    span = recorded.span()
    assert (span.name, span.kind) == ("invoke_agent", SpanKind.CLIENT)
    assert shown(span) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "runtimeuse",
        "gen_ai.request.model": "gpt-4.1",
        "gen_ai.output.type": "text",
        "runtimeuse.source_id": "sum",
    }
    assert events(span) == [(FIRST, {"runtimeuse.message.type": "assistant_message"})]
    assert span.status.status_code is StatusCode.UNSET
    scope = span.instrumentation_scope
    assert scope is not None
    assert scope.name == "runtimeuse_sync.opentelemetry"
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.37.0"


def test_a_query_with_a_schema(recorded: Recorded) -> None:
    fake(structured_result({})).query("p", output_format_json_schema_str='{"type":"json_schema","schema":{}}')
    assert shown(recorded.span())["gen_ai.output.type"] == "json"


@pytest.mark.parametrize(
    ("metadata", "tokens"),
    [
        ({"usage": {"inputTokens": 12, "outputTokens": 3, "totalTokens": 15}}, (12, 3)),
        ({"usage": {"input_tokens": 12, "output_tokens": 3.0}}, (12, 3)),
        ({"usage": {"prompt_tokens": 12, "completion_tokens": 3}}, (12, 3)),
        ({"tokenUsage": {"inputTokens": 12, "outputTokens": 3}}, (12, 3)),
        ({"inputTokens": 12, "outputTokens": 3}, (12, 3)),
        ({"usage": {"input_tokens": 2, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 3}}, (12, None)),
        ({"usage": {"inputTokens": 0, "outputTokens": 0}}, (0, 0)),
        ({"usage": {"inputTokens": True, "outputTokens": "3"}}, (None, None)),
        ({"usage": {"inputTokens": -1, "outputTokens": 2**80}}, (None, None)),
        ({"usage": {"inputTokens": 1.5, "outputTokens": None}}, (None, None)),
        ({"usage": [1]}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_the_tokens_that_a_runtime_tells(recorded: Recorded, metadata: Any, tokens: Any) -> None:
    fake(text_result("4", metadata)).query("p")
    found = shown(recorded.span())
    assert (found.get("gen_ai.usage.input_tokens"), found.get("gen_ai.usage.output_tokens")) == tokens


def test_the_model_that_a_runtime_tells(recorded: Recorded) -> None:
    fake(text_result("4", {"model": "gpt-4.1-2025"})).query("p")
    fake(text_result("4", {"model": "x" * 10_000})).query("p")
    assert [shown(span).get("gen_ai.response.model") for span in recorded.spans()] == ["gpt-4.1-2025", None]


def test_where_a_call_goes(recorded: Recorded, serve: Serve) -> None:
    server = serve(echo)
    url = server.url.replace("//", "//user:secret-1@") + "/secret-2?token=secret-3"
    RuntimeUseClient(url, model="m").query("p")
    found = shown(recorded.span())
    assert (found["server.address"], found["server.port"]) == ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    assert "secret" not in recorded.everything()


@pytest.mark.parametrize(
    ("origin", "address", "port"),
    [
        ("ws://sandbox.example", "sandbox.example", 80),
        ("wss://sandbox.example", "sandbox.example", 443),
        ("wss://[::1]:8080", "::1", 8080),
        ("MyTransport", None, None),
        ("[REDACTED]", None, None),
        ("ws://[", None, None),
    ],
)
def test_addresses(origin: str, address: Any, port: Any) -> None:
    found = _attributes.of_server(origin)
    assert (found.get("server.address"), found.get("server.port")) == (address, port)


@BOTH
def test_commands(recorded: Recorded, in_session: bool) -> None:
    with caller_of(fake(command_results("out", 3), command_results(0)), in_session) as caller:
        caller.execute_commands(["make test", "exit 3"], check=False)
        caller.run("/usr/bin/true")
    several, one = recorded.spans()
    assert (several.name, several.kind) == ("execute_commands", SpanKind.CLIENT)
    assert shown(several) == {
        "runtimeuse.operation.name": "execute_commands",
        "runtimeuse.command.count": 2,
        "runtimeuse.command.names": ["make", "exit"],
        "runtimeuse.command.exit_codes": [0, 3],
    }
    assert several.status.status_code is StatusCode.UNSET
    assert events(several) == [(FIRST, {"runtimeuse.message.type": "command_execution_result_message"})]
    assert shown(one)["process.exit.code"] == 0


def test_a_failed_command(recorded: Recorded) -> None:
    with pytest.raises(CommandFailedError):
        fake(command_results({"exit_code": 2, "stderr": "no such marker-7"})).run("marker-8 marker-9")
    span = recorded.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert shown(span)["error.type"] == "CommandFailedError"
    assert shown(span)["process.exit.code"] == 2
    assert "marker-7" not in recorded.everything()
    assert "marker-9" not in recorded.everything()


def test_most_commands_are_shown(recorded: Recorded) -> None:
    fake(command_results(*[0] * 500)).execute_commands(["true"] * 500)
    found = shown(recorded.span())
    assert found["runtimeuse.command.count"] == 500
    assert len(found["runtimeuse.command.names"]) == len(found["runtimeuse.command.exit_codes"]) == 100


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("make test", "make"),
        ("  /opt/secret/bin/python3.12 -m x", "python3.12"),
        ("./run.sh;ls", "run.sh"),
        ("cd\nls", "cd"),
        ("ls", "ls"),
        ("PASSWORD=hunter2 make", "sh"),
        ("PASSWORD='a b c' make", "sh"),
        ("$HOME/x", "sh"),
        ("echo|cat", "sh"),
        ("'my prog' x", "sh"),
        ("(ls)", "sh"),
        ("x" * 33, "sh"),
        ("swordfish now", "sh"),
        ("ls swordfish", "ls"),
    ],
)
def test_names_of_commands(recorded: Recorded, command: str, name: str) -> None:
    fake(command_results(0)).execute_commands([command], secrets_to_redact=["swordfish"])
    assert shown(recorded.span())["runtimeuse.command.names"] == [name]


def test_the_commands_of_a_query(recorded: Recorded) -> None:
    failing = error("pre-agent command failed with exit code: 3")
    with pytest.raises(CommandFailedError):
        fake(failing).query("p", pre_agent_invocation_commands=[CommandInterface("exit 3")])
    found = shown(recorded.span())
    assert found["runtimeuse.command.names"] == ["exit"]
    assert found["runtimeuse.command.exit_codes"] == [3]


@BOTH
def test_an_error(recorded: Recorded, in_session: bool) -> None:
    with caller_of(fake(error("marker-1", {"cause": "marker-2"})), in_session) as caller, pytest.raises(
        AgentRuntimeError
    ):
        caller.query("marker-3", system_prompt="marker-4", agent_env={"marker-5": "marker-6"})
    span = recorded.span()
    assert span.status.status_code is StatusCode.ERROR
    assert shown(span)["error.type"] == "AgentRuntimeError"
    assert events(span) == [(FIRST, {})]
    assert "marker" not in recorded.everything()


def test_a_runtime_that_cannot_be_reached(recorded: Recorded) -> None:
    with pytest.raises(RuntimeConnectionError):
        RuntimeUseClient("ws://127.0.0.1:9", model="m", connect_timeout=0.01).query("p")
    span = recorded.span()
    assert (span.status.status_code, shown(span)["error.type"]) == (StatusCode.ERROR, "RuntimeConnectionError")
    assert events(span) == []


def test_a_timeout(recorded: Recorded) -> None:
    with pytest.raises(RunTimeoutError):
        fake(HANG).query("p", timeout=0.01)
    assert shown(recorded.span())["error.type"] == "RunTimeoutError"


def test_a_session_that_is_not_open(recorded: Recorded) -> None:
    with pytest.raises(SessionStateError):
        fake().session().query("p")
    assert shown(recorded.span())["error.type"] == "SessionStateError"


def test_what_is_wrong_before_the_call_has_no_span(recorded: Recorded) -> None:
    with pytest.raises(TypeError, match="timeout"):
        fake().query("p", timeout="soon")  # type: ignore[call-overload]  # on purpose
    fake().stream("p")
    gc.collect()
    assert recorded.spans() == []


def test_a_callback_that_raises(recorded: Recorded) -> None:
    def fail(_: Any) -> None:
        raise LookupError("marker-1")

    with pytest.raises(LookupError):
        fake([assistant_message("hm"), *text_result("4")]).query("p", on_assistant_message=fail)
    assert shown(recorded.span())["error.type"] == "LookupError"
    assert "marker" not in recorded.everything()


# Streams.


@BOTH
def test_a_stream_lasts_until_it_is_left(recorded: Recorded, in_session: bool) -> None:
    with caller_of(fake([assistant_message("a"), assistant_message("b"), *text_result("4")]), in_session) as caller:
        run = caller.stream("p")
        with run:
            assert [message.text for message in run] == ["a", "b"]
        span = recorded.span()
    assert span.status.status_code is StatusCode.UNSET
    assert len(events(span)) == 1
    assert "runtimeuse.left_early" not in shown(span)


def test_what_follows_the_end_of_a_stream_does_not_count(recorded: Recorded) -> None:
    with fake(text_result("4"), error("no")).session() as session:
        with session.stream("p") as run:
            assert run.result.text == "4"
            assert recorded.span().name == "invoke_agent"
        with session.stream("p") as run:
            with pytest.raises(AgentRuntimeError):
                next(run)
            assert len(recorded.spans()) == 2
            with pytest.raises(AgentRuntimeError):
                next(run)
    assert len(recorded.spans()) == 2


def test_a_stream_that_is_left_early(recorded: Recorded) -> None:
    with fake([assistant_message("a")]).stream("p") as run:
        next(run)
        assert recorded.spans() == []
    run.close()
    span = recorded.span()
    assert span.status.status_code is StatusCode.UNSET
    assert shown(span)["runtimeuse.left_early"] is True


def test_a_stream_whose_body_raises(recorded: Recorded) -> None:
    with pytest.raises(LookupError), fake(HANG).stream("p"):
        raise LookupError("marker-1")
    span = recorded.span()
    assert (span.status.status_code, shown(span)["error.type"]) == (StatusCode.ERROR, "LookupError")
    assert shown(span)["runtimeuse.left_early"] is True
    assert "marker" not in recorded.everything()


def test_a_stream_in_a_generator_that_is_closed(recorded: Recorded) -> None:
    def texts() -> Iterator[str]:
        with fake([assistant_message("a")]).stream("p") as run:
            for message in run:
                yield message.message_type

    generator = texts()
    next(generator)
    generator.close()  # type: ignore[attr-defined]  # it is a generator
    span = recorded.span()
    assert (span.status.status_code, shown(span)["runtimeuse.left_early"]) == (StatusCode.UNSET, True)


class Threads(SpanProcessor):
    """Notes in which threads spans end."""

    def __init__(self) -> None:
        self.names: List[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.names.append(threading.current_thread().name)


def test_a_stream_that_nobody_leaves(recorded: Recorded) -> None:
    threads = Threads()
    recorded.tracers.add_span_processor(threads)
    run = fake(HANG).stream("p").__enter__()
    assert recorded.spans() == []
    del run
    gc.collect()
    when(lambda: threads.names)
    assert shown(recorded.span())["runtimeuse.left_early"] is True
    # The garbage collector may run in a thread that holds a lock which the end of a span needs.
    assert threads.names == ["runtimeuse-span"]


def test_a_stream_that_is_aborted(recorded: Recorded) -> None:
    with fake(HANG).stream("p") as run:
        run.abort()
        with pytest.raises(Exception, match="was cancelled"):
            next(run)
    assert shown(recorded.span())["error.type"] == "CancelledException"


def test_a_run_is_freed_with_its_last_reference(recorded: Recorded) -> None:
    gc.collect()
    gc.disable()
    try:
        for reply in (text_result("4"), error("no"), [assistant_message("a"), *text_result("4")]):
            run = fake(reply).stream("p")
            with run:
                pass
            freed: List[int] = []
            weakref.finalize(run, freed.append, 1)
            del run
            assert freed == [1]
    finally:
        gc.enable()
    assert len(recorded.spans()) == 3


# Calls that make several requests.


@BOTH
def test_operations_on_files(recorded: Recorded, runtime: LocalRuntime, tmp_path: Path, in_session: bool) -> None:
    with caller_of(client_of(runtime), in_session) as caller:
        caller.files.write("marker.txt", b"x" * 10)
        caller.files.read("marker.txt")
        caller.files.list()
        caller.files.exists("marker.txt")
        caller.files.download("marker.txt", tmp_path / "copy")
        caller.files.upload(tmp_path / "copy", "marker.2")
        caller.files.remove("marker.txt")
        with pytest.raises(FileNotFoundError):
            caller.files.read("marker.txt")
    spans = recorded.spans()
    names = ["write", "read", "list", "exists", "download", "upload", "remove", "read"]
    assert [span.name for span in spans] == [f"files.{name}" for name in names]
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    assert shown(spans[0])["runtimeuse.operation.name"] == "files.write"
    assert shown(spans[0])["server.port"] == int(runtime.ws_url.rsplit(":", 1)[1])
    assert spans[0].status.status_code is StatusCode.UNSET
    assert shown(spans[-1])["error.type"] == "FileMissingError"
    assert spans[-1].status.status_code is StatusCode.ERROR
    assert "marker" not in recorded.everything()


def test_every_operation_has_a_name() -> None:
    source = Path(importlib.import_module("runtimeuse_sync.files._files").__file__ or "").read_text(encoding="utf-8")
    assert source.count("self._perform(") == len(_attributes.FILE_OPERATIONS)
    assert [kind for kind in _attributes.FILE_OPERATIONS if f'"{kind}"' not in source] == []


@BOTH
def test_a_command_with_a_large_input_is_one_call(recorded: Recorded, runtime: LocalRuntime, in_session: bool) -> None:
    with caller_of(client_of(runtime), in_session) as caller:
        assert caller.run("wc -c", input=b"x" * 1_000_000).stdout.strip() == "1000000"
    found = shown(recorded.span())
    assert recorded.span().name == "execute_commands"
    assert found["process.exit.code"] == 0
    assert found["runtimeuse.command.names"] == ["wc"]
    assert events(recorded.span()) == [(FIRST, {"runtimeuse.message.type": "command_output_message"})]


def test_a_command_with_a_large_input_that_fails(recorded: Recorded, runtime: LocalRuntime) -> None:
    with pytest.raises(CommandFailedError):
        client_of(runtime).run("exit 4", input=b"x" * 1_000_000)
    found = shown(recorded.span())
    assert (found["error.type"], found["process.exit.code"]) == ("CommandFailedError", 4)
