"""Server-sent events of a run: what they say, when comments come, and what ends the run."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import threading
import weakref
from datetime import date, timedelta
from typing import Any, Iterator, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    AssistantMessageInterface,
    CancelledException,
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
    SessionStateError,
    StructuredOutputResult,
    TextResult,
    TypedQueryResult,
    sse,
)

from ..support.builders import (
    LATE,
    SOON,
    Serve,
    Stopwatch,
    answer_all,
    assistant,
    client_of,
    end,
    error,
    heartbeat,
    output,
    ran,
    text,
)
from ..support.event_streams import COMMENT, GREETING, Sent, read
from ..support.fixtures import serve
from ..support.processes import CHILD_LIMIT
from ..support.servers import Peer
from ..support.threads import InThread

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


# --- Comments.


def test_comments_while_the_run_is_silent(serve: Serve) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        assert go_on.wait(LATE * 3)
        peer.send(text("done"))

    stream = sse.events(client_of(serve(script)).stream("p"), comment_every=timedelta(milliseconds=20))
    assert [next(stream) for _ in range(4)] == [GREETING] + [COMMENT] * 3
    go_on.set()
    assert [event.name for event in read(stream)] == ["result"]


def test_comments_while_it_connects(serve: Serve) -> None:
    """A reader may leave before the runtime is even there."""
    accept = threading.Event()

    def script(peer: Peer) -> None:
        assert accept.wait(LATE * 3)
        said(text("done"))(peer)

    stream = sse.events(client_of(serve(script)).stream("p"), comment_every=0.02)
    assert [next(stream) for _ in range(4)] == [GREETING] + [COMMENT] * 3
    accept.set()
    assert [event.name for event in read(stream)] == ["result"]


def first_until_cancelled(peer: Peer) -> None:
    """Says nothing to the first query of a session until it is cancelled; answers all others."""
    peer.accept()
    peer.expect("invocation_message")
    peer.expect("cancel_message")
    peer.send(error("Request cancelled"))
    answer_all(peer)


def test_comments_while_it_waits_for_its_turn(serve: Serve) -> None:
    server = serve(first_until_cancelled)
    with client_of(server).session() as session:
        first = sse.events(session.stream("first"))
        reading = InThread(list, first)
        server.wait_for("invocation_message")
        second = sse.events(session.stream("second"), comment_every=0.02)
        assert [next(second) for _ in range(4)] == [GREETING] + [COMMENT] * 3
        first.close()
        assert [event.data["data"]["text"] for event in read(second)] == ["second"]
        reading.result()


def test_a_reader_that_leaves_while_it_waits_for_its_turn(serve: Serve) -> None:
    server = serve(first_until_cancelled)
    with client_of(server).session() as session:
        first = sse.events(session.stream("first"))
        reading = InThread(list, first)
        server.wait_for("invocation_message")
        second = sse.events(session.stream("second"), comment_every=0.02)
        assert [next(second), next(second)] == [GREETING, COMMENT]
        second.close()
        first.close()
        reading.result()
        assert session.query("third").text == "third"
    assert [message["user_prompt"] for message in server.said("invocation_message")] == ["first", "third"]


def test_the_time_limit_includes_the_wait_for_the_turn(serve: Serve) -> None:
    server = serve(first_until_cancelled)
    with client_of(server).session() as session:
        first = sse.events(session.stream("first"))
        reading = InThread(list, first)
        server.wait_for("invocation_message")
        (event,) = read(sse.events(session.stream("second", timeout=0.05), comment_every=0.02))
        first.close()
        reading.result()
    assert event.data["type"] == "RunTimeoutError"


def test_a_run_of_the_session_that_this_thread_reads(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("first"))
        end(peer)

    with client_of(serve(script)).session() as session, session.stream("first") as first:
        (event,) = read(sse.events(session.stream("second")))
        assert event.data["type"] == SessionStateError.__name__
        assert first.result.text == "first"


def test_recorded_events_that_wait_for_more() -> None:
    clock = Stopwatch()

    def tail() -> Iterator[Any]:
        while clock.seconds < 0.1:
            yield None
        yield QueryResult(TextResult("done"))

    chunks = list(sse.events(tail(), comment_every=0.02))
    assert 2 <= chunks.count(COMMENT) <= 6
    assert [event.name for event in read(chunks)] == ["result"]


# --- What ends the run.


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_closing_cancels_the_run(serve: Serve, chunks: int) -> None:
    server = serve(silent_until_cancelled)
    stream = sse.events(client_of(server).stream("p"), comment_every=0.01)
    for _ in range(chunks):
        next(stream)
    if chunks > 1:
        server.wait_for("invocation_message")
    stream.close()
    if chunks > 1:
        server.wait_for("cancel_message")
    stream.close()
    assert list(stream) == []
    assert chunks > 1 or server.messages == [], "a run that was never started is not sent"


def test_closing_in_a_with_block(serve: Serve) -> None:
    server = serve(silent_until_cancelled)
    with contextlib.closing(sse.events(client_of(server).stream("p"), comment_every=0.01)) as stream:
        next(stream)
        next(stream)
        server.wait_for("invocation_message")
    server.wait_for("cancel_message")


def test_dropping_cancels_the_run(serve: Serve) -> None:
    """Though the run itself is still held by somebody."""
    server = serve(silent_until_cancelled)
    run = client_of(server).stream("p")
    stream = sse.events(run, comment_every=0.01)
    assert [next(stream), next(stream)] == [GREETING, COMMENT]
    server.wait_for("invocation_message")
    del stream
    server.wait_for("cancel_message")
    with pytest.raises(CancelledException):
        _ = run.result


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_run_that_was_entered_but_never_iterated(serve: Serve, how: str) -> None:
    server = serve(silent_until_cancelled)
    run = client_of(server).stream("p").__enter__()
    server.wait_for("invocation_message")
    stream = sse.events(run)
    if how == "close":
        stream.close()
    del stream
    server.wait_for("cancel_message")


def test_the_stream_of_a_run_is_not_kept_alive() -> None:
    stream = sse.events(RuntimeUseClient("ws://localhost", model="m").stream("p"))
    next(stream)
    reference = weakref.ref(stream)
    del stream
    assert reference() is None, "it is closed without the garbage collector"


def test_abort_from_another_thread(serve: Serve) -> None:
    server = serve(silent_until_cancelled)
    stream = sse.events(client_of(server).stream("p"), comment_every=1000)
    reading = InThread(lambda: list(stream))
    server.wait_for("invocation_message")
    stream.abort()
    assert [event.data["type"] for event in read(reading.result())] == ["CancelledException"]
    server.wait_for("cancel_message")


def test_close_from_another_thread(serve: Serve) -> None:
    server = serve(silent_until_cancelled)
    stream = sse.events(client_of(server).stream("p"), comment_every=1000)
    reading = InThread(lambda: list(stream))
    server.wait_for("invocation_message")
    stream.close()
    reading.result()
    server.wait_for("cancel_message")


def test_a_run_that_is_cancelled_elsewhere(serve: Serve) -> None:
    server = serve(silent_until_cancelled)
    run = client_of(server).stream("p")
    reading = InThread(lambda: list(sse.events(run)))
    server.wait_for("invocation_message")
    run.abort()
    assert [event.data["type"] for event in read(reading.result())] == ["CancelledException"]


def test_recorded_events_are_closed() -> None:
    closed = []

    def tail() -> Iterator[Any]:
        try:
            while True:
                yield None
        finally:
            closed.append(True)

    stream = sse.events(tail(), comment_every=0.01)
    next(stream)
    next(stream)
    stream.close()
    assert closed == [True]


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
