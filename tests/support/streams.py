"""A WebSocket stream over a plain socket, whose peer is the test."""

from __future__ import annotations

import socket
from typing import Any, List, Tuple

from runtimeuse_sync._websocket.stream import WebSocketStream

from .frames import unmasked

Connected = Tuple[WebSocketStream, socket.socket]


def sent(theirs: socket.socket) -> List[Tuple[int, bytes]]:
    """Takes all that the stream has sent so far."""
    data = b""
    while True:
        try:
            some = theirs.recv(65536)
        except BlockingIOError:
            break
        if not some:
            break
        data += some
    return unmasked(data)


def is_quiet(stream: WebSocketStream) -> bool:
    """Returns whether nothing waits to be sent."""
    return not stream.wants_write


class Scripted:
    """A socket whose sends and receives go as a script says."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.sent = b""
        self.closed = False

    def send(self, data: Any) -> int:
        step = self.steps.pop(0) if self.steps else len(data)
        if isinstance(step, BaseException):
            raise step
        taken = min(int(step), len(data))
        self.sent += bytes(data[:taken])
        return taken

    def recv(self, size: int) -> bytes:
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        data: bytes = step
        return data

    def close(self) -> None:
        self.closed = True
