"""The frame parser: what is well formed comes out the same however it was cut, and at what cost."""

from __future__ import annotations

import struct
from typing import Any, List, Tuple

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync._websocket.frames import Binary, Close, FrameParser, Parsed, Ping, Pong

from ...support.frames import BINARY, CLOSE, CONTINUATION, MAX, PING, PONG, TEXT, one_by_one, parse, server_frame

_CONTROL = st.one_of(
    st.binary(max_size=125).map(lambda payload: (server_frame(PING, payload), Ping(payload))),
    st.binary(max_size=125).map(lambda payload: (server_frame(PONG, payload), Pong(payload))),
)


@st.composite
def _messages(draw: st.DrawFn) -> Tuple[bytes, List[Parsed]]:
    """Any conversation from a server, as bytes, with what must come out of it."""
    data = b""
    wanted: List[Parsed] = []
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            text = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=draw(st.sampled_from([3, 200]))))
            opcode, payload = TEXT, text.encode()
            message: Parsed = text
        else:
            opcode, payload = BINARY, draw(st.binary(max_size=200))
            message = Binary(payload)
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)])]
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            data += server_frame(CONTINUATION if index else opcode, piece, fin=last)
            if last:
                wanted.append(message)
            for control, parsed in draw(st.lists(_CONTROL, max_size=2)):
                data += control
                wanted.append(parsed)
    if draw(st.booleans()):
        data += server_frame(CLOSE, struct.pack("!H", 1000) + b"bye") + draw(st.binary(max_size=10))
        wanted.append(Close(1000, "bye"))
    return data, wanted


@hypothesis.given(_messages(), st.lists(st.integers(0, 2000), max_size=20))
def test_messages_come_out_the_same_however_the_network_cuts_them(
    conversation: Tuple[bytes, List[Parsed]], cuts: List[int]
) -> None:
    data, wanted = conversation
    assert parse(data) == (wanted, None)
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)])]
    assert parse(*pieces) == (wanted, None)


@hypothesis.given(_messages())
@hypothesis.settings(max_examples=30)
def test_messages_come_out_the_same_byte_by_byte(conversation: Tuple[bytes, List[Parsed]]) -> None:
    data, wanted = conversation
    assert parse(*one_by_one(data)) == (wanted, None)


@hypothesis.given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_no_bytes_at_all_make_it_fail_otherwise_than_by_a_frame_error(data: bytes, cuts: List[int]) -> None:
    whole = parse(data, limit=100)
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)])]
    cut = parse(*pieces, limit=100)
    assert cut[0] == whole[0]
    assert (cut[1] and cut[1].code) == (whole[1] and whole[1].code)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("fin", [True, False])
def test_all_encodings_of_a_length(length: int, fin: bool) -> None:
    text = "a" * length
    data = server_frame(TEXT, text.encode(), fin=fin) + (b"" if fin else server_frame(CONTINUATION))
    assert parse(data + server_frame(PING, b"next")) == ([text, Ping(b"next")], None)
    half = len(data) // 2
    assert parse(data[:half], data[half:] + server_frame(PING, b"next")) == ([text, Ping(b"next")], None)


@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("length", [0, 1, 125])
def test_control_frames_have_up_to_125_bytes(opcode: int, length: int) -> None:
    kind = Ping if opcode == PING else Pong
    assert parse(server_frame(opcode, b"x" * length)) == ([kind(b"x" * length)], None)


def test_a_close_frame_without_a_code() -> None:
    assert parse(server_frame(CLOSE)) == ([Close(1005, "")], None)


def test_nothing_is_taken_from_after_a_close_frame() -> None:
    data = server_frame(CLOSE, struct.pack("!H", 1001)) + server_frame(TEXT, b"late") + b"\xff\xff\xff"
    assert parse(data) == ([Close(1001, "")], None)
    # The same where the close frame itself was cut.
    assert parse(data[:3], data[3:]) == ([Close(1001, "")], None)


def test_a_close_frame_between_fragments() -> None:
    data = server_frame(TEXT, b"half", fin=False) + server_frame(CLOSE, struct.pack("!H", 1000))
    assert parse(data) == ([Close(1000, "")], None)


class _CountingBytes(bytes):
    """Counts how many bytes are copied by cutting and joining."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            _CountingBytes.copied += len(found)
        return found

    def __radd__(self, other: Any) -> bytes:
        _CountingBytes.copied += len(other) + len(self)
        return bytes(other) + bytes(self)


def test_a_message_costs_in_proportion_to_its_size_however_it_is_cut() -> None:
    payload = b"x" * 200_000
    data = server_frame(TEXT, payload)
    parser = FrameParser(MAX)
    _CountingBytes.copied = 0
    parsed: List[Parsed] = []
    for at in range(0, len(data), 10):
        parsed += parser.feed(_CountingBytes(data[at : at + 10]))[0]
    assert parsed == [payload.decode()]
    # Each byte a few times, and not once for each of the 20,000 pieces.
    assert _CountingBytes.copied < 4 * len(data)


def test_ten_thousand_fragments() -> None:
    data = server_frame(TEXT, b"", fin=False) + server_frame(CONTINUATION, b"ab", fin=False) * 10_000
    data += server_frame(CONTINUATION, b"c")
    assert parse(data, limit=30_000) == (["ab" * 10_000 + "c"], None)


def test_ten_thousand_small_frames_in_one_read() -> None:
    assert parse(server_frame(TEXT, b"hello") * 10_000) == (["hello"] * 10_000, None)
