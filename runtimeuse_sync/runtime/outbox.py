"""Everything that goes out on one connection: masked, encoded, and pushed back on by a client that reads slowly.

Used by all tasks of one session, on the event loop; the encoding functions by any thread. Messages are handed to the
socket in batches: what is written in one round of the loop leaves with one system call. They leave in the order in
which they were written, and cancelling a sender never cuts one in two.
"""

import asyncio
import struct
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

from .._wire.json_text import encode_json
from .masking import Redactor

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

#: How much a sender that never pauses may write before it gives way to the others, in bytes and in messages.
_BATCH_BYTES = 256 * 1024
_BATCH_MESSAGES = 128
#: The longest reason that a close frame may have, in bytes (RFC 6455 §5.5, §5.5.1).
_MAX_REASON = 123


class ClientGoneError(ConnectionError):
    """The client is gone: nothing can be sent to it any more."""

    def __init__(self) -> None:
        super().__init__("the client is gone")


class Outbox:
    """Sends messages to one client.

    Attributes:
        redactor: Masks the secrets of the current request, or of the last one where none is in flight.
    """

    def __init__(self, connection: "ServerConnection") -> None:
        from websockets.protocol import State

        self._connection = connection
        self._open = State.OPEN
        # Each message in the pieces that it came in.
        self._written: List[Sequence[bytes]] = []
        self._written_bytes = 0
        self.redactor = Redactor()

    @property
    def client_is_gone(self) -> bool:
        """Whether nothing can be sent any more; may be asked by any thread."""
        return self._connection.protocol.state is not self._open

    @property
    def pushed_back(self) -> bool:
        """Whether the client has not yet taken most of what was sent."""
        return self._connection.paused

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client to take what came before."""
        return self._written_bytes + self._connection.transport.get_write_buffer_size()

    async def send(self, message: Dict[str, Any]) -> None:
        """Masks and sends a message; returns when the client has taken most of what was sent before.

        Raises:
            ClientGoneError: the client is gone.
            TypeError: the message holds what JSON cannot; likewise `ValueError`.
        """
        self.post(message)
        await self.drained()

    async def send_text(self, *pieces: bytes) -> None:
        """Sends what `encode` returned, or a text in pieces; waits and raises as `send` does."""
        self.write(*pieces)
        await self.drained()

    def post(self, message: Dict[str, Any]) -> None:
        """Masks and sends a message without waiting for the client to take anything; raises as `send` does."""
        self.write(encode(self.redactor.message(message)))

    def write(self, *pieces: bytes) -> None:
        """Sends what `encode` returned, or a text in pieces, without waiting for the client to take anything.

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
        """Hands what was written to the socket."""
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
            # Not joined to one more copy, as it may be very large.
            transport.write(b"".join(batch))
            batch = []
            for piece in pieces:
                if transport.is_closing():
                    return  # asyncio would warn at each piece
                transport.write(piece)
        transport.write(b"".join(batch))

    async def drained(self) -> None:
        """Returns when the client has taken most of what was written, or is gone."""
        if self._written_bytes >= _BATCH_BYTES or len(self._written) >= _BATCH_MESSAGES:
            self.flush()
            # A fast client never makes its sender wait: it shall not keep the loop from all others for that.
            await asyncio.sleep(0)
        if self._connection.paused:
            try:
                await self._connection.drain()
            except OSError:
                return  # it has gone: the next to write is told

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends what is left and closes the connection; of the reason, as much as a close frame holds."""
        self.flush()
        await self._connection.close(code, _shortened(reason, _MAX_REASON))


def _shortened(text: str, size: int) -> str:
    """Returns the text, or the beginning of it, in no more bytes of UTF-8 than `size`."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= size:
        return encoded.decode()
    ellipsis = "…"
    return encoded[: size - len(ellipsis.encode())].decode(errors="ignore") + ellipsis


def _frame_head(size: int) -> bytes:
    """Returns what stands before a text of so many bytes in its frame (RFC 6455, 5.2).

    The frame is whole, and has no mask, as it is a server's.
    `websockets` would copy each text into its frame, which is most of the work that sending a large one is.
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
