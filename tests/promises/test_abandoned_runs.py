"""Every call ends, No mixed answers: runs that another thread reads or closes, or that nobody reads to the end."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import warnings
from typing import Any, Iterator, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    CancelledException,
    ConnectionLostError,
    RuntimeUseClient,
    RuntimeUseSession,
    SessionStateError,
)
from runtimeuse_sync._logs import CallLog
from runtimeuse_sync.testing import FakeRuntime, assistant_message, text_result

from ..support.builders import (
    BOTH,
    CANCELLED,
    CONFIRM,
    Serve,
    answer_all,
    begin_until_cancelled,
    client_of,
    echo,
    end,
    next_and_end,
    text,
    upload,
    wait,
)
from ..support.servers import Peer
from ..support.threads import InThread


def connection_threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("runtimeuse-connection")]


@BOTH
@pytest.mark.parametrize("begun_by", ["the reader", "who leaves"])
def test_left_by_one_thread_while_another_reads(serve: Serve, in_session: bool, begun_by: str) -> None:
    """The reader gives back all that the run has taken, as nobody else does."""

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "hello")
        if in_session:
            peer.send(text("late"))
            next_and_end(peer)

    client = client_of(serve(script))
    session = client.session().open() if in_session else None
    run = (session or client).stream("hi")
    reading = threading.Event()

    def read() -> None:
        with run if begun_by == "the reader" else contextlib.nullcontext():
            for _ in run:
                reading.set()

    with run if begun_by == "who leaves" else contextlib.closing(run):
        reader = InThread(read)
        wait(reading)
    assert isinstance(reader.error(), CancelledException)
    if session is not None:
        assert session.query("next").text == "next"
        session.close()
    assert connection_threads() == []
    assert not client._calls


def test_a_session_left_while_another_thread_serves_its_uploads(serve: Serve) -> None:
    files = [f"/out/{number}" for number in range(4)]
    answered: List[str] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(*map(upload, files))
        for message in peer.requests():
            if message["message_type"] == "artifact_upload_response_message":
                answered.append(message["filepath"])
            elif message["message_type"] == "cancel_message":
                peer.send(text("late"))
            elif message["message_type"] == "end_session_message":
                while len(answered) < len(files):
                    answered.append(peer.expect("artifact_upload_response_message")["filepath"])
                peer.send(CONFIRM)

    asked: List[str] = []
    asking, leaving = threading.Event(), threading.Event()

    def place(request: Any) -> ArtifactUploadResult:
        asked.append(request.filepath)
        asking.set()
        wait(leaving)
        return ArtifactUploadResult("http://storage/x", "text/plain")

    with client_of(serve(script)).session() as session:
        run = session.stream("hi", artifacts_dir="/out", on_artifact_upload_request=place).__enter__()
        reader = InThread(lambda: run.result)
        wait(asking)
        channel: Any = session._channel
        join = channel.turn.join

        def join_and_tell(ticket: Any) -> None:
            join(ticket)
            leaving.set()

        # The only way to know that the session's end has taken its place in the queue.
        channel.turn.join = join_and_tell
    assert isinstance(reader.error(), CancelledException)
    assert sorted(asked) == files
    assert sorted(answered) == files


def test_a_session_whose_threads_number_is_another_threads_now(serve: Serve) -> None:
    """Numbers of threads that have ended are given again; the loss of the connection must be told all the same."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.cut()

    session = client_of(serve(script)).session().open()
    channel: Any = session._channel
    session.query("hi", artifacts_dir="/out", on_artifact_upload_request=lambda _: None)  # type: ignore[arg-type,return-value]  # never called
    channel.connection.join()
    channel.connection._thread._ident = threading.get_ident()
    with pytest.raises(ConnectionLostError):
        session.close()


