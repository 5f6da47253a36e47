"""How messages are handed to the socket: small ones together, large ones without another copy."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, List

from websockets.protocol import State

from runtimeuse_sync.runtime.outbox import Outbox

LARGE = b"x" * 300_000


class Transport:
    """Notes what is written; is closed by the peer when so many writes have been made."""

    def __init__(self, closed_after: float = float("inf")) -> None:
        self.written: List[bytes] = []
        self._closed_after = closed_after

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return len(self.written) >= self._closed_after


class Connection:
    """As much of a `ServerConnection` as an outbox uses."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.protocol = self
        self.state = State.OPEN


def written(transport: Transport, *messages: Any) -> List[bytes]:
    """Returns what reaches the socket of messages in pieces, all written in one round of the loop."""

    async def write() -> None:
        connection: Any = Connection(transport)
        outbox = Outbox(connection)
        for pieces in messages:
            outbox.write(*pieces)
        await asyncio.sleep(0)

    asyncio.run(write())
    return transport.written


def test_small_messages_leave_together() -> None:
    assert written(Transport(), [b"one"], [b"t", b"wo"]) == [b"\x81\x03one\x81\x03two"]


def test_a_large_message_is_not_joined() -> None:
    writes = written(Transport(), [b"one"], [b"[", LARGE, b"]"], [b"two"])
    assert writes[2] is LARGE
    head = struct.pack("!BBQ", 0x81, 127, len(LARGE) + 2)
    assert b"".join(writes) == b"\x81\x03one" + head + b"[" + LARGE + b"]" + b"\x81\x03two"


def test_nothing_is_written_to_a_client_that_has_gone() -> None:
    assert len(written(Transport(closed_after=2), [b"[", LARGE, LARGE, LARGE, b"]"])) == 2
