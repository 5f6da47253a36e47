"""A client of a custom transport, and a transport that answers, for the unit tests of custom transports."""

from __future__ import annotations

import queue
from typing import Any, Callable, Iterator, Optional

from runtimeuse_sync import RuntimeUseClient

from .doubles import Message

RESULT: Message = {"message_type": "result_message", "data": {"type": "text", "text": "4"}}


def make_client(transport: Any) -> RuntimeUseClient:
    return RuntimeUseClient(transport=transport, model="m")


def answering(*messages: Any) -> Callable[[Any], Iterator[Any]]:
    """Makes a transport that says this once it has got the request."""

    def transport(send_queue: queue.Queue[Optional[Message]]) -> Iterator[Any]:
        send_queue.get()
        yield from messages

    return transport
