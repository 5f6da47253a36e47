"""Server-sent events of a run: what they say, and from where."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import date, timedelta
from typing import Any, Iterator, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    AssistantMessageInterface,
    CommandExecutionResult,
    CommandFailedError,
    CommandOutputMessageInterface,
    CommandResultItem,
    ConnectionLostError,
    HeartbeatMessageInterface,
    OutputProblem,
    OutputValidationError,
    QueryResult,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    StructuredOutputResult,
    TypedQueryResult,
    sse,
)

from ..support.builders import (
    SOON,
    Serve,
    assistant,
    client_of,
    error,
    heartbeat,
    output,
    ran,
    text,
)
from ..support.event_streams import GREETING, Sent, read
from ..support.fixtures import serve
from ..support.processes import CHILD_LIMIT
from ..support.servers import Peer

__all__ = ["serve"]


def said(*messages: Any) -> Any:
    """A script: answers one request by these messages."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        peer.send(*messages)

    return script


def silent_until_cancelled(peer: Peer) -> None:
    peer.accept()
    peer.expect("invocation_message")
    peer.expect("cancel_message")


# --- What is sent.


def test_the_events_of_a_query(serve: Serve) -> None:
    script = said(assistant("a", "b\n"), output("x\r\n", "stderr"), heartbeat(15000), text("done", tokens=3))
    stream = sse.events(client_of(serve(script)).stream("p"))
    assert next(stream) == GREETING, "so that the server sends its headers"
    assert read(stream) == [
        Sent("assistant", 1, {"text_blocks": ["a", "b\n"], "text": "a\nb\n"}),
        Sent("output", 2, {"stream": "stderr", "text": "x\r\n", "command": "c"}),
        Sent("heartbeat", 3, {"phase": "request_in_flight", "elapsed_ms": 15000}),
        Sent("result", 4, {"data": {"type": "text", "text": "done"}, "metadata": {"tokens": 3}}),
    ]
    assert list(stream) == []


def test_the_events_of_commands(serve: Serve) -> None:
    script = said(output("x"), ran("c", stdout="x"))
    (_, result) = read(sse.events(client_of(serve(script)).stream_commands(["c"])))
    ran_command = {"command": "c", "exit_code": 0, "stdout": "x", "stderr": None}
    assert result == Sent("result", 2, {"results": [ran_command]})


def test_the_bytes_of_an_event() -> None:
    event = sse.Event("output", {"text": "ö\n\u2028"}, 7)
    assert sse.encode(event) == 'event: output\nid: 7\ndata: {"text":"ö\\n\u2028"}\n\n'.encode()
    assert sse.encode(sse.Event("tick", None)) == b"event: tick\ndata: null\n\n"


@pytest.mark.parametrize("form", ["structured", "typed"])
def test_a_structured_result(form: str) -> None:
    data = StructuredOutputResult({"n": [1, {"deep": None}]})
    result = QueryResult(data) if form == "structured" else TypedQueryResult(data, None, object())
    expected = {
        "data": {"type": "structured_output", "structured_output": {"n": [1, {"deep": None}]}},
        "metadata": None,
    }
    assert read(sse.events([result])) == [Sent("result", 1, expected)]


def test_what_json_cannot_hold_is_sent_as_its_text() -> None:
    endless: List[Any] = []
    endless.append(endless)
    deep: List[Any] = []
    for _ in range(100_000):
        deep = [deep]
    data = {"at": date(2024, 1, 2), "nan": math.nan, "set": {1}, "endless": endless, "deep": deep, (1, 2): b"x"}
    ((_, _, found),) = read(sse.events([sse.Event("own", data)]))
    assert found.pop("deep")
    assert found == {
        "at": "2024-01-02",
        "nan": "nan",
        "set": "{1}",
        "endless": ["(nested too deeply)"],
        "(1, 2)": "b'x'",
    }


@pytest.mark.parametrize("half", ["\ud83d", "\ude00 x", "a\ud83d\n"])
def test_lone_surrogates(half: str) -> None:
    chunks = list(sse.events([CommandOutputMessageInterface("command_output_message", "stdout", half, half)]))
    assert read(chunks) == [Sent("output", 1, {"stream": "stdout", "text": half, "command": half})]


def test_line_breaks_of_all_kinds() -> None:
    breaks = "a\nb\r\nc\rd\u2028e\u0085f\x0b\x00\n\n"
    assert read(sse.events([AssistantMessageInterface("assistant_message", [breaks])]))[0].data["text"] == breaks


# --- Errors.


def shown(failure: BaseException) -> Any:
    event = sse.event_of(failure)
    assert event.name == "error"
    return event.data


