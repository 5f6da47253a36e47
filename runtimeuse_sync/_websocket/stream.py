"""One open WebSocket: non-blocking reads and writes of messages, and the answers that RFC 6455 demands.

It answers pings and the close frame by itself, and sends no other frames of its own. A send that fails ends the
connection, as a part of a frame may have been sent.

Threads: none of its own. Only the connection's thread (`_connection/websocket.py`) uses it, when the socket is ready.
No operation blocks, so one thread is enough; and TLS allows no more, as it is not full duplex: two threads that read
and write one OpenSSL object at the same time corrupt it.
"""

import ssl
from collections import deque
from typing import Any, Deque, List, Optional, Tuple

from . import frames

# The size of a read, in bytes, grows with what arrives. A large buffer is expensive to allocate for a small message.
# But a read releases the GIL, so a large one runs while the caller's thread works on the messages before.
_LEAST_READ = 16 * 1024
_MOST_READ = 1024 * 1024
# The most bytes of a record of TLS, and the most that one `read` takes of them. They take several times as long, and a
# send or a close must not wait for longer.
_LARGEST_RECORD = 16 * 1024
_MOST_READ_SECURE = 128 * 1024
_LARGEST_SEND = 256 * 1024
_FLUSH_SIZE = 1024 * 1024

# The most pings that wait for their pongs. The oldest of more are not answered, as RFC 6455 §5.5.3 allows: a peer that
# sends pings and never reads must not fill the memory.
_MAX_PONGS = 16


class Disconnected(Exception):
    """The connection is over; the text says why.

    Attributes:
        close: The peer's close frame, if that ended it.
        violation: How the peer broke the rules, if that ended it.
    """

    def __init__(
        self, reason: str, close: Optional[frames.Close] = None, violation: Optional[frames.FrameError] = None
    ) -> None:
        super().__init__(reason)
        self.close = close
        self.violation = violation


