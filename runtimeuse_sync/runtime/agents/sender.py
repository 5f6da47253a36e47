"""Owns the senders, with which agents send messages while they run: a `Sender` for plain agents, else an `AsyncSender`.

Threads: the agent's threads use a `Sender`, its tasks an `AsyncSender` on the agents' event loop. Messages are masked
and encoded there, and `relay.py` passes them to the runtime's event loop. Built-in agents run on that loop and send
without a relay.
"""

from typing import Any, Dict, Mapping, Optional, Sequence, Union

from ..masking import Redactor
from ..outbox import Outbox, encode
from .relay import Relay


class AsyncSender:
    """Sends messages to the client while an `async` agent runs, which gets it as its second argument.

    Each call returns when the client has received most of the earlier messages.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._closed = False

    def close(self) -> None:
        """Refuses further messages, which the client would attribute to the next request."""
        self._closed = True

    async def send_assistant_message(self, text_blocks: Union[str, Sequence[str]]) -> None:
        """Sends an assistant message of one or more blocks of text.

        Args:
            text_blocks: The blocks, or a single one.

        Raises:
            ConnectionError: The client is gone.
            RuntimeError: The run has ended.
            TypeError: A block is not a string.
        """
        await self._send(_assistant_message(text_blocks))

    async def send_error_message(self, error: str, metadata: Optional[Mapping[str, Any]] = None) -> None:
        """Sends an error message. The run goes on; its result or exception ends the request.

        Args:
            error: The error's text.
            metadata: More about the error, as JSON values. Default: nothing.

        Raises:
            ConnectionError: The client is gone.
            RuntimeError: The run has ended.
        """
        await self._send(_error_message(error, metadata))

    async def _send(self, message: Dict[str, Any]) -> None:
        if self._closed:
            raise RuntimeError("the run has ended: its sender sends nothing any more")
        await self._outbox.send(message)


class RelayedAsyncSender(AsyncSender):
    """The sender of an agent that runs on an event loop other than the runtime's."""

    def __init__(self, relay: Relay, redactor: Redactor) -> None:
        self._relay = relay
        self._redactor = redactor

    async def _send(self, message: Dict[str, Any]) -> None:
        await self._relay.send_from_task(encode(self._redactor.message(message)))


class Sender:
    """Sends messages to the client while a plain agent runs, which gets it as its second argument.

    It may be used in any thread but the runtime's own. A call returns at once unless the client is slow: then it blocks
    until the client has received most of the earlier messages. All messages are sent before the agent's result.
    """

    def __init__(self, relay: Relay, redactor: Redactor) -> None:
        self._relay = relay
        # The redactor of this run's request. The outbox's redactor changes with the next request.
        self._redactor = redactor

    def send_assistant_message(self, text_blocks: Union[str, Sequence[str]]) -> None:
        """Sends an assistant message of one or more blocks of text.

        Args:
            text_blocks: The blocks, or a single one.

        Raises:
            ConnectionError: The client is gone, or the runtime has stopped.
            RuntimeError: The run has ended.
            TypeError: A block is not a string.
        """
        self._send(_assistant_message(text_blocks))

    def send_error_message(self, error: str, metadata: Optional[Mapping[str, Any]] = None) -> None:
        """Sends an error message. The run goes on; its result or exception ends the request.

        Args:
            error: The error's text.
            metadata: More about the error, as JSON values. Default: nothing.

        Raises:
            ConnectionError: The client is gone, or the runtime has stopped.
            RuntimeError: The run has ended.
        """
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
