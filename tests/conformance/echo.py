"""A client that echoes: the package's own connection, with its thread and its queues, for messages of any content.

The client's messages are JSON texts, and it makes no difference between text and binary frames. What a conformance
suite sends is neither, so the frames' kind travels as the first character of a message, both ways.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Optional, Tuple

from runtimeuse_sync._call import Deadline, Wakeup
from runtimeuse_sync._connection.settings import WebSocketSettings
from runtimeuse_sync._connection.websocket import WebSocketConnection
from runtimeuse_sync._websocket import frames
from runtimeuse_sync._websocket.opening import Target
from runtimeuse_sync._websocket.stream import WebSocketStream

#: The longest message of the suites is 16 MiB.
MAX_MESSAGE_SIZE = 64 << 20


class _Parser(frames.FrameParser):
    """Marks each message by its kind; the bytes of a binary one stand as the characters of the same numbers."""

    def feed(self, data: bytes) -> Tuple[List[frames.Parsed], Optional[frames.FrameError]]:
        parsed, error = super().feed(data)
        return [_marked(item) for item in parsed], error


def _marked(item: frames.Parsed) -> frames.Parsed:
    if isinstance(item, frames.Binary):
        return "b" + item.payload.decode("latin-1")
    return "t" + item if isinstance(item, str) else item


class _Stream(WebSocketStream):
    def __init__(self, sock: Any, received: bytes) -> None:
        super().__init__(sock, received, MAX_MESSAGE_SIZE)
        self._parser = _Parser(MAX_MESSAGE_SIZE)

    def queue_text(self, payload: bytes) -> None:
        if payload[:1] == b"t":
            super().queue_text(payload[1:])
        else:
            self._queue(frames.frame(frames.BINARY, payload[1:].decode().encode("latin-1")))


class _Connection(WebSocketConnection):
    def _make_stream(self, sock: Any, received: bytes) -> WebSocketStream:
        return _Stream(sock, received)


def messages(url: str, *, echo: bool, seconds: float) -> Iterator[str]:
    """Connects, and yields each message, behind the letter of its kind, until the other side closes.

    Args:
        url: Where to connect.
        echo: Whether each message is sent back.
        seconds: How long to try to connect, and how long the other side may be silent.
    """
    target = Target(url, {}, None, "")
    settings = WebSocketSettings(
        target,
        connect_timeout=seconds,
        handshake_timeout=None,
        max_message_size=MAX_MESSAGE_SIZE,
        max_buffered=1 << 20,
        ping_interval=None,
        ping_timeout=seconds,
    )
    connection = _Connection(settings, Deadline(seconds))
    wakeup, silence = Wakeup(), Deadline(seconds)
    connection.start(wakeup)
    inbox = connection.inbox
    try:
        while not inbox.exhausted:
            batch = inbox.first()
            if batch is None:
                assert not silence.passed(), f"nothing for {seconds:g} s"
                wakeup.wait(silence.remaining())
                continue
            silence = Deadline(seconds)
            for item in batch.items:
                assert isinstance(item, str)
                if echo:
                    connection.submit(item.encode())
                yield item
            connection.used_up(batch)
        assert connection.is_open, str(inbox.closed)
    finally:
        connection.close()
        connection.join()