class WebSocketStream:
    """An open WebSocket connection: a non-blocking socket, a parser, and the bytes that wait to be sent.

    Attributes:
        sock: The socket, non-blocking.
        wants_write: Whether bytes wait until the socket can be written to.
        disconnected: Why the connection is over; `None` while it is open.
        unsent: The number of queued bytes that the socket has not taken.
        pongs: The payloads of the pongs that the last `read` received.

    Args:
        sock: A connected, non-blocking socket.
        received: The bytes received after the peer's handshake.
        max_message_size: The longest message to receive, in bytes.
    """

    def __init__(self, sock: Any, received: bytes, max_message_size: int) -> None:
        self.sock = sock
        self.wants_write = False
        self.disconnected: Optional[Disconnected] = None
        self.unsent = 0
        self.pongs: List[bytes] = []
        self._parser = frames.FrameParser(max_message_size)
        self._out: Deque[memoryview] = deque()
        self._secure = isinstance(sock, ssl.SSLSocket)
        self._first = received
        self._read_all = False
        self._read_size = _LEAST_READ
        self._pongs: Deque[bytes] = deque(maxlen=_MAX_PONGS)

    @property
    def has_pending(self) -> bool:
        """Whether there are received bytes that no wait for the socket reports: they have been read from it."""
        return bool(self._first) or (self._secure and not self._read_all and self.sock.pending() > 0)

    def queue_text(self, payload: bytes) -> None:
        """Queues a text message; `flush` sends it."""
        self._queue(frames.frame(frames.TEXT, payload))

    def queue_ping(self, payload: Optional[bytes] = None) -> None:
        """Queues a ping; its payload is one that no earlier ping had, unless one is given."""
        self._queue(frames.frame(frames.PING, frames.ping_payload() if payload is None else payload))

    def _queue(self, data: bytes) -> None:
        self._out.append(memoryview(data))
        self.unsent += len(data)

    def _queue_close(self, data: bytes) -> None:
        # Nothing may follow a close frame (RFC 6455 §5.5.1), so the pongs go before it.
        while self._pongs:
            self._queue(frames.frame(frames.PONG, self._pongs.popleft()))
        self._queue(data)

    def flush(self) -> bool:
        """Sends what is queued, as far as the socket takes it; returns whether it took any bytes."""
        progress = False
        self.wants_write = False
        left = _FLUSH_SIZE
        while self.disconnected is None:
            if self._pongs and not self._out:
                self._queue(frames.frame(frames.PONG, self._pongs.popleft()))
            if not self._out:
                break
            if left <= 0:
                # Not all of a large request at once: the connection's thread has other things to look at, too.
                self.wants_write = True
                break
            # OpenSSL demands that a send which would block is repeated with the same bytes: hence a view of them.
            chunk = self._out[0][:_LARGEST_SEND]
            try:
                sent = self.sock.send(chunk)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self.wants_write = True
                break
            except ssl.SSLWantReadError:
                break  # It is possible after the next read.
            except OSError as error:
                # What arrived before can still be read, and may hold the terminal message.
                self._out.clear()
                self.disconnected = Disconnected(f"sending failed: {error.strerror or type(error).__name__}")
                break
            progress = True
            left -= sent
            self.unsent -= sent
            if sent == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][sent:]
        return progress

    def read(self) -> Tuple[List[str], bool]:
        """Reads what has arrived, 2 MiB at most, over TLS 144 KiB; queues pongs, and sets `disconnected` at the end.

        Returns:
            The complete messages, and whether any bytes were received.
        """
        messages: List[str] = []
        self.pongs = []
        received = 0
        while received < _MOST_READ and not self._read_all:
            if self._first:
                data, end, more = self._first, "", True
                self._first = b""
            elif self._secure:
                data, end, more = *self._read_records(), False
            else:
                data, end = self._read_some(self._read_size)
                more = len(data) == self._read_size
                self._adapt(len(data))
            if data:
                received += len(data)
                self._parse(data, messages)
            if end:
                self._end(end)
            if not more:
                break
        return messages, received > 0

    def _adapt(self, received: int) -> None:
        if received == self._read_size:
            self._read_size = min(2 * received, _MOST_READ)
        elif received < self._read_size // 4:
            self._read_size = max(self._read_size // 2, _LEAST_READ)

    def _read_records(self) -> Tuple[bytes, str]:
        """Reads what has arrived over TLS, `_MOST_READ_SECURE` at most, as `_read_some`: a read returns one record."""
        records: List[bytes] = []
        end = ""
        left = _MOST_READ_SECURE
        while left > 0:
            record, end = self._read_some(_LARGEST_RECORD)
            if not record:
                break
            records.append(record)
            left -= len(record)
        return records[0] if len(records) == 1 else b"".join(records), end

    def _read_some(self, size: int) -> Tuple[bytes, str]:
        """Returns the next bytes, none if none have arrived; and why the connection is over, once no more will come."""
        try:
            data: bytes = self.sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b"", ""
        except ssl.SSLWantWriteError:
            self.wants_write = True
            return b"", ""
        except OSError as error:
            return b"", f"receiving failed: {error.strerror or type(error).__name__}"
        return data, "" if data else "the runtime closed the connection without a closing handshake"

    def _parse(self, data: bytes, messages: List[str]) -> None:
        parsed, error = self._parser.feed(data)
        for item in parsed:
            if type(item) is str:
                messages.append(item)
            elif isinstance(item, frames.Binary):
                messages.append(item.payload.decode("utf-8", "replace"))
            elif isinstance(item, frames.Ping):
                self._pongs.append(item.payload)
            elif isinstance(item, frames.Pong):
                self.pongs.append(item.payload)
            elif isinstance(item, frames.Close):
                self._closed_by_peer(item)
        if error is not None:
            self._queue_close(frames.close_frame(error.code, str(error)))
            self.flush()
            broke = "" if error.code == frames.TOO_BIG else "the runtime broke the WebSocket protocol: "
            self._end(f"{broke}{error}", violation=error)

    def _closed_by_peer(self, close: frames.Close) -> None:
        # RFC 6455 §5.5.1: the answer is a close frame with the same code. 1005 stands for a frame without a code.
        self._queue_close(frames.frame(frames.CLOSE, b"") if close.code == 1005 else frames.close_frame(close.code))
        self.flush()
        why = f": {close.reason}" if close.reason else ""
        self._end(f"the runtime closed the connection (close code {close.code}{why})", close=close)

    def _end(
        self, reason: str, close: Optional[frames.Close] = None, violation: Optional[frames.FrameError] = None
    ) -> None:
        self._read_all = True
        if self.disconnected is None:
            self.disconnected = Disconnected(reason, close, violation)

    def lose(self, reason: str) -> None:
        """Ends the connection as lost; sends nothing to the peer."""
        self._end(reason)

    def finish(self) -> None:
        """Sends what the socket takes at once, a close frame last, and closes the socket; never waits for the peer."""
        if self.disconnected is None:
            self._queue_close(frames.close_frame(frames.NORMAL_CLOSURE))
            self.flush()
        self._end("the connection was closed")
        self._out.clear()
        self.sock.close()
