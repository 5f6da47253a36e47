"""The WebSocket over a socket that is connected: messages both ways, in whatever pieces, and pings."""

from __future__ import annotations

import socket
import struct
from typing import List

from runtimeuse_sync._websocket.stream import WebSocketStream

from ...support.frames import BINARY, CLOSE, PING, PONG, TEXT, server_frame, unmasked
from ...support.streams import Connected, Scripted, is_quiet, sent


def test_messages_in_both_directions(connected: Connected) -> None:
    stream, theirs = connected
    stream.queue_text(b"hello")
    stream.queue_text("Grüße".encode())
    assert stream.flush() is True
    assert sent(theirs) == [(TEXT, b"hello"), (TEXT, "Grüße".encode())]
    assert stream.flush() is False
    theirs.send(server_frame(TEXT, b"one") + server_frame(BINARY, b"two"))
    assert stream.read() == (["one", "two"], True)
    assert stream.read() == ([], False)
    assert stream.disconnected is None
    assert is_quiet(stream)


def test_what_came_with_the_handshake_is_read_first() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        message = server_frame(TEXT, b"early bird")
        stream = WebSocketStream(ours, message[:5], 1000)
        before = stream.has_pending
        assert stream.read() == ([], True)
        assert (before, stream.has_pending) == (True, False)
        theirs.send(message[5:])
        assert stream.read() == (["early bird"], True)


def test_a_part_of_a_message_is_a_sign_of_life(connected: Connected) -> None:
    stream, theirs = connected
    data = server_frame(TEXT, b"x" * 1000)
    theirs.send(data[:500])
    assert stream.read() == ([], True)
    theirs.send(data[500:])
    assert stream.read() == (["x" * 1000], True)


def test_the_pongs_of_a_read(connected: Connected) -> None:
    stream, theirs = connected
    stream.queue_ping()
    stream.queue_ping(b"asked for")
    assert stream.flush() is True
    pings = sent(theirs)
    assert [opcode for opcode, _ in pings] == [PING, PING]
    assert pings[1][1] == b"asked for"
    theirs.send(server_frame(PONG, b"asked for") + server_frame(PONG, b"") + server_frame(TEXT, b"one"))
    assert stream.read() == (["one"], True)
    assert stream.pongs == [b"asked for", b""]
    assert stream.read() == ([], False)
    assert stream.pongs == []
    assert is_quiet(stream)


def test_a_read_takes_a_bounded_amount(connected: Connected) -> None:
    stream, theirs = connected
    frame = server_frame(TEXT, b"x" * 1000)
    total = 0
    try:
        while total < 4 * 2**20:
            total += theirs.send(frame * 100)
    except BlockingIOError:
        pass
    most, got = 0, 0
    while True:
        messages, received = stream.read()
        if not received:
            break
        most = max(most, sum(map(len, messages)))
        got += len(messages)
    assert got == total // len(frame)
    assert most <= 512 * 1024


def test_a_blocked_send_and_its_progress(connected: Connected) -> None:
    stream, theirs = connected
    payloads = [bytes([65 + number]) * 300_000 for number in range(5)]
    for payload in payloads:
        stream.queue_text(payload)
    assert stream.flush() is True
    assert not is_quiet(stream)
    assert stream.flush() is False  # no progress, no sign of life
    assert not is_quiet(stream)
    received = b""
    for _ in range(10_000):
        try:
            received += theirs.recv(65536)
        except BlockingIOError:
            if not stream.flush() and not stream.wants_write:
                break
    assert is_quiet(stream)
    assert unmasked(received) == [(TEXT, payload) for payload in payloads]


def test_partial_sends() -> None:
    sock = Scripted(1, 2, BlockingIOError(), 3, 1, 0, BlockingIOError())
    stream = WebSocketStream(sock, b"", 1000)
    stream.queue_text(b"hello")
    stream.queue_text(b"again")
    assert stream.flush() is True
    assert not is_quiet(stream)
    assert stream.flush() is True
    assert not is_quiet(stream)
    assert stream.flush() is True
    assert is_quiet(stream)
    assert unmasked(sock.sent) == [(TEXT, b"hello"), (TEXT, b"again")]


def test_several_pings_are_answered_in_order(connected: Connected) -> None:
    stream, theirs = connected
    theirs.send(server_frame(PING, b"1") + server_frame(TEXT, b"x") + server_frame(PING, b"2") + server_frame(PONG))
    assert stream.read() == (["x"], True)
    stream.flush()
    assert sent(theirs) == [(PONG, b"1"), (PONG, b"2")]


def test_pings_without_end_do_not_fill_the_memory(connected: Connected) -> None:
    # The newest are answered, as RFC 6455 §5.5.3 allows.
    stream, theirs = connected
    for number in range(500):
        theirs.send(server_frame(PING, str(number).encode()))
        stream.read()
    assert len(stream._out) <= 1
    stream.flush()
    assert sent(theirs) == [(PONG, str(number).encode()) for number in range(484, 500)]


def test_no_pong_follows_a_close_frame(connected: Connected) -> None:
    stream, theirs = connected
    theirs.send(server_frame(PING, b"1") + server_frame(CLOSE, struct.pack("!H", 1000)))
    stream.read()
    assert sent(theirs) == [(PONG, b"1"), (CLOSE, struct.pack("!H", 1000))]


def test_our_ping(connected: Connected) -> None:
    stream, theirs = connected
    stream.queue_ping()
    stream.flush()
    [(opcode, payload)] = sent(theirs)
    assert opcode == PING
    theirs.send(server_frame(PONG, payload))
    assert stream.read() == ([], True)


class EndlessSocket:
    """Gives as many bytes as are asked for, of one message after the other."""

    def __init__(self) -> None:
        self.asked_for: List[int] = []
        self._data = server_frame(TEXT, b"x" * 14)

    def recv(self, size: int) -> bytes:
        at = sum(self.asked_for) % len(self._data)
        self.asked_for.append(size)
        return (self._data * (size // len(self._data) + 2))[at : at + size]


def test_a_stream_that_never_pauses_is_read_in_ever_larger_pieces_but_not_without_end() -> None:
    sock = EndlessSocket()
    stream = WebSocketStream(sock, b"", 2**20)
    first, _ = stream.read()
    assert sock.asked_for == [16384 << doubled for doubled in range(7)]
    assert len(first) == sum(sock.asked_for) // 16
    second, _ = stream.read()
    assert sock.asked_for[7:] == [2**20]
    assert set(first + second) == {"x" * 14}
    assert len(first + second) == sum(sock.asked_for) // 16
