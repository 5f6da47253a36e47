"""Bounded memory: upload requests, their answers, and reports of a runtime's mistakes."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any, List

import pytest

from runtimeuse_sync import ArtifactUploadResult, CancelledException, ProtocolError

from ..support.builders import (
    BOTH,
    CONFIRM,
    Serve,
    caller_of,
    client_of,
    end,
    put_anywhere,
    text,
    until_end,
    upload,
    wait,
)
from ..support.servers import PATIENCE, TEXT, Message, Peer, PeerGone, frame
from ..support.threads import InThread

#: An upload request of about 2 KB, and twice as many of them as may be kept.
REQUEST = upload("/out/" + "x" * 1000)
LIMIT = 200_000
MANY = 2 * LIMIT // 2000

TOO_MANY = r"announced more artifacts than may wait for answers \(max_buffered: 200000 bytes\)"


def pour(peer: Peer, *messages: Message) -> None:
    """Sends messages to a client that leaves before it has read them all."""
    with contextlib.suppress(PeerGone):
        peer.send(*messages)
        peer.until_gone()


@BOTH
def test_upload_requests_without_end(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        # The result is among them, but the client does not get that far.
        pour(peer, *[REQUEST] * MANY, text("done"))

    with pytest.raises(ProtocolError, match=TOO_MANY) as caught:
        with caller_of(client_of(serve(script), max_buffered=LIMIT), in_session) as caller:
            caller.query("hi")
    assert caught.value.metadata == {"in_flight": "query"}


def test_upload_requests_without_end_between_calls(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        pour(peer, text("done"), *[REQUEST] * MANY)

    session = client_of(serve(script), max_buffered=LIMIT).session().open()
    session.query("hi")
    with pytest.raises(ProtocolError, match=TOO_MANY):
        session.query("hi")
    with pytest.raises(ProtocolError, match=TOO_MANY):
        session.close()


def test_upload_requests_without_end_at_the_end(serve: Serve) -> None:
    """Answers are asked for as there is room: so these have to fail."""

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        pour(peer, *[REQUEST] * MANY, CONFIRM)

    asked: List[Any] = []

    def refuse(request: Any) -> ArtifactUploadResult:
        asked.append(request)
        raise LookupError("no storage")

    client = client_of(serve(script), max_buffered=LIMIT)
    with pytest.raises(ProtocolError, match=TOO_MANY):
        client.query("hi", artifacts_dir="/out", on_artifact_upload_request=refuse)
    assert 0 < len(asked) < MANY


@BOTH
def test_upload_requests_that_are_answered_do_not_count(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(*[REQUEST] * MANY, text("done"))
        for _ in range(MANY):
            peer.expect("artifact_upload_response_message")
        peer.expect("end_session_message")
        peer.send(*[REQUEST] * MANY)
        for _ in range(MANY):
            peer.expect("artifact_upload_response_message")
        peer.send(CONFIRM)

    with caller_of(client_of(serve(script), max_buffered=LIMIT), in_session) as caller:
        assert caller.query("hi", artifacts_dir="/out", on_artifact_upload_request=put_anywhere).text == "done"


@pytest.mark.parametrize("at_the_end", [False, True])
def test_answers_that_the_runtime_does_not_take(serve: Serve, at_the_end: bool) -> None:
    """The client stops to answer, so that TCP pushes back, and its limits hold."""
    stuck, over = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        if at_the_end:
            peer.send(text("done"))
            peer.expect("end_session_message")
        peer.sock.settimeout(1.0)
        # More than two sockets and the client hold. Nothing is read.
        try:
            for _ in range(30_000):
                peer.sock.sendall(frame(TEXT, json.dumps(REQUEST).encode()))
        except socket.timeout:
            stuck.set()
        wait(over)
        peer.cut(reset=True)

    def abort() -> None:
        stuck.wait(PATIENCE)
        client.abort()

    client = client_of(serve(script), max_buffered=LIMIT)
    aborting = InThread(abort)
    with pytest.raises(CancelledException):
        client.query("hi", artifacts_dir="/out", on_artifact_upload_request=put_anywhere, end_session_timeout=None)
    over.set()
    aborting.result()
    assert stuck.is_set()


def test_malformed_messages_without_end(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for _ in range(2):
            peer.expect("invocation_message")
            peer.send(*[{"message_type": "heartbeat_message"}] * 500, text("done"))
        end(peer)

    with client_of(serve(script)).session() as session:
        for _ in range(2):
            assert session.query("hi").text == "done"
    assert len(caplog.records) == 21
    assert "not logged" in caplog.records[-1].getMessage()
