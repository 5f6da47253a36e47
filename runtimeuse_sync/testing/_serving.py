"""A WebSocket server on this machine for a fake runtime.

As much of RFC 6455 as this needs: it accepts each handshake, joins fragments, answers pings and closes.

Threads: `runtimeuse-fake-server` accepts connections. Each connection has a thread that reads, and is the one that
sends for the `FakeConnection`; and one that writes what this receives. All end when the context of `served` is left.
"""

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
from typing import BinaryIO, Iterator, List, Optional, Protocol

from .._threads import join_thread, new_thread, start_directly, start_thread
from .._websocket.frames import CLOSE, CONTINUATION, PING, PONG, TEXT
from ..transports.base import ConnectedTransport

#: How many seconds the threads have to end when the server is left.
_PATIENCE = 5.0

#: The most bytes of a handshake.
_LONGEST_HANDSHAKE = 65536

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Connection(ConnectedTransport, Protocol):
    """A connection to the fake runtime."""

    @property
    def is_silent(self) -> bool:
        """Whether nothing comes from the runtime any more, although the connection is open."""

    def _break_down(self, error: BaseException) -> None:
        """Breaks the connection."""


class Runtime(Protocol):
    """The fake runtime."""

    def connect(self) -> Connection:
        """Opens a connection."""


@contextlib.contextmanager
def served(runtime: Runtime) -> Iterator[str]:
    """Serves a fake runtime while its context is entered; gives the URL."""
    server = _Server(runtime)
    try:
        yield server.start()
    finally:
        server.stop()


class _Server:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._thread = new_thread(self._accept, "runtimeuse-fake-server")
        self._lock = threading.Lock()
        self._stopping = False
        self._served: List[_Served] = []

    def start(self) -> str:
        try:
            start_thread(self._thread)
        except BaseException:
            self._listening.close()
            raise
        return f"ws://127.0.0.1:{self._listening.getsockname()[1]}"

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            served = list(self._served)
        # Wakes the thread that accepts, on every system.
        with contextlib.suppress(OSError), socket.create_connection(self._listening.getsockname(), _PATIENCE):
            pass
        for each in served:
            each.cut()
        join_thread(self._thread, _PATIENCE)
        self._listening.close()
        for each in served:
            each.join()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return  # closed: the start was interrupted
            with self._lock:
                if self._stopping:
                    accepted.close()
                    return
                served = _Served(accepted, self._runtime)
                self._served = [each for each in self._served if each.is_running] + [served]
                served.start()


class _Served:
    """One connection of a client."""

    def __init__(self, accepted: socket.socket, runtime: Runtime) -> None:
        self._socket = accepted
        self._runtime = runtime
        self._sending = threading.Lock()
        self._reader = new_thread(self._read, "runtimeuse-fake-reader")
        self._writer: Optional[threading.Thread] = None

    @property
    def is_running(self) -> bool:
        return self._reader.is_alive()

    def start(self) -> None:
        start_directly(self._reader)

    def cut(self) -> None:
        """Makes the threads end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        join_thread(self._reader, _PATIENCE)

    def _read(self) -> None:
        with self._socket, self._socket.makefile("rb") as stream:
            try:
                if not self._shake_hands(stream):
                    return
                connection = self._runtime.connect()
            except OSError:
                return
            writer = new_thread(self._write, "runtimeuse-fake-writer", connection)
            start_directly(writer)
            try:
                self._take_all(stream, connection)
            except (OSError, EOFError):
                pass  # the client has gone, or the runtime has broken the connection
            finally:
                connection.close()
                writer.join()

    def _take_all(self, stream: BinaryIO, connection: Connection) -> None:
        parts: List[bytes] = []
        while True:
            opcode, is_last, payload = _frame(stream)
            if opcode == PING:
                if not connection.is_silent:
                    self._send(PONG, payload)
            elif opcode == CLOSE:
                if not connection.is_silent:
                    self._send(CLOSE, payload[:2])
                return
            elif opcode in (TEXT, CONTINUATION):
                parts.append(payload)
                if is_last:
                    message, parts = json.loads(b"".join(parts)), []
                    try:
                        connection.send(message)
                    except BaseException as error:
                        # In memory, the client would learn of it by its `send`.
                        connection._break_down(error)
            # Pongs, and binary messages, which the protocol does not have, are passed over.

    def _write(self, connection: Connection) -> None:
        try:
            while True:
                message = connection.receive()
                if message is None:
                    self._send(CLOSE, struct.pack("!H", 1000))
                    return
                self._send(TEXT, json.dumps(message).encode())
        except OSError:
            self._reset()  # The runtime has broken the connection, or the client has gone.
        except BaseException:
            # A reply raised, which the fake runtime has noted.
            self._reset()

    def _reset(self) -> None:
        """Ends the connection without a close: by RST, as the process of a runtime that is killed does."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()

    def _send(self, opcode: int, payload: bytes) -> None:
        with self._sending:
            self._socket.sendall(_head(opcode, len(payload)) + payload)

    def _shake_hands(self, stream: BinaryIO) -> bool:
        size = 0
        key = b""
        while True:
            line = stream.readline(_LONGEST_HANDSHAKE)
            size += len(line)
            if not line or size > _LONGEST_HANDSHAKE:
                return False
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"sec-websocket-key":
                key = value.strip()
            if line in (b"\r\n", b"\n"):
                break
        if not key:
            self._socket.sendall(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        self._socket.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        return True


def _head(opcode: int, length: int) -> bytes:
    """Returns the head of an unmasked frame."""
    first = 0x80 | opcode
    if length < 126:
        return struct.pack("!BB", first, length)
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


def _frame(stream: BinaryIO) -> "tuple[int, bool, bytes]":
    """Reads a client's frame; returns its opcode, whether its message ends with it, and its payload.

    Raises:
        EOFError: The client has gone.
    """
    first, second = _exactly(stream, 2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", _exactly(stream, 2))
    elif length == 127:
        (length,) = struct.unpack("!Q", _exactly(stream, 8))
    mask = _exactly(stream, 4) if second & 0x80 else bytes(4)
    payload = _exactly(stream, length)
    # In one piece, as a loop over the bytes would take long for a long message.
    key = int.from_bytes(mask * (length // 4 + 1), "big") >> (8 * (4 - length % 4))
    unmasked = (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big") if length else b""
    return first & 0x0F, first >= 0x80, unmasked


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
