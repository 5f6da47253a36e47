"""Breaches of RFC 6455 by a server, made up at random: what it sends, and the close code that it must be told."""

from __future__ import annotations

import json
import random
import struct
from typing import Callable, Dict, List, NamedTuple

from ..support.servers import BINARY, CLOSE, PING, PONG, TEXT, frame

CONTINUATION = 0x0
PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1002, 1007, 1009

#: What no part of a UTF-8 text can hold: stray and missing continuation bytes, overlong forms, surrogates, too large.
NOT_UTF8 = [b"\xff", b"\x80", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xe2\x28\xa1", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]

#: Beginnings of a character, wrong only if the text ends with them.
CUT_OFF = [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"]

_LEGAL_CLOSE_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


class Breach(NamedTuple):
    """What a server does wrong.

    Attributes:
        data: What it sends.
        code: The close code that it must be told.
    """

    data: bytes
    code: int


def _payload(source: random.Random, longest: int = 70_000) -> bytes:
    size = min(longest, source.choice([0, 1, 5, 125, 126, 200, 65535, 65536]))
    return bytes(source.choices(range(32, 127), k=size))


def masked(source: random.Random) -> Breach:
    # A mask of zeroes: the payload would make sense.
    plain = bytearray(frame(source.choice([TEXT, BINARY, PING, PONG]), _payload(source, 125)))
    plain[1] |= 0x80
    return Breach(bytes(plain[:2]) + bytes(4) + bytes(plain[2:]), PROTOCOL_ERROR)


def reserved_bits(source: random.Random) -> Breach:
    opcode = source.choice([TEXT, BINARY, CLOSE, PING, PONG])
    data = bytearray(frame(opcode, b"" if opcode == CLOSE else _payload(source, 125 if opcode > BINARY else 70_000)))
    data[0] |= source.randrange(1, 8) << 4
    return Breach(bytes(data), PROTOCOL_ERROR)


def unknown_opcode(source: random.Random) -> Breach:
    opcode = source.choice([*range(3, 8), *range(11, 16)])
    return Breach(frame(opcode, _payload(source, 125), fin=source.random() < 0.8), PROTOCOL_ERROR)


def fragmented_control_frame(source: random.Random) -> Breach:
    opcode = source.choice([CLOSE, PING, PONG])
    payload = struct.pack("!H", 1000) if opcode == CLOSE else _payload(source, 125)
    return Breach(frame(opcode, payload, fin=False) + frame(CONTINUATION, b"rest"), PROTOCOL_ERROR)


def long_control_frame(source: random.Random) -> Breach:
    payload = struct.pack("!H", 1000) + b"x" * source.choice([124, 200, 65536])
    return Breach(frame(source.choice([CLOSE, PING, PONG]), payload), PROTOCOL_ERROR)


def stray_continuation(source: random.Random) -> Breach:
    return Breach(frame(CONTINUATION, _payload(source), fin=source.random() < 0.5), PROTOCOL_ERROR)


def message_in_a_message(source: random.Random) -> Breach:
    first = frame(source.choice([TEXT, BINARY]), b"{", fin=False)
    pings = b"".join(frame(PING, b"in between") for _ in range(source.randrange(3)))
    return Breach(first + pings + frame(source.choice([TEXT, BINARY]), b"}"), PROTOCOL_ERROR)


def bad_close_code(source: random.Random) -> Breach:
    code = source.choice([0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535, source.randrange(65536)])
    if code in _LEGAL_CLOSE_CODES:
        code = 1005
    return Breach(frame(CLOSE, struct.pack("!H", code) + _payload(source, 5)), PROTOCOL_ERROR)


def half_a_close_code(source: random.Random) -> Breach:
    return Breach(frame(CLOSE, bytes([source.randrange(256)])), PROTOCOL_ERROR)


def bad_close_reason(source: random.Random) -> Breach:
    reason = _payload(source, 5) + source.choice(NOT_UTF8 + CUT_OFF)
    return Breach(frame(CLOSE, struct.pack("!H", 1000) + reason), INVALID_DATA)


def not_utf8(source: random.Random) -> Breach:
    return Breach(frame(TEXT, _said(source, source.choice(NOT_UTF8 + CUT_OFF))), INVALID_DATA)


def not_utf8_in_a_fragment(source: random.Random) -> Breach:
    """The message never ends: what is wrong must be noticed when it shows."""
    return Breach(in_fragments(source, TEXT, _said(source, source.choice(NOT_UTF8)), end=False), INVALID_DATA)


def character_without_its_end(source: random.Random) -> Breach:
    return Breach(in_fragments(source, TEXT, _payload(source) + source.choice(CUT_OFF)), INVALID_DATA)


def endless_length(source: random.Random) -> Breach:
    length = source.choice([1 << 62, 1 << 63, (1 << 64) - 1])
    return Breach(frame(source.choice([TEXT, BINARY]), b"{", length=length), TOO_BIG)


def _said(source: random.Random, bad: bytes) -> bytes:
    said = json.dumps({"message_type": "assistant_message", "text_blocks": ["before BAD after"]}).encode()
    return said.replace(b"BAD", _payload(source).replace(b'"', b"").replace(b"\\", b"") + bad)


def in_fragments(
    source: random.Random, opcode: int, payload: bytes, *, end: bool = True, between: Callable[[], bytes] = bytes
) -> bytes:
    """Returns a message in up to nine fragments, cut anywhere (in the middle of characters, too; some are empty)."""
    cuts = sorted(source.randrange(len(payload) + 1) for _ in range(source.randrange(1, 9)))
    pieces = [payload[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(payload)])]
    frames: List[bytes] = []
    for number, piece in enumerate(pieces):
        last = end and number == len(pieces) - 1
        frames += [between() if number else b"", frame(CONTINUATION if number else opcode, piece, fin=last)]
    return b"".join(frames)


BREACHES: Dict[str, Callable[[random.Random], Breach]] = {
    each.__name__.replace("_", " "): each
    for each in (
        masked,
        reserved_bits,
        unknown_opcode,
        fragmented_control_frame,
        long_control_frame,
        stray_continuation,
        message_in_a_message,
        bad_close_code,
        half_a_close_code,
        bad_close_reason,
        not_utf8,
        not_utf8_in_a_fragment,
        character_without_its_end,
        endless_length,
    )
}