def test_an_interrupt_on_the_way_out_of_a_session(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.until_gone()

    def interrupted() -> None:
        raise KeyboardInterrupt

    session = client_of(serve(script)).session()
    monkeypatch.setattr(session, "_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with session:
            pass
    assert "closed" in repr(session)
    channel: Any = session._channel
    channel.connection.join()
    assert connection_threads() == []


def test_only_one_thread_reads_a_run() -> None:
    client = RuntimeUseClient(transport=FakeRuntime([[assistant_message("hello"), *text_result("done")]]), model="m")
    asked: List[BaseException] = []

    def ask(_: Any) -> None:
        asked.append(InThread(lambda: run.result).error())

    with client.stream("hi", on_assistant_message=ask) as run:
        assert run.result.text == "done"
    assert [type(error) for error in asked] == [SessionStateError]
    assert "another thread" in str(asked[0])


def test_a_callback_with_a_timeout_cannot_wait_for_its_own_run() -> None:
    client = RuntimeUseClient(transport=FakeRuntime([[assistant_message("hello"), *text_result("done")]]), model="m")

    def read_on(_: Any) -> None:
        list(run)

    with client.stream("hi", on_assistant_message=read_on, assistant_callback_timeout=60) as run:
        with pytest.raises(SessionStateError, match="another thread"):
            list(run)


def test_a_run_that_another_thread_reads_than_the_one_that_began_it() -> None:
    replies = [[assistant_message("hello"), *text_result("done")], text_result("next")]
    refused: List[BaseException] = []
    with RuntimeUseClient(transport=FakeRuntime(replies), model="m").session() as session:

        def ask_again(_: Any) -> None:
            with pytest.raises(SessionStateError, match="its own callback") as caught:
                session.query("again")
            refused.append(caught.value)

        with session.stream("hi", on_assistant_message=ask_again) as run:
            assert InThread(lambda: run.result.text).result() == "done"
        assert len(refused) == 1
        assert session.query("next").text == "next"


def words(session: RuntimeUseSession) -> Iterator[str]:
    with session.stream("hi") as run:
        for message in run:
            yield getattr(message, "text_blocks", [""])[0]


@pytest.mark.parametrize("body_fails", [False, True])
def test_a_session_left_while_a_generator_holds_its_run(serve: Serve, body_fails: bool) -> None:
    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "hello")
        end(peer)

    body = ValueError("the body's own")
    session = client_of(serve(script)).session()
    held: List[Iterator[str]] = []

    def use() -> None:
        with session:
            held.append(words(session))
            assert next(held[0]) == "hello"
            if body_fails:
                raise body

    if body_fails:
        with pytest.raises(ValueError, match="own") as caught:
            use()
        assert caught.value is body
    else:
        use()
    assert "closed" in repr(session)
    assert connection_threads() == []
    with pytest.raises(CancelledException):
        next(held[0])


class Closing:
    """Closes what it is given in the connection's thread, as a garbage collection may; in the place of a record."""

    def __init__(self, closed: Any) -> None:
        self._closed = closed
        self.raised: List[BaseException] = []
        self.threads: List[str] = []

    def sent(self, _: CallLog) -> None:
        self.threads.append(threading.current_thread().name)
        try:
            self._closed.close()
        except BaseException as error:
            self.raised.append(error)


def test_a_session_closed_by_its_connections_own_thread(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.until_gone()

    session = client_of(serve(script)).session().open()
    closing = Closing(session)
    monkeypatch.setattr(CallLog, "sent", lambda log: closing.sent(log))
    logger = logging.getLogger("test_abandoned_runs.closing")
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(AgentRuntimeError, match="closed"):
            session.query("hi", logger=logger)
    assert closing.raised == []
    assert [name.split("-")[:2] for name in closing.threads] == [["runtimeuse", "connection"]]
    assert [warning.category for warning in warned] == [ResourceWarning]
    assert "closed" in repr(session)
    channel: Any = session._channel
    channel.connection.join()
    assert connection_threads() == []


def test_a_run_that_is_entered_twice_goes_on(serve: Serve) -> None:
    with client_of(serve(echo)).stream("hello") as run:
        with pytest.raises(SessionStateError, match="once"):
            run.__enter__()
        assert run.result.text == "hello"


@pytest.mark.parametrize("read", [False, True])
def test_a_run_that_is_forgotten_gives_its_turn_back(serve: Serve, read: bool) -> None:
    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "a")
        peer.send(text("late") if read else CANCELLED)
        answer_all(peer)

    with client_of(serve(script)).session() as session:
        run = session.stream("hi").__enter__()
        if read:
            next(run)
        del run
        gc.collect()
        assert session.query("next", timeout=10).text == "next"