def test_a_failed_command(serve: Serve) -> None:
    script = said(output("secret stack", "stderr"), ran("c", exit_code=3))
    events = read(sse.events(client_of(serve(script)).stream_commands(["c"])))
    expected = {
        "error": "command failed with exit code 3: c",
        "type": "CommandFailedError",
        "command": "c",
        "exit_code": 3,
    }
    assert events[-1] == Sent("error", 2, expected)


@pytest.mark.parametrize(
    "stack",
    [
        '\nTraceback (most recent call last):\n  File "/srv/agent.py", line 3, in f\nKeyError: 1',
        "\n    at Object.<anonymous> (/srv/agent.js:3:1)\n    at node:internal/main:22",
        '\n  File "/srv/agent.py", line 3, in f',
    ],
)
def test_no_stack_is_sent(serve: Serve, stack: str) -> None:
    script = said(error(f"it broke{stack}", stack=stack, error_details={"stack": stack, "at": "/srv"}, cause=stack))
    (event,) = read(sse.events(client_of(serve(script)).stream("p")))
    assert event.data == {"error": "it broke", "type": "AgentRuntimeError"}


def test_an_error_text_of_several_lines_stays() -> None:
    assert shown(AgentRuntimeError("one\n at a glance\ntwo"))["error"] == "one\n at a glance\ntwo"


def test_no_secret_is_sent(serve: Serve) -> None:
    server = serve(said(error("no entry with hidden-token and hidden-key")))
    client = RuntimeUseClient(f"{server.url}/?token=hidden-token", model="m")
    (event,) = read(sse.events(client.stream("p", agent_env={"KEY": "hidden-key"})))
    assert event.name == "error"
    assert "hidden" not in str(event.data)
    assert "no entry with" in event.data["error"]


def test_errors_of_the_package() -> None:
    lost = ConnectionLostError("the connection was lost", {"in_flight": "query"})
    assert shown(lost) == {"error": "the connection was lost", "type": "ConnectionLostError"}
    # Without advice, which is for whoever runs the site.
    assert shown(RunTimeoutError("Query did not end within 1 s"))["error"] == "Query did not end within 1 s"
    unfit = OutputValidationError("does not fit (1 problem)", None, [OutputProblem("a", "b")])
    assert shown(unfit) == {"error": "does not fit (1 problem)", "type": "OutputValidationError"}
    assert shown(CommandFailedError("failed", command="c", exit_code=-1))["exit_code"] == -1


@pytest.mark.parametrize("kind", [KeyError, TimeoutError, ConnectionError, LookupError])
def test_what_a_callback_raises_is_not_sent_but_raised(serve: Serve, kind: Any) -> None:
    def fail(_: Any) -> None:
        raise kind("the database's password")

    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        peer.send(assistant("a"))
        peer.expect("cancel_message")

    stream = sse.events(client_of(serve(script)).stream("p", on_assistant_message=fail))
    assert next(stream) == GREETING
    assert read([next(stream)]) == [Sent("error", 1, {"error": "the server failed", "type": "InternalError"})]
    with pytest.raises(kind, match="password"):
        next(stream)
    assert list(stream) == []


def test_what_cancel_when_raises(serve: Serve) -> None:
    def fail() -> bool:
        raise TimeoutError("the cache does not answer")

    stream = sse.events(client_of(serve(said())).stream("p", cancel_when=fail))
    assert next(stream) == GREETING
    assert read([next(stream)])[0].data["error"] == "the server failed"
    with pytest.raises(TimeoutError, match="cache"):
        next(stream)


def test_an_interrupt_is_raised_at_once(serve: Serve) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    server = serve(lambda peer: (said(assistant("a"))(peer), peer.expect("cancel_message")))
    stream = sse.events(client_of(server).stream("p", on_assistant_message=interrupt))
    assert next(stream) == GREETING
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    server.wait_for("cancel_message")


def test_a_runtime_that_cannot_be_reached() -> None:
    client = RuntimeUseClient("ws://127.0.0.1:1/?token=hidden", model="m", connect_timeout=0.1)
    (event,) = read(sse.events(client.stream("p")))
    assert (event.name, event.data["type"]) == ("error", RuntimeConnectionError.__name__)
    assert "hidden" not in event.data["error"]


def test_the_time_limit_of_the_run(serve: Serve) -> None:
    stream = sse.events(client_of(serve(silent_until_cancelled)).stream("p", timeout=SOON), comment_every=0.05)
    events = read(stream)
    assert [(event.name, event.data["type"]) for event in events] == [("error", "RunTimeoutError")]


