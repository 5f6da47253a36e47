"""The frame parser and builder against RFC 6455."""

from __future__ import annotations

import struct
from typing import Any, List, Optional, Tuple

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync.transports._frames import (
    Binary,
    Close,
    FrameError,
    FrameParser,
    Parsed,
    Ping,
    Pong,
    close_frame,
    frame,
    ping_payload,
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MAX = 2**20


def server_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """Builds a frame as a server sends it, independently of the code under test."""
    first = (0x80 if fin else 0) | reserved | opcode
    length = len(payload)
    if length < 126:
        return bytes([first, length]) + payload
    if length < 65536:
        return bytes([first, 126]) + struct.pack("!H", length) + payload
    return bytes([first, 127]) + struct.pack("!Q", length) + payload


def unmasked(data: bytes) -> List[Tuple[int, bytes]]:
    """Decodes a client's frames: opcode and payload of each; all must be final and masked, in the shortest form."""
    frames = []
    while data:
        assert data[0] & 0x70 == 0, "reserved bits"
        assert data[0] & 0x80, "not final"
        assert data[1] & 0x80, "not masked"
        opcode, length, at = data[0] & 0x0F, data[1] & 0x7F, 2
        if length == 126:
            (length,) = struct.unpack_from("!H", data, 2)
            assert length >= 126
            at = 4
        elif length == 127:
            (length,) = struct.unpack_from("!Q", data, 2)
            assert length >= 65536
            at = 10
        mask, masked = data[at : at + 4], data[at + 4 : at + 4 + length]
        assert len(masked) == length
        frames.append((opcode, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))))
        data = data[at + 4 + length :]
    return frames


def parse(*pieces: bytes, limit: int = MAX) -> Tuple[List[Parsed], Optional[FrameError]]:
    """Feeds the pieces one by one; returns all that came out, and the error that ended it."""
    parser = FrameParser(limit)
    parsed: List[Parsed] = []
    for piece in pieces:
        some, error = parser.feed(piece)
        parsed += some
        if error is not None:
            return parsed, error
        if some and isinstance(some[-1], Close):
            break
    return parsed, None


def one_by_one(data: bytes) -> List[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# What is well formed.

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


# What is not.


def error_code(*pieces: bytes, limit: int = MAX) -> Optional[int]:
    _, error = parse(*pieces, limit=limit)
    return error.code if error is not None else None


@pytest.mark.parametrize("reserved", [0x40, 0x20, 0x10, 0x70])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_reserved_bits(reserved: int, opcode: int) -> None:
    assert error_code(server_frame(opcode, reserved=reserved)) == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"ab", b"a" * 126])
def test_masked_frames(opcode: int, payload: bytes) -> None:
    data = frame(opcode, payload)
    assert error_code(data) == 1002
    assert error_code(*one_by_one(data)) == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_unknown_opcodes(opcode: int) -> None:
    assert error_code(server_frame(opcode)) == 1002


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frames_are_not_fragmented(opcode: int) -> None:
    assert error_code(server_frame(opcode, fin=False)) == 1002


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frames_are_not_long(opcode: int) -> None:
    # By the header alone: the payload is not awaited.
    assert error_code(bytes([0x80 | opcode, 126]) + struct.pack("!H", 126)) == 1002
    assert error_code(bytes([0x80 | opcode, 127]) + struct.pack("!Q", 126)) == 1002


def test_continuations_out_of_order() -> None:
    assert error_code(server_frame(CONTINUATION, b"x")) == 1002
    assert error_code(server_frame(CONTINUATION, b"x", fin=False)) == 1002
    begun = server_frame(TEXT, b"x", fin=False)
    assert error_code(begun + server_frame(TEXT, b"y")) == 1002
    assert error_code(begun + server_frame(BINARY, b"y", fin=False)) == 1002
    ended = begun + server_frame(CONTINUATION, b"y")
    assert error_code(ended + server_frame(CONTINUATION, b"z")) == 1002


_ALLOWED_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, *range(3000, 5000)}


def test_close_codes() -> None:
    for code in [*range(5002), 9999, 65535]:
        parsed, error = parse(server_frame(CLOSE, struct.pack("!H", code)))
        if code in _ALLOWED_CODES:
            assert (parsed, error) == ([Close(code, "")], None), code
        else:
            assert error is not None, code
            assert error.code == 1002, code
            assert parsed == []


def test_half_a_close_code() -> None:
    # Also by the header alone.
    assert error_code(b"\x88\x01") == 1002


