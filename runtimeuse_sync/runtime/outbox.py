"""Owns the outgoing messages of one connection: masks, encodes and sends them; makes senders wait for a slow client.

Messages are passed to the socket in batches: those written in one iteration of the loop leave with one system call.
They leave in the order in which they were written. Cancelling a sender never cuts a message.

Threads: used on the event loop, by all tasks of one connection. Any thread may use `encode` and `client_is_gone`.
"""

import asyncio
import struct
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

from .._wire.json_text import encode_json
from .masking import Redactor

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

#: How much a sender may write before it yields to the other tasks, in bytes and in messages.
_BATCH_BYTES = 256 * 1024
_BATCH_MESSAGES = 128
#: The longest reason in a close frame, in bytes (RFC 6455 §5.5, §5.5.1).
_MAX_REASON = 123


class ClientGoneError(ConnectionError):
    """The client is gone: nothing more can be sent to it."""

    def __init__(self) -> None:
        super().__init__("the client is gone")


class Outbox:
    """Sends messages to one client.

    Attributes:
        redactor: Masks the secrets of the request in flight, or of the last request if none is in flight.
    """

    def __init__(self, connection: "ServerConnection") -> None:
        from websockets.protocol import State

        self._connection = connection
        self._open = State.OPEN
        # Each message as the pieces it was written in.
        self._written: List[Sequence[bytes]] = []
        self._written_bytes = 0
        self.redactor: Redactor = Redactor()

    @property
    def client_is_gone(self) -> bool:
        """Whether nothing more can be sent; may be called by any thread."""
        return self._connection.protocol.state is not self._open

    @property
    def pushed_back(self) -> bool:
        """Whether the client is slow: it has not yet received most of the messages."""
        return self._connection.paused

    @property
    def unsent(self) -> int:
        """The number of bytes that have not been passed to the system yet."""
        return self._written_bytes + self._connection.transport.get_write_buffer_size()

    async def send(self, message: Dict[str, Any]) -> None:
        """Masks and sends a message; returns when the client has received most of the earlier messages.

        Raises:
            ClientGoneError: the client is gone.
            TypeError: JSON cannot hold a value of the message.
            ValueError: the message contains itself, NaN or an infinity.
        """
        self.post(message)
        await self.drained()

    async def send_text(self, *pieces: bytes) -> None:
        """Sends an encoded message, in one or more pieces; returns when the client has received most of the rest.

        Raises:
            ClientGoneError: the client is gone.
        """
        self.write(*pieces)
        await self.drained()

    def post(self, message: Dict[str, Any]) -> None:
        """Masks and sends a message without waiting for the client.

        Raises:
            ClientGoneError: the client is gone.
            TypeError: JSON cannot hold a value of the message.
            ValueError: the message contains itself, NaN or an infinity.
        """
        self.write(encode(self.redactor.message(message)))

    def write(self, *pieces: bytes) -> None:
        """Sends an encoded message, in one or more pieces, without waiting for the client.

        Raises:
            ClientGoneError: the client is gone.
        """
        if self.client_is_gone:
            raise ClientGoneError
        if not self._written:
            asyncio.get_running_loop().call_soon(self.flush)
        self._written.append(pieces)
        self._written_bytes += sum(map(len, pieces))

    def flush(self) -> None:
        """Passes the written messages to the socket."""
        written, self._written, self._written_bytes = self._written, [], 0
        if not written or self.client_is_gone:
            return
        transport = self._connection.transport
        batch: List[bytes] = []
        for pieces in written:
            size = sum(map(len, pieces))
            batch.append(_frame_head(size))
            if size <= _BATCH_BYTES:
                batch += pieces
                continue
            # Not joined, as that would copy a message that may be very large.
            transport.write(b"".join(batch))
            batch = []
            for piece in pieces:
                if transport.is_closing():
                    return  # asyncio would log a warning for each piece
                transport.write(piece)
        transport.write(b"".join(batch))

    async def drained(self) -> None:
        """Returns when the client has received most of the messages, or is gone."""
        if self._written_bytes >= _BATCH_BYTES or len(self._written) >= _BATCH_MESSAGES:
            self.flush()
            # A fast client never makes its sender wait, so the sender must yield to the other tasks itself.
            await asyncio.sleep(0)
        if self._connection.paused:
            try:
                await self._connection.drain()
            except OSError:
                return  # the client is gone: the next write reports it

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends the written messages and closes the connection; cuts a reason that is too long for a close frame."""
        self.flush()
        await self._connection.close(code, _shortened(reason, _MAX_REASON))


def _shortened(text: str, size: int) -> str:
    """Returns the text, cut to at most `size` bytes of UTF-8."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= size:
        return encoded.decode()
    ellipsis = "…"
    return encoded[: size - len(ellipsis.encode())].decode(errors="ignore") + ellipsis


def _frame_head(size: int) -> bytes:
    """Returns the head of a frame with a text of `size` bytes (RFC 6455 §5.2).

    The frame is not fragmented and, as it is a server's, not masked. `websockets` would copy each text into its frame,
    which is most of the cost of sending a large one.
    """
    if size < 126:
        return bytes((0x81, size))
    return struct.pack("!BBH", 0x81, 126, size) if size < 65536 else struct.pack("!BBQ", 0x81, 127, size)


def encode(message: Dict[str, Any]) -> bytes:
    """Returns a message as JSON in UTF-8.

    Raises:
        TypeError: JSON cannot hold a value of the message.
        ValueError: the message contains itself, NaN or an infinity.
    """
    return encode_json(message, allow_nan=False)
