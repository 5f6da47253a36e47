"""Reads what has passed on a WebSocket back from its bytes, so that a test knows where messages begin and end.

It shares no code with the package: what the client made of the bytes is held against what this makes of them.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Iterator, List, NamedTuple, Tuple

TEXT = 0x1


class Frame(NamedTuple):
    """A whole frame.

    Attributes:
        end: How many bytes of the stream there are up to its end.
        opcode: What it is.
        payload: What it carries, unmasked.
    """

    end: int
    opcode: int
    payload: bytes


def head_size(stream: bytes) -> int:
    """Returns how long the HTTP head at the beginning is; 0 if it is not complete."""
    return stream.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in stream else 0


def frames(stream: bytes) -> Iterator[Frame]:
    """Yields the frames that are complete."""
    at = head_size(stream)
    while at and len(stream) >= at + 2:
        opcode, second = stream[at] & 0x0F, stream[at + 1]
        size, start = second & 0x7F, at + 2
        if size >= 126:
            start += 2 if size == 126 else 8
            if start > len(stream):
                return
            (size,) = struct.unpack("!H" if start == at + 4 else "!Q", stream[at + 2 : start])
        mask = stream[start : start + 4] if second & 0x80 else b""
        at = start + len(mask) + size
        if at > len(stream):
            return
        payload = stream[at - size : at]
        if mask:
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        yield Frame(at, opcode, payload)


def boundaries(stream: bytes) -> List[int]:
    """Returns where a head or a frame begins or ends, the beginning and the end of the stream among them."""
    return sorted({0, head_size(stream), *(frame.end for frame in frames(stream))})


def messages(stream: bytes) -> List[Tuple[str, Any]]:
    """Returns type and content of the messages that are complete."""
    found = [json.loads(frame.payload) for frame in frames(stream) if frame.opcode == TEXT]
    return [(message["message_type"], message) for message in found]
