"""WebSocket frames (RFC 6455 §5): turns bytes into messages and control frames, and these into bytes.

The parser takes all complete frames of a read in one pass. It keeps an incomplete frame in pieces and joins them once,
so the time for a message is proportional to its size, however the network splits it. The reader of websocket-client is
correct, but slow: its time is quadratic in fragments, it takes a lock for each frame, and it checks UTF-8 in Python.

Invariants of the parser: `_rest` is empty, or the beginning of one frame that is shorter than 128 bytes, or of a
header. While `_missing` > 0, a payload is being collected, and `_rest` is empty: the payload of an unfragmented text
message in `_texts`, as text, which saves a copy of a large one; any other in `_pieces`. `_fragments` is `None` unless a
fragmented message has begun (§5.4). `_decoder` belongs to the text being collected: to a frame or to fragments, never
to both.

Threads: none; the module is pure, and has no socket.
"""

import codecs
import os
import struct
from typing import List, NamedTuple, Optional, Tuple, Union

from websocket import ABNF

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

NORMAL_CLOSURE, PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1000, 1002, 1007, 1009

#: The close codes that a close frame may have (RFC 6455 §7.4, and its registry), besides 3000–4999.
_CLOSE_CODES = frozenset([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014])

#: From this length on, in bytes, a frame has a length of 64 bits (§5.2), and `frame` masks it in pieces of this length.
#: The mask has 4 bytes, so each piece begins with its first one.
_LONG = 1 << 16


class FrameError(Exception):
    """The peer broke RFC 6455, or sent a message that is too long: the connection must be failed (§7.1.7).

    Attributes:
        code: The close code to fail it with.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Ping(NamedTuple):
    """A ping; its answer is a pong with the same payload (§5.5.3)."""

    payload: bytes


class Pong(NamedTuple):
    """A pong, with or without a ping before it."""

    payload: bytes


class Close(NamedTuple):
    """The peer's close frame; `code` is 1005 if it has none (§7.1.5)."""

    code: int
    reason: str


class Binary(NamedTuple):
    """A binary message."""

    payload: bytes


Parsed = Union[str, Binary, Ping, Pong, Close]


