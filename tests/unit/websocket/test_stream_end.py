"""The end of a WebSocket: closing, violations, resets, sends that fail."""

from __future__ import annotations

import select
import socket
import struct
from typing import List

import pytest

from runtimeuse_sync._websocket.stream import WebSocketStream

from ...support.frames import BINARY, CLOSE, CONTINUATION, TEXT, server_frame
from ...support.servers import PATIENCE
from ...support.streams import Connected, Scripted, is_quiet, sent


def reason(stream: WebSocketStream) -> str:
    assert stream.disconnected is not None
    return str(stream.disconnected)


@pytest.mark.parametrize(
    ("payload", "answer"), [(struct.pack("!H", 1001) + b"bye", struct.pack("!H", 1001)), (b"", b"")]
)
def test_a_close_is_answered_with_the_same_code(connected: Connected, payload: bytes, answer: bytes) -> None:
    stream, theirs = connected
    theirs.send(server_frame(TEXT, b"last") + server_frame(CLOSE, payload))
    assert stream.read() == (["last"], True)
    assert sent(theirs) == [(CLOSE, answer)]
    assert stream.disconnected is not None
    assert stream.disconnected.close is not None
    assert stream.disconnected.violation is None
    if payload:
        assert "1001" in reason(stream)
        assert "bye" in reason(stream)
    stream.finish()
    assert sent(theirs) == []


def test_nothing_is_read_after_the_close(connected: Connected) -> None:
    stream, theirs = connected
    theirs.send(server_frame(CLOSE) + server_frame(TEXT, b"late"))
    assert stream.read() == ([], True)
    theirs.send(server_frame(TEXT, b"later"))
    assert stream.read() == ([], False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (server_frame(TEXT, b"\xff"), 1007),
        (server_frame(CONTINUATION, b"x"), 1002),
        (server_frame(BINARY, b"x" * (2**20 + 1))[:100], 1009),
    ],
)
def test_a_violation_fails_the_connection(connected: Connected, data: bytes, code: int) -> None:
    stream, theirs = connected
    theirs.send(server_frame(TEXT, b"good") + data)
    assert stream.read() == (["good"], True)
    assert stream.disconnected is not None
    assert stream.disconnected.violation is not None
    [(opcode, payload)] = sent(theirs)
    assert opcode == CLOSE
    assert struct.unpack_from("!H", payload) == (code,)


def test_the_end_without_a_closing_handshake(connected: Connected) -> None:
    stream, theirs = connected
    theirs.send(server_frame(TEXT, b"last"))
    theirs.close()
    messages = []
    for _ in range(3):
        messages += stream.read()[0]
    assert messages == ["last"]
    assert "closing handshake" in reason(stream)
    stream.finish()


def test_a_reset() -> None:
    listener = socket.socket()
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours:
        ours.setblocking(False)
        stream = WebSocketStream(ours, b"", 1000)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        assert select.select([ours], [], [], PATIENCE)[0]
        stream.read()
        assert "receiving failed" in reason(stream)
        stream.queue_text(b"x")
        assert stream.flush() is False
        stream.finish()


def test_a_send_that_fails(connected: Connected) -> None:
    stream, theirs = connected
    theirs.close()
    stream.queue_text(b"x")
    stream.flush()
    assert "sending failed" in reason(stream)
    assert is_quiet(stream)
    stream.queue_text(b"y")
    assert stream.flush() is False


def test_what_had_arrived_before_a_send_failed_can_be_read(connected: Connected) -> None:
    # The runtime has sent its result and gone, while an upload's answer, a ping or a cancel was on its way.
    stream, theirs = connected
    theirs.send(server_frame(TEXT, b"the result"))
    theirs.close()
    stream.queue_text(b"too late")
    stream.flush()
    messages: List[str] = []
    for _ in range(3):
        messages += stream.read()[0]
    assert messages == ["the result"]


def test_lose_keeps_the_first_reason(connected: Connected) -> None:
    stream, theirs = connected
    stream.lose("no pong")
    stream.lose("something else")
    assert reason(stream) == "no pong"
    stream.finish()
    # Not a word to a peer that is taken for dead.
    assert sent(theirs) == []


def test_finish_says_goodbye_last(connected: Connected) -> None:
    stream, theirs = connected
    stream.queue_text(b"last words")
    stream.finish()
    assert sent(theirs) == [(TEXT, b"last words"), (CLOSE, struct.pack("!H", 1000))]
    assert stream.sock.fileno() == -1
    stream.finish()


def test_finish_never_blocks(connected: Connected) -> None:
    stream, _ = connected
    stream.queue_text(b"x" * 10**7)
    stream.flush()
    assert not is_quiet(stream)
    stream.finish()
    assert stream.sock.fileno() == -1


def test_finish_on_a_dead_socket(connected: Connected) -> None:
    stream, theirs = connected
    theirs.close()
    stream.finish()
    assert stream.sock.fileno() == -1


def test_errors_are_told_by_their_names() -> None:
    stream = WebSocketStream(Scripted(OSError(113, "No route to host")), b"", 1000)
    stream.read()
    assert "No route to host" in reason(stream)
    stream = WebSocketStream(Scripted(OSError()), b"", 1000)
    stream.read()
    assert "OSError" in reason(stream)
