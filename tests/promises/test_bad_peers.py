"""Every call ends: cut connections, invalid bytes and messages, silent peers."""

from __future__ import annotations

import struct
import threading
from typing import Callable

import pytest

from runtimeuse_sync import AgentRuntimeError, ConnectionLostError, ProtocolError

from ..support.builders import BOTH, Serve, Stopwatch, assistant, caller_of, client_of, text, wait
from ..support.servers import CLOSE, PATIENCE, PING, PONG, TEXT, Peer, frame


def after_request(moves: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        moves(peer)

    return script


@BOTH
@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 4000, 4999])
def test_closed_with_a_code(serve: Serve, code: int, in_session: bool) -> None:
    server = serve(after_request(lambda peer: peer.close(code, "why not")))
    with caller_of(client_of(server), in_session) as caller:
        with pytest.raises(ConnectionLostError, match=str(code)) as caught:
            caller.query("hi")
        assert caught.value.metadata == {"in_flight": "query"}
        assert isinstance(caught.value, AgentRuntimeError)
        assert isinstance(caught.value, ConnectionError)
        if in_session:  # it does not come back, and says so at once
            with pytest.raises(ConnectionLostError):
                caller.execute_commands(["ls"])
    server.stop()
    assert server.peers[0].closed_with == code


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535])
def test_closed_with_a_code_that_cannot_be(serve: Serve, code: int) -> None:
    with pytest.raises(ProtocolError):
        client_of(serve(after_request(lambda peer: peer.close(code)))).query("hi")


def half_a_frame(peer: Peer) -> None:
    peer.raw(frame(TEXT, b"{" * 50, length=100))
    peer.cut()


def half_a_header(peer: Peer) -> None:
    peer.raw(b"\x81\x7e")
    peer.cut()


def half_a_message(peer: Peer) -> None:
    peer.frame(TEXT, b"{", fin=False)
    peer.cut()


def reset_half_way(peer: Peer) -> None:
    peer.raw(frame(TEXT, b"{" * 50, length=100))
    peer.cut(reset=True)


@BOTH
@pytest.mark.parametrize(
    "cut",
    [
        lambda peer: peer.cut(),
        lambda peer: peer.cut(reset=True),
        half_a_frame,
        half_a_header,
        half_a_message,
        reset_half_way,
    ],
)
def test_cut(serve: Serve, cut: Callable[[Peer], None], in_session: bool) -> None:
    with caller_of(client_of(serve(after_request(cut))), in_session) as caller:
        with pytest.raises(ConnectionLostError) as caught:
            caller.execute_commands(["ls"])
    assert caught.value.metadata == {"in_flight": "command execution"}


GARBAGE = {
    "masked": b"\x81\x82\0\0\0\0{}",
    "reserved bits": b"\xf1\x02{}",
    "unknown data opcode": b"\x83\x00",
    "unknown control opcode": b"\x8b\x00",
    "long ping": frame(PING, b"x" * 126),
    "fragmented ping": frame(PING, b"x", fin=False),
    "half a close code": frame(CLOSE, b"\x03"),
    "close reason is no UTF-8": frame(CLOSE, struct.pack("!H", 1000) + b"\xff"),
    "stray continuation": b"\x80\x00",
    "message in a message": frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),
    "no UTF-8": frame(TEXT, b'{"a": "\xff"}'),
    "no UTF-8 in a fragment": frame(TEXT, b"\xff", fin=False),
    "64 bits of length": b"\x81\x7f" + b"\xff" * 8,
    "HTTP": b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
}


@BOTH
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(serve: Serve, name: str, in_session: bool) -> None:
    with caller_of(client_of(serve(after_request(lambda peer: peer.raw(GARBAGE[name])))), in_session) as caller:
        with pytest.raises(ProtocolError):
            caller.query("hi")


STRANGE = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"{",
    b'"x"',
    b'{"message_type": 1}',
    b'{"message_type": "of the future"}',
    b'{"message_type": "assistant_message", "text_blocks": "no list"}',
    b'{"message_type": "command_output_message"}',
    b'{"message_type": "heartbeat_message", "elapsed_ms": NaN, "phase": "p"}',
    b"[" * 100_000,
    b"1" * 5000,
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda strange: repr(strange[:60]))
def test_a_strange_message_is_passed_over(serve: Serve, strange: bytes) -> None:
    def moves(peer: Peer) -> None:
        peer.frame(TEXT, strange)
        peer.frame(0x2, strange)
        peer.send(text("done"))

    assert client_of(serve(after_request(moves))).query("hi").text == "done"


@BOTH
@pytest.mark.parametrize("busy", [False, True])
def test_a_silent_peer(serve: Serve, in_session: bool, busy: bool) -> None:
    over = threading.Event()

    def moves(peer: Peer) -> None:
        peer.answers_pings = False
        if busy:
            peer.send(*[assistant("a")] * 10)
        wait(over)

    client = client_of(serve(after_request(moves)), ping_interval=0.2, ping_timeout=0.2)
    watch = Stopwatch()
    with caller_of(client, in_session) as caller:
        with pytest.raises(ConnectionLostError, match="ping"):
            caller.query("hi")
    assert 0.4 <= watch.seconds < 8
    over.set()


def test_a_peer_that_only_answers_pings_is_alive(serve: Serve) -> None:
    enough = threading.Event()

    def moves(peer: Peer) -> None:
        while peer.pings < 4:
            opcode, payload = peer._frame()
            assert opcode == PING
            peer.pings += 1
            peer.frame(PONG, payload)
        enough.set()
        peer.send(text("done"))

    assert client_of(serve(after_request(moves)), ping_interval=0.1, ping_timeout=PATIENCE).query("hi").text == "done"
    assert enough.is_set()


def test_pings_in_the_middle_of_a_message_are_answered(serve: Serve) -> None:
    def moves(peer: Peer) -> None:
        message = b'{"message_type":"result_message","data":{"type":"text","text":"\xc3\xa4"}}'
        # Cut within the two bytes of one character.
        peer.frame(TEXT, message[:63], fin=False)
        peer.frame(PING, b"there?")
        assert peer._frame() == (PONG, b"there?")
        for at in range(63, len(message)):
            peer.frame(0, message[at : at + 1], fin=False)
        peer.frame(0, b"")

    assert client_of(serve(after_request(moves))).query("hi").text == "ä"


def test_a_result_right_before_the_end_of_the_connection_counts(serve: Serve) -> None:
    def moves(peer: Peer) -> None:
        peer.send(assistant("a"), text("done"))
        peer.cut()

    assert client_of(serve(after_request(moves))).query("hi").text == "done"


@pytest.mark.parametrize("payload", ['{"n": ' + "9" * 10_000 + "}", "[" * 200_000 + "]" * 200_000])
def test_a_result_that_cannot_be_parsed_ends_the_call(serve: Serve, payload: str) -> None:
    """Whether a parser takes so much depends on its version; either way the call ends at once."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        data = '{"type": "text", "text": "ok"}'
        whole = f'{{"message_type": "result_message", "data": {data}, "metadata": {{"x": {payload}}}}}'
        peer.frame(TEXT, whole.encode())

    said = ""
    try:
        said = client_of(serve(script)).query("hi", timeout=10).text
    except ProtocolError as error:
        said = error.error
    assert said == "ok" or "malformed" in said
