"""The frame parser: frames that break RFC 6455, and ones that are too big."""

from __future__ import annotations

import struct
import sys
from typing import Optional

import pytest

from runtimeuse_sync._websocket.frames import Binary, Close, FrameParser, Ping, frame

from ...support.frames import (
    ALLOWED_CODES,
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX,
    PING,
    PONG,
    TEXT,
    one_by_one,
    parse,
    server_frame,
)


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


def test_close_codes() -> None:
    for code in [*range(5002), 9999, 65535]:
        parsed, error = parse(server_frame(CLOSE, struct.pack("!H", code)))
        if code in ALLOWED_CODES:
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


def test_empty_fragments_do_not_fill_the_memory() -> None:
    parser = FrameParser(100)
    parser.feed(b"\x01\x01a")
    before = sys.getsizeof(parser._fragments)
    for _ in range(1000):
        assert parser.feed(b"\x00\x00" * 100) == ([], None)
    assert sys.getsizeof(parser._fragments) == before
    assert parser.feed(b"\x80\x01b") == (["ab"], None)
