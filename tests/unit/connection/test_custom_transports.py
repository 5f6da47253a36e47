"""Custom transports that block: the deadline, aborts and a lost connection while one does."""

from __future__ import annotations

import threading
import time
from typing import Optional

import pytest

from runtimeuse_sync.errors import CancelledException, ConnectionLostError, RunTimeoutError

from ...support.doubles import BlockingTransport, MemoryTransport, MemoryTransports, Message
from ...support.servers import PATIENCE
from ...support.threads import InThread
from ...support.transports import make_client


def in_time(start: float) -> None:
    """Fails a call that took far longer than it should: it waited for something that it must not wait for."""
    assert time.monotonic() - start < PATIENCE / 2


class Blocking(BlockingTransport):
    """Blocks in one of its methods until it is closed, as the Protocol says."""

    def _block(self) -> None:
        assert self.closed.wait(PATIENCE), "a transport that reacts to close was never closed"
        raise OSError("closed meanwhile")


class BlockingTransports:
    """Connects to one `Blocking` transport, or blocks in `connect` until the test lets it go on."""

    def __init__(self, where: str) -> None:
        self.transport = Blocking(where)
        self.where = where
        self.go_on = threading.Event()
        self.connecting = threading.Event()

    def connect(self) -> MemoryTransport:
        self.connecting.set()
        if self.where == "connect":
            self.transport.blocked.set()
            assert self.go_on.wait(10 * PATIENCE)
        return self.transport


WHERE = ["connect", "send", "receive"]


@pytest.mark.parametrize("where", WHERE)
def test_the_deadline_while_the_transport_blocks(where: str) -> None:
    transports = BlockingTransports(where)
    start = time.monotonic()
    with pytest.raises(RunTimeoutError):
        make_client(transports).query("p", timeout=0.5)
    in_time(start)
    transports.go_on.set()
    # Closed in the end, though nobody waits for that any more.
    assert transports.transport.closed.wait(PATIENCE)


@pytest.mark.parametrize("where", WHERE)
def test_an_abort_while_the_transport_blocks(where: str) -> None:
    transports = BlockingTransports(where)
    client = make_client(transports)
    caller = InThread(lambda: client.query("p"))
    assert transports.transport.blocked.wait(PATIENCE)
    start = time.monotonic()
    client.abort()
    assert isinstance(caller.error(), CancelledException)
    in_time(start)
    transports.go_on.set()
    assert transports.transport.closed.wait(PATIENCE)


@pytest.mark.parametrize("where", ["connect", "send", "receive"])
def test_a_session_while_the_transport_blocks(where: str) -> None:
    transports = BlockingTransports(where)
    session = make_client(transports).session(end_session_timeout=0.05)
    if where == "connect":
        opener = InThread(session.open)
        assert transports.connecting.wait(PATIENCE)
        session.abort()
        assert isinstance(opener.error(), CancelledException)
    else:
        session.open()
        with pytest.raises(RunTimeoutError):
            session.query("p", timeout=0.05)
        session.close()
    transports.go_on.set()
    assert transports.transport.closed.wait(PATIENCE)


@pytest.mark.parametrize("reads", ["end", "error"])
def test_a_connection_that_is_lost_while_a_send_blocks(reads: str) -> None:
    # No deadline: it is the end of the connection that must end the call, and `close` that frees the sender.
    class Lost(Blocking):
        def receive(self) -> Optional[Message]:
            assert self.blocked.wait(PATIENCE)
            if reads == "error":
                raise OSError("reset")
            return None

    transports = BlockingTransports("send")
    transports.transport = Lost("send")
    client = make_client(transports)
    caller = InThread(lambda: client.query("p"))
    assert isinstance(caller.error(), ConnectionLostError)
    assert transports.transport.closed.wait(PATIENCE)


def test_waiting_until_ready_has_its_time() -> None:
    transports = BlockingTransports("connect")
    client = make_client(transports)
    caller = InThread(lambda: client.wait_until_ready(0.05))
    try:
        assert isinstance(caller.error(), RunTimeoutError)
    finally:
        client.abort()
        transports.go_on.set()


def test_waiting_until_ready() -> None:
    make_client(MemoryTransports()).wait_until_ready(PATIENCE)
