"""Custom transports that fail, and what is cleaned up after them."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any, Dict, Optional

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync._call import Wakeup
from runtimeuse_sync._connection.base import Connection
from runtimeuse_sync.errors import ConnectionLostError, RuntimeConnectionError

from ...support.doubles import MemoryTransport, MemoryTransports, Message
from ...support.servers import PATIENCE
from ...support.threads import when
from ...support.transports import RESULT, answering, make_client


class Failing(MemoryTransport):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.close_calls = 0

    def send(self, message: Message) -> None:
        if self.where == "send":
            raise OSError("broken pipe")
        super().send(message)
        self.say(RESULT)

    def receive(self) -> Optional[Message]:
        if self.where == "receive":
            raise ValueError("strange bytes")
        return super().receive()

    def close(self) -> None:
        self.close_calls += 1
        super().close()
        if self.where == "close":
            raise OSError("close failed")


class Fixed:
    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport

    def connect(self) -> MemoryTransport:
        return self.transport


def test_connect_raises() -> None:
    class Refused:
        def connect(self) -> MemoryTransport:
            raise OSError("nobody there")

    client = make_client(Refused())
    with pytest.raises(RuntimeConnectionError, match="nobody there") as caught:
        client.query("p")
    assert not isinstance(caught.value, ConnectionLostError)
    with pytest.raises(RuntimeConnectionError, match="nobody there"):
        client.session().open()


@pytest.mark.parametrize(("where", "text"), [("send", "broken pipe"), ("receive", "strange bytes")])
def test_send_or_receive_raises(where: str, text: str) -> None:
    transport = Failing(where)
    with pytest.raises(ConnectionLostError, match=text):
        make_client(Fixed(transport)).query("p")
    assert transport.closed.wait(PATIENCE)


def test_close_raises(caplog: pytest.LogCaptureFixture) -> None:
    transport = Failing("close")
    assert make_client(Fixed(transport)).query("p").text == "4"
    assert transport.closed.wait(PATIENCE)
    # Nobody is there to be told, but it is not kept quiet.
    assert when(lambda: any("clos" in record.getMessage() for record in caplog.records))


@pytest.mark.parametrize("item", [None, {}, b"{}"])
def test_a_transport_that_hands_in_what_is_no_message(item: Any) -> None:
    client = make_client(answering(item, RESULT))
    if item is None:
        # The Protocol's own word for the end.
        with pytest.raises(ConnectionLostError):
            client.query("p")
    else:
        # Passed over, as a malformed message of a runtime is.
        assert client.query("p").text == "4"


def test_an_interrupt_while_the_thread_starts_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    # Starting a thread waits for it: a Ctrl-C may well come then.
    transports = MemoryTransports()
    real_start = Connection.start

    def interrupted(self: Connection, listener: Wakeup, **options: Any) -> None:
        real_start(self, listener, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "start", interrupted)
    client = make_client(transports)
    with pytest.raises(KeyboardInterrupt):
        client.query("p")
    assert transports.next_connected().closed.wait(PATIENCE), "the connection is open, and nobody knows of it"


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="looks at reference counts")
def test_a_transport_is_let_go_after_the_call() -> None:
    transport = Failing("nowhere")
    seen = weakref.ref(transport)
    settings: Dict[str, Any] = {"transport": Fixed(transport), "model": "m"}
    RuntimeUseClient(**settings).query("p")
    assert transport.closed.wait(PATIENCE)
    settings.clear()
    del transport

    def is_gone() -> bool:
        gc.collect()
        return seen() is None

    when(is_gone)


@pytest.mark.parametrize("role", ["sender", "closer"])
def test_a_transport_is_closed_where_the_system_has_no_thread_left_for_it(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name.endswith(role):
            raise RuntimeError("can't start new thread")
        start(thread)

    transports = MemoryTransports()
    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(RuntimeConnectionError, match="can't start new thread") as caught:
        make_client(transports).query("2 + 2", timeout=PATIENCE)
    assert caught.type is RuntimeConnectionError
    transport = transports.next_connected()
    assert transport.closed.wait(PATIENCE)
    assert transport.sent.empty()
