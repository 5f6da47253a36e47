"""What agents send messages with while they run: `Sender` for plain ones, `AsyncSender` for `async` ones.

A `Sender` is used by the agent's threads, an `AsyncSender` by its tasks, on the agents' event loop. Messages are masked
and encoded there; their `relay.py` has a task on the runtime's event loop, on which built-in agents run, too.
"""

from typing import Any, Dict, Mapping, Optional, Sequence, Union

from ..masking import Redactor
from ..outbox import Outbox, encode
from .relay import Relay


class AsyncSender:
    """Sends messages to the client while an `async` agent runs.

    Each call returns when the client has taken most of what was sent before.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._closed = False

    def close(self) -> None:
        """Ends the sending: what came later would be taken for another request's."""
        self._closed = True

    async def send_assistant_message(self, text_blocks: Union[str, Sequence[str]]) -> None:
        """Sends an assistant message of one or more blocks of text.

        Raises:
            ConnectionError: the client is gone.
            RuntimeError: the run has ended.
        """
        await self._send(_assistant_message(text_blocks))

    async def send_error_message(self, error: str, metadata: Optional[Mapping[str, Any]] = None) -> None:
        """Sends an error; the run goes on, and its result or exception is what ends the request.

        Raises:
            ConnectionError: the client is gone.
            RuntimeError: the run has ended.
        """
        await self._send(_error_message(error, metadata))

    async def _send(self, message: Dict[str, Any]) -> None:
        if self._closed:
            raise RuntimeError("the run has ended: its sender sends nothing any more")
        await self._outbox.send(message)


class RelayedAsyncSender(AsyncSender):
    """That of an agent which does not run on the runtime's event loop, but on any other."""

    def __init__(self, relay: Relay, redactor: Redactor) -> None:
        self._relay = relay
        self._redactor = redactor

    async def _send(self, message: Dict[str, Any]) -> None:
        await self._relay.send_from_task(encode(self._redactor.message(message)))


class Sender:
    """Sends messages to the client while a plain agent runs; usable from any thread but the runtime's own.

    A call returns at once, unless the client is slow: then it blocks until the client has taken most of what was sent
    before. Everything sent is on its way before the agent's result.
    """

    def __init__(self, relay: Relay, redactor: Redactor) -> None:
        self._relay = relay
        # That of this run's request: the outbox's own changes with the next one.
        self._redactor = redactor

    def send_assistant_message(self, text_blocks: Union[str, Sequence[str]]) -> None:
        """Sends an assistant message of one or more blocks of text; raises as `AsyncSender` does."""
        self._send(_assistant_message(text_blocks))

    def send_error_message(self, error: str, metadata: Optional[Mapping[str, Any]] = None) -> None:
        """Sends an error; the run goes on. Raises as `AsyncSender` does."""
        self._send(_error_message(error, metadata))

    def _send(self, message: Dict[str, Any]) -> None:
        self._relay.send(encode(self._redactor.message(message)))


def _assistant_message(text_blocks: Union[str, Sequence[str]]) -> Dict[str, Any]:
    blocks = [text_blocks] if isinstance(text_blocks, str) else list(text_blocks)
    if not all(isinstance(block, str) for block in blocks):
        raise TypeError("text_blocks must be a list of strings")
    return {"message_type": "assistant_message", "text_blocks": blocks}


def _error_message(error: str, metadata: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    return {"message_type": "error_message", "error": str(error), "metadata": dict(metadata or {})}