def test_close_reasons_are_utf8() -> None:
    code = struct.pack("!H", 1000)
    assert parse(server_frame(CLOSE, code + "Grüße".encode())) == ([Close(1000, "Grüße")], None)
    assert error_code(server_frame(CLOSE, code + b"\xff")) == 1007


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"ok\xc3(",
        b"\xed\xa0\x80",  # a surrogate
        b"\xc0\x80",  # NUL, too long
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        b"\xe2\x82",  # cut short
    ],
)
def test_texts_are_utf8(payload: bytes) -> None:
    assert error_code(server_frame(TEXT, payload)) == 1007
    assert error_code(server_frame(TEXT, b"a" * 200 + payload)) == 1007
    assert error_code(server_frame(TEXT, b"a", fin=False) + server_frame(CONTINUATION, payload)) == 1007
    # A binary message may hold anything.
    assert parse(server_frame(BINARY, payload)) == ([Binary(payload)], None)


def test_a_character_may_be_cut_by_fragments() -> None:
    euro = "€".encode()
    data = server_frame(TEXT, euro[:1], fin=False)
    data += server_frame(CONTINUATION, euro[1:2], fin=False) + server_frame(CONTINUATION, euro[2:])
    assert parse(data) == (["€"], None)


def test_bad_text_fails_as_soon_as_it_shows() -> None:
    # The message has not ended, and never will.
    assert error_code(server_frame(TEXT, b"ok", fin=False) + server_frame(CONTINUATION, b"\xff", fin=False)) == 1007


def test_the_decoder_forgets_the_message_before() -> None:
    first = server_frame(TEXT, b"a", fin=False) + server_frame(CONTINUATION, b"b")
    assert parse(first + first) == (["ab", "ab"], None)


def test_what_was_complete_before_an_error_is_not_lost() -> None:
    parsed, error = parse(server_frame(TEXT, b"good") + server_frame(PING, b"p") + server_frame(TEXT, b"\xff"))
    assert parsed == ["good", Ping(b"p")]
    assert error is not None


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [1, 125, 126, 1000, 70000])
def test_messages_that_are_too_big(opcode: int, limit: int) -> None:
    fits = server_frame(opcode, b"x" * limit)
    assert error_code(fits, limit=limit) is None
    # By the header alone: the payload is not awaited.
    over = server_frame(opcode, b"x" * (limit + 1))
    header = over[: len(over) - limit - 1]
    if limit + 1 >= 126 or opcode == BINARY:
        assert error_code(header, limit=limit) == 1009
    assert error_code(over, limit=limit) == 1009


def test_a_length_beyond_all_bounds() -> None:
    assert error_code(b"\x82\x7f" + b"\xff" * 8) in (1002, 1009)


def test_fragments_that_are_too_big_together() -> None:
    begun = server_frame(TEXT, b"x" * 60, fin=False)
    more = server_frame(CONTINUATION, b"x" * 40, fin=False)
    assert error_code(begun + more + server_frame(CONTINUATION), limit=100) is None
    # Again by the header alone.
    assert error_code(begun + more + b"\x00\x01", limit=100) == 1009
    # Control frames in between do not count.
    assert error_code(begun + server_frame(PING, b"p" * 100) + more, limit=100) is None


def test_the_sizes_of_messages_do_not_add_up() -> None:
    begun = server_frame(TEXT, b"x" * 60, fin=False) + server_frame(CONTINUATION, b"x" * 40)
    assert error_code(begun * 3 + server_frame(TEXT, b"x" * 100), limit=100) is None


def test_an_error_names_the_limit() -> None:
    _, error = parse(server_frame(TEXT, b"x" * 11), limit=10)
    assert "max_message_size" in str(error)


# The cost.


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


# What a client sends.


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG])
@pytest.mark.parametrize("length", [0, 1, 125])
def test_frames_that_are_sent(opcode: int, length: int) -> None:
    assert unmasked(frame(opcode, b"y" * length)) == [(opcode, b"y" * length)]


@pytest.mark.parametrize("length", [126, 127, 65535, 65536, 65537])
def test_long_frames_that_are_sent(length: int) -> None:
    payload = bytes(index % 251 for index in range(length))
    assert unmasked(frame(TEXT, payload)) == [(TEXT, payload)]


def test_masks_differ() -> None:
    assert len({frame(TEXT, b"\0\0\0\0")[2:6] for _ in range(20)}) > 1


@hypothesis.given(st.sampled_from(sorted(_ALLOWED_CODES)), st.text(st.characters(exclude_categories=["Cs"])))
@hypothesis.example(1000, "x" * 200)
@hypothesis.example(1000, "a" + "€" * 60)
def test_close_frames_that_are_sent(code: int, reason: str) -> None:
    [(opcode, payload)] = unmasked(close_frame(code, reason))
    assert opcode == CLOSE
    assert len(payload) <= 125
    assert struct.unpack_from("!H", payload) == (code,)
    # Cut, if at all, between characters.
    assert reason.startswith(payload[2:].decode())
    assert len(payload) > 115 or payload[2:].decode() == reason


def test_pings_differ() -> None:
    payloads = {ping_payload() for _ in range(50)}
    assert len(payloads) == 50
    assert all(len(payload) <= 125 for payload in payloads)
