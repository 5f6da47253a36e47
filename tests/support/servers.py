"""A WebSocket server that does exactly what a test tells it to, the wrong things too.

It shares no code with the package: sockets, threads, and as much of RFC 6455 as a server needs. A script, one function
per connection, runs in a thread of its own and holds a `Peer`; whatever goes wrong in it is raised when the server is
left, so that no test passes on a server that did something else than was written down. Every wait has a limit.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import select
import socket
import ssl
import struct
import threading
import time
import traceback
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type

Message = Dict[str, Any]
Script = Callable[["Peer"], None]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

#: How long anything that is expected may take, in seconds; only a failure waits for it.
PATIENCE = 15.0


class PeerGone(Exception):
    """The client has closed the connection, or reset it."""


class Peer:
    """One client's connection, as seen by the script that serves it.

    Attributes:
        number: How many connections came before it.
        path: The request target of its handshake.
        headers: The handshake's headers, names in lower case.
        messages: What it has sent and the script has read.
        answers_pings: Whether pings are answered when the script reads.
        upgraded: Whether its handshake has been accepted.
    """

    def __init__(self, server: FaultServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self.path = ""
        self.headers: Dict[str, str] = {}
        self.messages: List[Message] = []
        self.pings = 0
        self.closed_with: Optional[int] = None
        self.answers_pings = True
        self.upgraded = False
        self._rest = b""

    # The handshake.

    def read_request(self) -> str:
        """Reads the head of an HTTP request and returns its first line."""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._some()
        head, self._rest = self._rest.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.path = first.split(" ")[1]
        return first

    def accept(self, *more_headers: str) -> None:
        """Reads the handshake and accepts it."""
        self.read_request()
        self.upgrade(*more_headers)

    def handshake(self, *more_headers: str) -> bytes:
        """Returns what accepts the handshake that has been read."""
        digest = hashlib.sha1((self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
        accept = base64.b64encode(digest.digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", *more_headers]
        return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode()

    def upgrade(self, *more_headers: str) -> None:
        """Accepts the handshake that has been read."""
        self.raw(self.handshake(*more_headers))
        self.upgraded = True

    def refuse(self, status: str, *headers: str) -> None:
        """Reads the handshake and answers it by a status such as `503 Service Unavailable`."""
        self.read_request()
        self.raw("\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""]).encode())

    # Sending.

    def raw(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise PeerGone(str(error)) from error

    def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        self.raw(frame(opcode, payload, fin=fin))

    def send(self, *messages: Message) -> None:
        """Sends messages, all in one piece."""
        self.raw(b"".join(frame(TEXT, json.dumps(message, ensure_ascii=False).encode()) for message in messages))

    def close(self, code: int, reason: str = "") -> None:
        self.frame(CLOSE, struct.pack("!H", code) + reason.encode())

    def cut(self, *, reset: bool = False) -> None:
        """Ends the connection without a word: by FIN, or by RST."""
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    # Receiving.

    def receive(self) -> Message:
        """Returns the next message; pings are answered on the way."""
        while True:
            opcode, payload = self._frame()
            if opcode == PING:
                self.pings += 1
                if self.answers_pings:
                    self.frame(PONG, payload)
            elif opcode == CLOSE:
                self.closed_with = struct.unpack("!H", payload[:2])[0] if payload else 1005
                raise PeerGone(f"closed with {self.closed_with}")
            elif opcode != PONG:
                message: Message = json.loads(payload)
                self.messages.append(message)
                self.server.note(message)
                return message

    def expect(self, message_type: str) -> Message:
        """Returns the next message, which must be of this type."""
        message = self.receive()
        assert message["message_type"] == message_type, f"{message_type} was expected, not {message}"
        return message

    def expect_barrier(self, secrets: Tuple[str, ...] = ()) -> None:
        """Takes the empty request that asks whether anything is in flight."""
        message = self.expect("command_execution_message")
        assert message["commands"] == [], message
        assert message["secrets_to_redact"] == list(secrets), message

    def until_gone(self) -> List[Message]:
        """Reads until the client has closed, and returns what it still said."""
        return list(self.requests())

    def requests(self) -> Iterator[Message]:
        """Yields messages until the client has closed."""
        while True:
            try:
                message = self.receive()
            except PeerGone:
                return
            yield message

    def until_read(self) -> None:
        """Returns when the client has read all that was sent, and says nothing else before it says so."""
        self.frame(PING, b"read")
        assert self._frame() == (PONG, b"read")

    def readable(self, seconds: float) -> bool:
        """Returns whether the client says something, or closes, within a time."""
        return bool(self._rest) or bool(select.select([self.sock], [], [], seconds)[0])

    def _frame(self) -> Tuple[int, bytes]:
        first, second = self._exactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._exactly(8))
        assert second & 0x80, "a client must mask its frames"
        assert first & 0xF0 == 0x80, "the client sends whole frames without extensions"
        mask = self._exactly(4)
        return first & 0x0F, _unmask(self._exactly(length), mask)

    def _exactly(self, size: int) -> bytes:
        pieces = [self._rest]
        have = len(self._rest)
        while have < size:
            pieces.append(self._some())
            have += len(pieces[-1])
        data = b"".join(pieces)
        self._rest = data[size:]
        return data[:size]

    def _some(self) -> bytes:
        try:
            data = self.sock.recv(1 << 18)
        except socket.timeout:
            raise AssertionError(f"the client said nothing for {PATIENCE:g} s") from None
        except OSError as error:
            raise PeerGone(str(error)) from error
        if not data:
            raise PeerGone("end of stream")
        return data


class FaultServer:
    """Runs a script for each connection, and raises what went wrong in one when it is left.

    Args:
        script: What to do with a connection, from its handshake on. When it returns, the client is listened to until it
            has closed; to fall silent or to break off is the script's own to do.
        context: For TLS.
        port: The port to listen on; 0 takes a free one.
    """

    def __init__(self, script: Script, *, context: Optional[ssl.SSLContext] = None, port: int = 0) -> None:
        self.peers: List[Peer] = []
        self.errors: List[str] = []
        self.messages: List[Message] = []
        self._script = script
        self._context = context
        self._changed = threading.Condition()
        self._stopping = False
        self._threads: List[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="fault-server", daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"{'wss' if self._context else 'ws'}://{'localhost' if self._context else '127.0.0.1'}:{self.port}"

    def note(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def said(self, message_type: str) -> List[Message]:
        """Returns the messages of a type that clients have sent so far."""
        with self._changed:
            return [message for message in self.messages if message["message_type"] == message_type]

    def wait_for(self, message_type: str, count: int = 1) -> List[Message]:
        """Waits until clients have sent that many messages of a type, and returns them."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.said(message_type)) >= count, PATIENCE)
        said = self.said(message_type)
        assert len(said) >= count, f"{count} × {message_type} expected, got {self.messages}; {self.errors}"
        return said

    def wait_for_connections(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.peers) >= count, PATIENCE), len(self.peers)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._stopping:
                sock.close()
                return
            sock.settimeout(PATIENCE)
            peer = Peer(self, sock, len(self.peers))
            thread = threading.Thread(target=self._serve, args=(peer,), name="fault-peer", daemon=True)
            self._threads.append(thread)
            with self._changed:
                self.peers.append(peer)
                self._changed.notify_all()
            thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            if self._context is not None:
                try:
                    peer.sock = self._context.wrap_socket(peer.sock, server_side=True)
                except OSError:
                    return  # The client did not like the certificate: the client's outcome says so.
            self._script(peer)
            if peer.sock.fileno() >= 0:
                peer.until_gone()
        except PeerGone:
            # Out of time, a client may leave at any instant of the handshake: the client's outcome says so.
            if peer.upgraded:
                self.errors.append(traceback.format_exc())
        except BaseException:
            self.errors.append(traceback.format_exc())
        finally:
            peer.sock.close()

    def stop(self) -> None:
        """Stops listening, and waits for the scripts that are under way."""
        self._stopping = True
        with contextlib.suppress(OSError):
            # Closing alone does not wake a thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(PATIENCE)
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                self.errors.append("a script is still running")
        for peer in self.peers:
            peer.sock.close()

    def __enter__(self) -> FaultServer:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()
        if self.errors and error is None:
            raise AssertionError("the server's script failed:\n" + "\n".join(self.errors))
        if self.errors and error is not None:
            print("the server's script failed, too:\n" + "\n".join(self.errors))


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, length: Optional[int] = None) -> bytes:
    """Returns a server's frame; `length` claims another length than the payload's."""
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | opcode
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def _unmask(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Yields a port on which connecting neither succeeds nor fails: nobody accepts, and the queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """Yields a port that nobody listens on and nobody else is given meanwhile, but for who asks for it by number."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