# --- Last-Event-ID.

RECORDED = [
    AssistantMessageInterface("assistant_message", ["a"]),
    HeartbeatMessageInterface("heartbeat_message", "p", 1),
    CommandExecutionResult([CommandResultItem("c", 0)]),
]


@pytest.mark.parametrize(
    ("seen", "numbers"),
    [(None, [1, 2, 3]), (0, [1, 2, 3]), (2, [3]), ("2", [3]), (" 1 ", [2, 3]), ("3", []), ("99", [])]
    + [(strange, [1, 2, 3]) for strange in ("", "x", "-1", "1.5", "²", "9" * 30, "1\n2")],
)
def test_recorded_events_go_on_where_the_reader_was(seen: Any, numbers: List[int]) -> None:
    assert [event.id for event in read(sse.events(RECORDED, last_event_id=seen))] == numbers


def test_numbers_of_the_callers_own() -> None:
    recorded = [sse.Event("a", 1, 10), sse.Event("b", 2), sse.Event("c", 3, 20)]
    assert [(event.name, event.id) for event in read(sse.events(recorded))] == [("a", 10), ("b", 11), ("c", 20)]
    assert [event.id for event in read(sse.events(recorded, last_event_id="11"))] == [20]


def test_an_error_that_the_reader_has_seen_is_still_raised() -> None:
    def fail() -> Iterator[Any]:
        yield None
        raise OSError("the disk is gone")

    stream = sse.events(fail(), last_event_id=1)
    assert next(stream) == b":\nid: 1\n\n"
    with pytest.raises(OSError, match="disk"):
        next(stream)


def test_when_to_connect_again() -> None:
    stream = sse.events([], retry=timedelta(seconds=2.5))
    assert list(stream) == [b":\nid: 0\nretry: 2500\n\n"]


# --- Wrong arguments.


@pytest.mark.parametrize(
    ("source", "settings", "kind", "says"),
    [
        ("text", {}, TypeError, "not of str"),
        (b"bytes", {}, TypeError, "not of bytes"),
        ({"a": 1}, {}, TypeError, "not of dict"),
        (None, {}, TypeError, "a run"),
        (7, {}, TypeError, "not of int"),
        ([], {"comment_every": 0}, ValueError, "comment_every"),
        ([], {"comment_every": math.inf}, ValueError, "comment_every"),
        ([], {"comment_every": None}, TypeError, "comment_every"),
        ([], {"comment_every": "1"}, TypeError, "comment_every"),
        ([], {"last_event_id": -1}, ValueError, "last_event_id"),
        ([], {"last_event_id": 1.0}, TypeError, "last_event_id"),
        ([], {"last_event_id": True}, TypeError, "last_event_id"),
        ([], {"retry": -1}, ValueError, "retry"),
        ([], {"retry": math.inf}, ValueError, "retry"),
        ([], {"retry": "1"}, TypeError, "retry"),
        ([], {"retry": None, "comment_every": True}, TypeError, "comment_every"),
    ],
)
def test_wrong_arguments(source: Any, settings: Any, kind: Any, says: str) -> None:
    with pytest.raises(kind, match=says):
        sse.events(source, **settings)


@pytest.mark.parametrize(
    ("event", "kind", "says"),
    [
        (sse.Event("", 1), ValueError, "name"),
        (sse.Event("a\nb", 1), ValueError, "line break"),
        (sse.Event("a\rb", 1), ValueError, "line break"),
        (sse.Event(b"a", 1), TypeError, "name"),  # type: ignore[arg-type]
        (sse.Event("a", 1, 0), ValueError, "id"),
        (sse.Event("a", 1, "1"), TypeError, "id"),  # type: ignore[arg-type]
    ],
)
def test_wrong_events(event: sse.Event, kind: Any, says: str) -> None:
    with pytest.raises(kind, match=says):
        sse.encode(event)


def test_a_recorded_item_that_is_no_event() -> None:
    with pytest.raises(TypeError, match="not of dict"):
        list(sse.events([{"a": 1}]))


def test_the_client_and_its_events_do_not_import_asyncio() -> None:
    script = "import sys, runtimeuse_sync.sse as sse; sse.events([]); print({'asyncio', 'django'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=CHILD_LIMIT)
    assert (ran.stdout, ran.stderr) == ("set()\n", "")


def test_the_headers() -> None:
    assert sse.HEADERS["Content-Type"] == "text/event-stream"
    assert sse.HEADERS["Cache-Control"] == "no-cache"
    assert sse.HEADERS["X-Accel-Buffering"] == "no"
