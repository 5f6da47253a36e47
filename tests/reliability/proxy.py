"""A TCP proxy that harms what passes through it at an exact byte, and remembers every byte that it let pass.

A `Fault` names a direction, how many of its bytes pass unharmed, and what is done then. The first connection after
`harm` suffers it; all others pass unharmed. What was forwarded is kept for each `Passage`, so that a test can hold what
the client did against what the client had really been sent.

Threads: one accepts, and one per connection moves the bytes of both directions and does the harm. Tests wait, with a
limit, for what these report.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from types import TracebackType
from typing import Callable, Dict, List, NamedTuple, Optional, Set, Type

from ..support.servers import PATIENCE

#: From the client to the runtime, and back.
UP, DOWN = "up", "down"


class Fault(NamedTuple):
    """What happens to a connection.

    Attributes:
        direction: Whose bytes are counted.
        at: How many of them pass before.
        harm: What is done then, in the passage's thread.
    """

    direction: str
    at: int
    harm: Callable[[Passage], None]


class Passage:
    """One connection through the proxy.

    Attributes:
        forwarded: What the other side was sent, by direction; what was injected is not in it.
        harmed: Set when the fault has been done.
    """

    def __init__(
        self, client: socket.socket, runtime: socket.socket, fault: Optional[Fault], piece: Optional[int]
    ) -> None:
        self.forwarded: Dict[str, bytearray] = {UP: bytearray(), DOWN: bytearray()}
        self.harmed = threading.Event()
        self.over = threading.Event()
        self._sources = {UP: client, DOWN: runtime}
        self._sinks = {UP: runtime, DOWN: client}
        self._fault = fault
        self._piece = piece
        self._flowing: Set[str] = {UP, DOWN}
        self._swallowed: Set[str] = set()
        self._held: Set[str] = set()
        self._pending: Dict[str, bytes] = {UP: b"", DOWN: b""}
        self._ended = False
        self._woken, self._waker = socket.socketpair()
        self.thread = threading.Thread(target=self._run, name="chaos-passage", daemon=True)

    # The harm; for the fault, in the passage's thread.

    def cut(self) -> None:
        """Ends both sides by FIN; what they still say is taken and dropped, so that no RST follows."""
        for sink in self._sinks.values():
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
        self._swallowed = {UP, DOWN}

    def reset(self) -> None:
        """Ends both sides by RST."""
        for sink in self._sinks.values():
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._ended = True

    def half_close(self, direction: str) -> None:
        """Ends one direction by FIN, while the other goes on."""
        with contextlib.suppress(OSError):
            self._sinks[direction].shutdown(socket.SHUT_WR)
        self._swallowed = {direction}

    def stall(self, *directions: str) -> None:
        """Lets nothing pass any more, and reads nothing either, until `let_go` or the end."""
        self._held |= set(directions)

    def inject(self, direction: str, data: bytes) -> None:
        """Sends something of its own in a direction."""
        self._send(direction, data)

    # For tests.

    def let_go(self) -> None:
        """Lets pass what a stall has held up."""
        self._held.clear()
        self._wake()

    def end(self) -> None:
        """Drops the connection, if it still is one."""
        self._ended = True
        self._wake()

    # The thread.

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # It is over.
            self._waker.send(b"\0")

    def _run(self) -> None:
        try:
            self._do_harm_at(UP, 0)
            self._do_harm_at(DOWN, 0)
            while self._flowing and not self._ended:
                sources = [self._sources[direction] for direction in self._flowing - self._held]
                ready = select.select([self._woken, *sources], [], [])[0]
                if self._woken in ready:
                    self._woken.recv(4096)
                for direction in (UP, DOWN):
                    if self._sources[direction] in ready and direction not in self._held:
                        self._receive(direction)
                    self._forward(direction)
        finally:
            for sock in (*self._sources.values(), self._woken, self._waker):
                sock.close()
            self.over.set()

    def _receive(self, direction: str) -> None:
        try:
            data = self._sources[direction].recv(1 << 16)
        except OSError:
            data = b""
        self._pending[direction] += data
        if not data:
            self._flowing.discard(direction)
            with contextlib.suppress(OSError):
                self._sinks[direction].shutdown(socket.SHUT_WR)

    def _forward(self, direction: str) -> None:
        """Sends on what is pending, in pieces: as small as asked for, and cut where the harm is to be done."""
        fault = self._fault
        while self._pending[direction] and direction not in self._held and not self._ended:
            data = self._pending[direction]
            size = self._piece or len(data)
            if fault is not None and fault.direction == direction and len(self.forwarded[direction]) < fault.at:
                size = min(size, fault.at - len(self.forwarded[direction]))
            self._pending[direction] = data[size:]
            if direction in self._swallowed:
                continue
            # In this order: whoever has received it finds it noted.
            self.forwarded[direction] += data[:size]
            self._send(direction, data[:size])
            self._do_harm_at(direction, len(self.forwarded[direction]))

    def _do_harm_at(self, direction: str, passed: int) -> None:
        fault = self._fault
        if fault is not None and (fault.direction, fault.at) == (direction, passed) and not self.harmed.is_set():
            fault.harm(self)
            self.harmed.set()

    def _send(self, direction: str, data: bytes) -> None:
        # The other side may have gone, which it will be told by the end of what it reads.
        with contextlib.suppress(OSError):
            self._sinks[direction].sendall(data)


class ChaosProxy:
    """Listens, and passes each connection on to a port of this machine.

    Attributes:
        passages: The connections so far.
    """

    def __init__(self, port: int) -> None:
        self.passages: List[Passage] = []
        self._target = port
        self._fault: Optional[Fault] = None
        self._piece: Optional[int] = None
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="chaos-acceptor", daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def harm(self, fault: Optional[Fault], piece: Optional[int] = None) -> None:
        """Has the next connection suffer a fault; its bytes are sent on `piece` at a time, by default as they come."""
        with self._changed:
            self._fault, self._piece = fault, piece

    def forget(self) -> None:
        """Drops all connections, and waits until they are gone."""
        with self._changed:
            passages, self.passages = self.passages, []
        for passage in passages:
            passage.end()
        for passage in passages:
            passage.thread.join(PATIENCE)
            assert not passage.thread.is_alive(), "a passage does not end"

    def passage(self, number: int = 0) -> Passage:
        """Returns a connection, by how many came before it; waits until there is one."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.passages) > number, PATIENCE), "nobody has connected"
        return self.passages[number]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                runtime = socket.create_connection(("127.0.0.1", self._target), PATIENCE)
            except OSError:
                client.close()
                continue
            for sock in (client, runtime):
                sock.settimeout(PATIENCE)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                fault, piece = self._fault, self._piece
                self._fault = self._piece = None
                passage = Passage(client, runtime, fault, piece)
                # In this order: the client must not have got anything from a connection that nobody knows of.
                self.passages.append(passage)
                passage.thread.start()
                self._changed.notify_all()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            # Closing alone does not wake a thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(PATIENCE)
        self.forget()

    def __enter__(self) -> ChaosProxy:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()
