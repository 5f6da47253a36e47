"""Builds a server's WebSocket frames and decodes a client's without the package's code; feeds the package's parser."""

from __future__ import annotations

import struct
from typing import List, Optional, Tuple

from runtimeuse_sync._websocket.frames import Close, FrameError, FrameParser, Parsed

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


ALLOWED_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, *range(3000, 5000)}
