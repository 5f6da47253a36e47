"""Server-sent events of a run: when comments come, and what ends the run."""

from __future__ import annotations

import contextlib
import threading
import weakref
from datetime import timedelta
from typing import Any, Iterator

import pytest

from runtimeuse_sync import (
    CancelledException,
    QueryResult,
    RuntimeUseClient,
    SessionStateError,
    TextResult,
    sse,
)

from ..support.builders import (
    LATE,
    Serve,
    answer_all,
    client_of,
    end,
    error,
    text,
)
from ..support.event_streams import COMMENT, GREETING, read
from ..support.fixtures import serve
from ..support.servers import Peer
from ..support.threads import InThread

__all__ = ["serve"]


def silent_until_cancelled(peer: Peer) -> None:
    peer.accept()
    peer.expect("invocation_message")
    peer.expect("cancel_message")


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
        peer.accept()
        peer.receive()
        peer.send(text("done"))

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


def being_read(server: Any, stream: sse.EventStream) -> InThread:
    """Reads a stream in another thread; returns that once the runtime has its request."""
    reading = InThread(lambda: list(stream))
    server.wait_for("invocation_message")
    return reading


@contextlib.contextmanager
def read_in_a_thread(server: Any, session: Any) -> Iterator[Any]:
    """Has the session's first run read by another thread, which has its turn; the block has to end it."""
    stream = sse.events(session.stream("first"))
    reading = being_read(server, stream)
    yield stream
    reading.result()


def test_comments_while_it_waits_for_its_turn(serve: Serve) -> None:
    server = serve(first_until_cancelled)
    with client_of(server).session() as session, read_in_a_thread(server, session) as first:
        second = sse.events(session.stream("second"), comment_every=0.02)
        assert [next(second) for _ in range(4)] == [GREETING] + [COMMENT] * 3
        first.close()
        assert [event.data["data"]["text"] for event in read(second)] == ["second"]


def test_a_reader_that_leaves_while_it_waits_for_its_turn(serve: Serve) -> None:
    server = serve(first_until_cancelled)
    with client_of(server).session() as session, read_in_a_thread(server, session) as first:
        second = sse.events(session.stream("second"), comment_every=0.02)
        assert [next(second), next(second)] == [GREETING, COMMENT]
        second.close()
        first.close()
        assert session.query("third").text == "third"
    assert [message["user_prompt"] for message in server.said("invocation_message")] == ["first", "third"]


def test_the_time_limit_includes_the_wait_for_the_turn(serve: Serve) -> None:
    server = serve(first_until_cancelled)
    with client_of(server).session() as session, read_in_a_thread(server, session) as first:
        (event,) = read(sse.events(session.stream("second", timeout=0.05), comment_every=0.02))
        first.close()
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
    has_more = threading.Event()

    def tail() -> Iterator[Any]:
        while not has_more.is_set():
            yield None
        yield QueryResult(TextResult("done"))

    stream = sse.events(tail(), comment_every=0.02)
    assert [next(stream) for _ in range(4)] == [GREETING] + [COMMENT] * 3
    has_more.set()
    assert [event.name for event in read(stream)] == ["result"]


def test_no_comment_is_sent_before_its_time() -> None:
    def tail() -> Iterator[Any]:
        yield from [None] * 1000
        yield QueryResult(TextResult("done"))

    assert COMMENT not in list(sse.events(tail(), comment_every=1000))


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
    reading = being_read(server, stream)
    stream.abort()
    assert [event.data["type"] for event in read(reading.result())] == ["CancelledException"]
    server.wait_for("cancel_message")


def test_close_from_another_thread(serve: Serve) -> None:
    server = serve(silent_until_cancelled)
    stream = sse.events(client_of(server).stream("p"), comment_every=1000)
    reading = being_read(server, stream)
    stream.close()
    reading.result()
    server.wait_for("cancel_message")


def test_a_run_that_is_cancelled_elsewhere(serve: Serve) -> None:
    server = serve(silent_until_cancelled)
    run = client_of(server).stream("p")
    reading = being_read(server, sse.events(run))
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
