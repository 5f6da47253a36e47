"""An open WebSocket connection over a pair of sockets, without a thread."""

from __future__ import annotations

import socket
import struct
from typing import Any, Iterator, List, Tuple

import pytest

from runtimeuse_sync.transports._link import WebSocketLink

from .test_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, server_frame, unmasked

Linked = Tuple[WebSocketLink, socket.socket]


@pytest.fixture
def linked() -> Iterator[Linked]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield WebSocketLink(ours, b"", 2**20), theirs


def sent(theirs: socket.socket) -> List[Tuple[int, bytes]]:
    """Takes all that the link has sent so far."""
    data = b""
    while True:
        try:
            some = theirs.recv(65536)
        except BlockingIOError:
            break
        if not some:
            break
        data += some
    return unmasked(data)


def is_quiet(link: WebSocketLink) -> bool:
    """Returns whether nothing waits to be sent."""
    return not link.wants_write


def reason(link: WebSocketLink) -> str:
    assert link.disconnected is not None
    return str(link.disconnected)


def test_messages_in_both_directions(linked: Linked) -> None:
    link, theirs = linked
    link.queue_text(b"hello")
    link.queue_text("Grüße".encode())
    assert link.flush() is True
    assert sent(theirs) == [(TEXT, b"hello"), (TEXT, "Grüße".encode())]
    assert link.flush() is False
    theirs.send(server_frame(TEXT, b"one") + server_frame(BINARY, b"two"))
    assert link.read() == (["one", "two"], True)
    assert link.read() == ([], False)
    assert link.disconnected is None
    assert is_quiet(link)


def test_what_came_with_the_handshake_is_read_first() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        message = server_frame(TEXT, b"early bird")
        link = WebSocketLink(ours, message[:5], 1000)
        before = link.has_pending
        assert link.read() == ([], True)
        assert (before, link.has_pending) == (True, False)
        theirs.send(message[5:])
        assert link.read() == (["early bird"], True)


def test_a_part_of_a_message_is_a_sign_of_life(linked: Linked) -> None:
    link, theirs = linked
    data = server_frame(TEXT, b"x" * 1000)
    theirs.send(data[:500])
    assert link.read() == ([], True)
    theirs.send(data[500:])
    assert link.read() == (["x" * 1000], True)


def test_a_read_takes_a_bounded_amount(linked: Linked) -> None:
    link, theirs = linked
    frame = server_frame(TEXT, b"x" * 1000)
    total = 0
    try:
        while total < 4 * 2**20:
            total += theirs.send(frame * 100)
    except BlockingIOError:
        pass
    most, got = 0, 0
    while True:
        messages, received = link.read()
        if not received:
            break
        most = max(most, sum(map(len, messages)))
        got += len(messages)
    assert got == total // len(frame)
    assert most <= 512 * 1024


def test_a_blocked_send_and_its_progress(linked: Linked) -> None:
    link, theirs = linked
    payloads = [bytes([65 + number]) * 300_000 for number in range(5)]
    for payload in payloads:
        link.queue_text(payload)
    assert link.flush() is True
    assert not is_quiet(link)
    assert link.flush() is False  # no progress, no sign of life
    assert not is_quiet(link)
    received = b""
    for _ in range(10_000):
        try:
            received += theirs.recv(65536)
        except BlockingIOError:
            if not link.flush() and not link.wants_write:
                break
    assert is_quiet(link)
    assert unmasked(received) == [(TEXT, payload) for payload in payloads]


class Scripted:
    """A socket whose sends and receives go as a script says."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.sent = b""
        self.closed = False

    def send(self, data: Any) -> int:
        step = self.steps.pop(0) if self.steps else len(data)
        if isinstance(step, BaseException):
            raise step
        taken = min(int(step), len(data))
        self.sent += bytes(data[:taken])
        return taken

    def recv(self, size: int) -> bytes:
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        data: bytes = step
        return data

    def close(self) -> None:
        self.closed = True


def test_partial_sends() -> None:
    sock = Scripted(1, 2, BlockingIOError(), 3, 1, 0, BlockingIOError())
    link = WebSocketLink(sock, b"", 1000)
    link.queue_text(b"hello")
    link.queue_text(b"again")
    assert link.flush() is True
    assert not is_quiet(link)
    assert link.flush() is True
    assert not is_quiet(link)
    assert link.flush() is True
    assert is_quiet(link)
    assert unmasked(sock.sent) == [(TEXT, b"hello"), (TEXT, b"again")]


def test_several_pings_are_answered_in_order(linked: Linked) -> None:
    link, theirs = linked
    theirs.send(server_frame(PING, b"1") + server_frame(TEXT, b"x") + server_frame(PING, b"2") + server_frame(PONG))
    assert link.read() == (["x"], True)
    link.flush()
    assert sent(theirs) == [(PONG, b"1"), (PONG, b"2")]


def test_pings_without_end_do_not_fill_the_memory(linked: Linked) -> None:
    # The newest are answered, as RFC 6455 §5.5.3 allows.
    link, theirs = linked
    for number in range(500):
        theirs.send(server_frame(PING, str(number).encode()))
        link.read()
    assert len(link._out) <= 1
    link.flush()
    assert sent(theirs) == [(PONG, str(number).encode()) for number in range(484, 500)]


def test_no_pong_follows_a_close_frame(linked: Linked) -> None:
    link, theirs = linked
    theirs.send(server_frame(PING, b"1") + server_frame(CLOSE, struct.pack("!H", 1000)))
    link.read()
    assert sent(theirs) == [(PONG, b"1"), (CLOSE, struct.pack("!H", 1000))]


def test_our_ping(linked: Linked) -> None:
    link, theirs = linked
    link.queue_ping()
    link.flush()
    [(opcode, payload)] = sent(theirs)
    assert opcode == PING
    theirs.send(server_frame(PONG, payload))
    assert link.read() == ([], True)


@pytest.mark.parametrize(
    ("payload", "answer"), [(struct.pack("!H", 1001) + b"bye", struct.pack("!H", 1001)), (b"", b"")]
)
def test_a_close_is_answered_with_the_same_code(linked: Linked, payload: bytes, answer: bytes) -> None:
    link, theirs = linked
    theirs.send(server_frame(TEXT, b"last") + server_frame(CLOSE, payload))
    assert link.read() == (["last"], True)
    assert sent(theirs) == [(CLOSE, answer)]
    assert link.disconnected is not None
    assert not link.disconnected.protocol_error
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
    assert link.disconnected.protocol_error
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
