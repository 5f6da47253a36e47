"""The end of a WebSocket: closing, violations, resets, sends that fail."""

from __future__ import annotations

import socket
import struct
from typing import List

import pytest

from runtimeuse_sync._websocket.stream import WebSocketLink

from ...support.frames import BINARY, CLOSE, CONTINUATION, TEXT, server_frame
from ...support.linked import Linked, Scripted, is_quiet, sent


def reason(link: WebSocketLink) -> str:
    assert link.disconnected is not None
    return str(link.disconnected)


@pytest.mark.parametrize(
    ("payload", "answer"), [(struct.pack("!H", 1001) + b"bye", struct.pack("!H", 1001)), (b"", b"")]
)
def test_a_close_is_answered_with_the_same_code(linked: Linked, payload: bytes, answer: bytes) -> None:
    link, theirs = linked
    theirs.send(server_frame(TEXT, b"last") + server_frame(CLOSE, payload))
    assert link.read() == (["last"], True)
    assert sent(theirs) == [(CLOSE, answer)]
    assert link.disconnected is not None
    assert link.disconnected.close is not None
    assert link.disconnected.violation is None
    if payload:
        assert "1001" in reason(link)
        assert "bye" in reason(link)
    link.finish()
    assert sent(theirs) == []


def test_nothing_is_read_after_the_close(linked: Linked) -> None:
    link, theirs = linked
    theirs.send(server_frame(CLOSE) + server_frame(TEXT, b"late"))
    assert link.read() == ([], True)
    theirs.send(server_frame(TEXT, b"later"))
    assert link.read() == ([], False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (server_frame(TEXT, b"\xff"), 1007),
        (server_frame(CONTINUATION, b"x"), 1002),
        (server_frame(BINARY, b"x" * (2**20 + 1))[:100], 1009),
    ],
)
def test_a_violation_fails_the_connection(linked: Linked, data: bytes, code: int) -> None:
    link, theirs = linked
    theirs.send(server_frame(TEXT, b"good") + data)
    assert link.read() == (["good"], True)
    assert link.disconnected is not None
    assert link.disconnected.violation is not None
    [(opcode, payload)] = sent(theirs)
    assert opcode == CLOSE
    assert struct.unpack_from("!H", payload) == (code,)


def test_the_end_without_a_closing_handshake(linked: Linked) -> None:
    link, theirs = linked
    theirs.send(server_frame(TEXT, b"last"))
    theirs.close()
    messages = []
    for _ in range(3):
        messages += link.read()[0]
    assert messages == ["last"]
    assert "closing handshake" in reason(link)
    link.finish()


def test_a_reset() -> None:
    listener = socket.socket()
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours:
        ours.setblocking(False)
        link = WebSocketLink(ours, b"", 1000)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        for _ in range(1000):
            link.read()
            if link.disconnected is not None:
                break
        assert "receiving failed" in reason(link)
        link.queue_text(b"x")
        assert link.flush() is False
        link.finish()


def test_a_send_that_fails(linked: Linked) -> None:
    link, theirs = linked
    theirs.close()
    link.queue_text(b"x")
    link.flush()
    assert "sending failed" in reason(link)
    assert is_quiet(link)
    link.queue_text(b"y")
    assert link.flush() is False


def test_what_had_arrived_before_a_send_failed_can_be_read(linked: Linked) -> None:
    # The runtime has sent its result and gone, while an upload's answer, a ping or a cancel was on its way.
    link, theirs = linked
    theirs.send(server_frame(TEXT, b"the result"))
    theirs.close()
    link.queue_text(b"too late")
    link.flush()
    messages: List[str] = []
    for _ in range(3):
        messages += link.read()[0]
    assert messages == ["the result"]


def test_lose_keeps_the_first_reason(linked: Linked) -> None:
    link, theirs = linked
    link.lose("no pong")
    link.lose("something else")
    assert reason(link) == "no pong"
    link.finish()
    # Not a word to a peer that is taken for dead.
    assert sent(theirs) == []


def test_finish_says_goodbye_last(linked: Linked) -> None:
    link, theirs = linked
    link.queue_text(b"last words")
    link.finish()
    assert sent(theirs) == [(TEXT, b"last words"), (CLOSE, struct.pack("!H", 1000))]
    assert link.sock.fileno() == -1
    link.finish()


def test_finish_never_blocks(linked: Linked) -> None:
    link, _ = linked
    link.queue_text(b"x" * 10**7)
    link.flush()
    assert not is_quiet(link)
    link.finish()
    assert link.sock.fileno() == -1


def test_finish_on_a_dead_socket(linked: Linked) -> None:
    link, theirs = linked
    theirs.close()
    link.finish()
    assert link.sock.fileno() == -1


def test_errors_are_told_by_their_names() -> None:
    link = WebSocketLink(Scripted(OSError(113, "No route to host")), b"", 1000)
    link.read()
    assert "No route to host" in reason(link)
    link = WebSocketLink(Scripted(OSError()), b"", 1000)
    link.read()
    assert "OSError" in reason(link)