class FrameParser:
    """Parses the bytes that a client receives into messages and control frames; a text message is a `str`.

    Args:
        max_message_size: The longest message to accept, in bytes.
    """

    def __init__(self, max_message_size: int) -> None:
        self._max = max_message_size
        self._rest = b""
        self._pieces: List[bytes] = []
        self._texts: Optional[List[str]] = None
        self._missing = 0
        self._head = (0, False)
        self._fragments: Optional[bytearray] = None
        self._fragments_opcode = TEXT
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> Tuple[List[Parsed], Optional[FrameError]]:
        """Takes received bytes; returns the items that are complete now, in order, and the error after them, if any.

        After an error or a close frame it must not be called again.
        """
        parsed: List[Parsed] = []
        try:
            self._feed(data, parsed)
        except FrameError as error:
            return parsed, error
        except UnicodeDecodeError:
            return parsed, FrameError(INVALID_DATA, "a text message is not UTF-8")
        return parsed, None

    def _feed(self, data: bytes, parsed: List[Parsed]) -> None:
        at = 0
        if self._missing:
            at = min(self._missing, len(data))
            self._collect(data[:at])
            self._missing -= at
            if self._missing:
                return
            self._finish_collected(parsed)
            if self._head[0] == CLOSE:
                return
        elif self._rest:
            data = self._rest + data
            self._rest = b""
        end = len(data)
        while end - at >= 2:
            first, length = data[at], data[at + 1]
            start = at + 2
            if first == 0x81 and length < 127 and self._fragments is None:
                # A short, unfragmented text message: most frames of a stream.
                if length == 126 and at + 4 <= end:
                    length = data[at + 2] << 8 | data[at + 3]
                    start = at + 4
                after = start + length
                if after <= end and length <= self._max:
                    parsed.append(data[start:after].decode())
                    at = after
                    continue
                length, start = data[at + 1], at + 2
            if length & 0x7F == 126:
                start = at + 4
                if start > end:
                    break
                (length,) = struct.unpack_from("!H", data, at + 2)
            elif length & 0x7F == 127:
                start = at + 10
                if start > end:
                    break
                (length,) = struct.unpack_from("!Q", data, at + 2)
            self._check_head(first, data[at + 1], length)
            opcode, fin = first & 0x0F, first >= 0x80
            after = start + length
            if after > end:
                self._head = (opcode, fin)
                self._missing = after - end
                if opcode == TEXT and fin:
                    self._texts = []
                    self._decoder.reset()
                self._collect(data[start:])
                return
            self._finish(opcode, fin, data[start:after], parsed)
            at = after
            if opcode == CLOSE:
                return
        self._rest = data[at:]

    def _collect(self, part: bytes) -> None:
        if self._texts is None:
            self._pieces.append(part)
        else:
            self._texts.append(self._decoder.decode(part))

    def _finish_collected(self, parsed: List[Parsed]) -> None:
        if self._texts is None:
            payload = b"".join(self._pieces)
            self._pieces = []
            self._finish(*self._head, payload, parsed)
        else:
            texts, self._texts = self._texts, None
            # An incomplete character at the end is an error.
            texts.append(self._decoder.decode(b"", True))
            parsed.append("".join(texts))

    def _check_head(self, first: int, second: int, length: int) -> None:
        """Rejects a frame by its header alone, before its payload arrives (§5.2, §5.4, §5.5)."""
        opcode, fin = first & 0x0F, first >= 0x80
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "reserved bits are set, but no extension was negotiated")
        if second & 0x80:
            raise FrameError(PROTOCOL_ERROR, "a frame from the server is masked")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise FrameError(PROTOCOL_ERROR, f"unknown control frame, opcode {opcode}")
            if not fin or length > 125:
                raise FrameError(PROTOCOL_ERROR, "a control frame is fragmented or longer than 125 bytes")
            if opcode == CLOSE and length == 1:
                raise FrameError(PROTOCOL_ERROR, "a close frame has half a close code")
            return
        if opcode > BINARY:
            raise FrameError(PROTOCOL_ERROR, f"unknown data frame, opcode {opcode}")
        if (opcode == CONTINUATION) != (self._fragments is not None):
            raise FrameError(PROTOCOL_ERROR, "fragments of messages are out of order")
        total = length + (len(self._fragments or b"") if opcode == CONTINUATION else 0)
        if total > self._max:
            raise FrameError(TOO_BIG, self._too_big(total))

    def _too_big(self, size: int) -> str:
        return f"a message of at least {size} bytes is longer than max_message_size ({self._max} bytes)"

    def _finish(self, opcode: int, fin: bool, payload: bytes, parsed: List[Parsed]) -> None:
        if opcode >= CLOSE:
            parsed.append(_control(opcode, payload))
            return
        if opcode == CONTINUATION:
            assert self._fragments is not None
            self._add_fragment(fin, payload, parsed)
        elif fin:
            parsed.append(payload.decode() if opcode == TEXT else Binary(payload))
        else:
            self._fragments, self._fragments_opcode = bytearray(), opcode
            self._decoder.reset()
            self._add_fragment(fin, payload, parsed)

    def _add_fragment(self, fin: bool, payload: bytes, parsed: List[Parsed]) -> None:
        assert self._fragments is not None
        self._fragments += payload
        text = self._fragments_opcode == TEXT
        if text:
            # Invalid UTF-8 fails the connection as soon as it arrives, not when the message is complete (§8.1).
            self._decoder.decode(payload, fin)
        if fin:
            whole = bytes(self._fragments)
            self._fragments = None
            parsed.append(whole.decode() if text else Binary(whole))


def _control(opcode: int, payload: bytes) -> Parsed:
    if opcode == PING:
        return Ping(payload)
    if opcode == PONG:
        return Pong(payload)
    if not payload:
        return Close(1005, "")
    (code,) = struct.unpack_from("!H", payload)
    if code not in _CLOSE_CODES and not 3000 <= code <= 4999:
        raise FrameError(PROTOCOL_ERROR, f"a close frame has the invalid close code {code}")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise FrameError(INVALID_DATA, "the reason of a close frame is not UTF-8") from None


def frame(opcode: int, payload: bytes) -> bytes:
    """Returns a masked frame, as a client must send it (§5.3)."""
    if len(payload) < _LONG:
        return bytes(ABNF.create_frame(payload, opcode).format())
    key = os.urandom(4)
    pieces = [struct.pack("!BBQ", 0x80 | opcode, 0xFF, len(payload)), key]
    # In pieces that fit in the processor's cache, megabytes are masked several times as fast.
    pieces += (ABNF.mask(key, payload[at : at + _LONG]) for at in range(0, len(payload), _LONG))
    return b"".join(pieces)


def close_frame(code: int, reason: str = "") -> bytes:
    """Returns a close frame; the reason is cut to fit into a control frame."""
    return frame(
        CLOSE, struct.pack("!H", code) + reason.encode("utf-8")[:120].decode("utf-8", "ignore").encode("utf-8")
    )


def ping_payload() -> bytes:
    """Returns a payload that no earlier ping of this connection had."""
    return os.urandom(4)
