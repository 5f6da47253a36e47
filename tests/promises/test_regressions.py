"""Faults that were found by trying to break the promises: each is named by what a user would have seen."""

from __future__ import annotations

import gc
import json
import sys
import threading
import weakref
from typing import Any, List
from unittest import mock

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CancelledException,
    QueryOptions,
    QueryResult,
    RunTimeoutError,
    RuntimeUseClient,
    SessionStateError,
)

from ..support.builders import (
    CANCELLED,
    SOON,
    Serve,
    answer_all,
    assistant,
    client_of,
    echo,
    end,
    error,
    ran,
    text,
    upload,
    wait,
)
from ..support.servers import Peer, free_port
from ..support.threads import InThread


def test_an_interrupt_on_the_way_into_a_run_leaves_the_session_usable(serve: Serve) -> None:
    with client_of(serve(echo)).session() as session:
        with mock.patch.object(weakref, "finalize", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            session.stream("interrupted").__enter__()
        assert session.query("next", timeout=10).text == "next"


def test_a_run_that_is_entered_twice_goes_on(serve: Serve) -> None:
    with client_of(serve(echo)).stream("hello") as run:
        with pytest.raises(SessionStateError, match="once"):
            run.__enter__()
        assert run.result.text == "hello"


def test_a_run_that_is_left_by_its_own_callback_reads_no_more(serve: Serve) -> None:
    taken = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("first"), assistant("stale"))
        peer.expect("cancel_message")
        peer.send(CANCELLED)
        peer.expect_barrier()
        peer.send(ran())
        peer.expect("invocation_message")
        taken.set()
        peer.send(assistant("of the other"), text("other"))
        end(peer)

    said: List[List[str]] = []
    others: List[InThread] = []
    with client_of(serve(script)).session() as session:

        def leave(message: AssistantMessageInterface) -> None:
            said.append(message.text_blocks)
            run.close()
            others.append(InThread(session.query, "other", timeout=10))
            wait(taken)

        with session.stream("left", on_assistant_message=leave, timeout=10) as run:
            with pytest.raises(CancelledException):
                _ = run.result
        assert others[0].result().text == "other"
    assert said == [["first"]]


def test_uploads_behind_one_whose_callback_leaves_the_run_are_kept_for_the_next(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(upload("/a/first"), upload("/a/second"))
        answer_all(peer)

    served: List[str] = []

    def place(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        served.append(request.filename)
        if len(served) == 1:
            run.close()
        return ArtifactUploadResult("http://storage/x", "text/plain")

    server = serve(script)
    with client_of(server).session() as session:
        run = session.stream("left", on_artifact_upload_request=place, artifacts_dir="/a", timeout=10)
        with run:
            with pytest.raises(CancelledException):
                _ = run.result
        assert served == ["first"]
        assert session.query("next", timeout=10).text == "next"
    assert [each["filename"] for each in server.said("artifact_upload_response_message")] == ["first", "second"]


def test_a_run_that_its_own_callback_reads_to_the_end_has_ended(serve: Serve) -> None:
    results: List[QueryResult] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("first"), text("done"))
        end(peer)

    with client_of(serve(script)).session() as session:
        with session.stream("q", on_assistant_message=lambda _: results.append(run.result), timeout=10) as run:
            assert run.result.text == "done"
    assert [result.text for result in results] == ["done"]


def test_a_run_that_is_dropped_is_left(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.expect("cancel_message")
        peer.send(error("Request cancelled"))
        answer_all(peer)

    with client_of(serve(script)).session() as session:
        run = session.stream("dropped")
        run.__enter__()
        del run
        gc.collect()
        assert session.query("next", timeout=10).text == "next"


def test_a_deadline_while_connecting_says_why(serve: Serve) -> None:
    with free_port() as port, pytest.raises(RunTimeoutError, match="last attempt: connection refused"):
        RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m").query("hi", timeout=SOON)


def test_a_scheme_in_capitals(serve: Serve) -> None:
    server = serve(echo)
    assert RuntimeUseClient(f"WS://127.0.0.1:{server.port}", model="m").query("hi").text == "hi"


@pytest.mark.parametrize("url", ["ws://host/#token", "ws://host:0", "ws://host/\ud800", "ws://us\ud800er@host"])
def test_urls_that_cannot_be_are_named(url: str) -> None:
    with pytest.raises(ValueError, match="ws_url"):
        RuntimeUseClient(url)


def test_empty_fragments_do_not_fill_the_memory() -> None:
    from runtimeuse_sync._websocket.frames import FrameParser

    parser = FrameParser(100)
    parser.feed(b"\x01\x01a")
    before = sys.getsizeof(parser._fragments)
    for _ in range(1000):
        assert parser.feed(b"\x00\x00" * 100) == ([], None)
    assert sys.getsizeof(parser._fragments) == before
    assert parser.feed(b"\x80\x01b") == (["ab"], None)


def test_a_short_message_over_the_limit_is_refused_before_its_payload_comes() -> None:
    from runtimeuse_sync._websocket.frames import FrameParser

    parsed, error = FrameParser(100).feed(b"\x81\x65")
    assert parsed == []
    assert "max_message_size" in str(error)


def test_options_whose_callbacks_cannot_be_copied_become_json() -> None:
    class Holder:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def on_message(self, message: Any) -> None:
            """Does nothing."""

    options = QueryOptions(model="m", on_assistant_message=Holder().on_message)
    assert json.loads(options.to_json())["model"] == "m"
    assert options.to_dict()["model"] == "m"
    assert options.on_assistant_message is not None


def test_the_end_of_a_session_is_answered(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        end(peer)

    with client_of(serve(script)).session():
        pass
