"""Everything that goes out on one connection: masked, encoded, and pushed back on by a client that reads slowly.

Used by all tasks of one session, on the event loop. `websockets` writes a message whole before it waits for the client
to take it, so messages leave in the order in which they were sent, and cancelling a sender never cuts one in two.
"""

import json
from typing import TYPE_CHECKING, Any, Dict

from .redaction import Redactor

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


class ClientGoneError(ConnectionError):
    """The client is gone: nothing can be sent to it any more."""


class Outbox:
    """Sends messages to one client.

    Attributes:
        redactor: Masks the secrets of the current request, or of the last one where none is in flight.
    """

    def __init__(self, connection: "ServerConnection") -> None:
        self._connection = connection
        self.redactor = Redactor()

    async def send(self, message: Dict[str, Any]) -> None:
        """Masks and sends a message; returns when the client has taken most of what was sent before.

        Raises:
            ClientGoneError: the client is gone.
            TypeError: the message holds what JSON cannot; likewise `ValueError`.
        """
        await self.send_redacted(self.redactor.message(message))

    async def send_redacted(self, message: Dict[str, Any]) -> None:
        """Sends a message whose secrets are masked already; raises as `send` does."""
        await self.send_text(encode(message))

    async def send_text(self, text: str) -> None:
        """Sends what `encode` returned.

        Raises:
            ClientGoneError: the client is gone.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            await self._connection.send(text)
        except ConnectionClosed as error:
            raise ClientGoneError("the client is gone") from error


def encode(message: Dict[str, Any]) -> str:
    """Returns the message as JSON text that can be sent as UTF-8.

    Raises:
        TypeError: the message holds what JSON cannot.
        ValueError: it holds NaN or infinity, or itself.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # Half a surrogate pair, which Python's strings may hold and UTF-8 may not.
            return json.dumps(message, allow_nan=False, separators=(",", ":"))
    return text
