"""Custom transports, whose methods block: calls, deadlines, aborts and errors over them."""

from __future__ import annotations

import gc
import queue
import sys
import threading
import time
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync import client as client_module
from runtimeuse_sync._blocking_connection import BlockingConnection, connector, is_persistent
from runtimeuse_sync._connection import Connection
from runtimeuse_sync._wakeup import Wakeup
from runtimeuse_sync.errors import CancelledException, ConnectionLostError, RuntimeConnectionError, RunTimeoutError

from ..servers import PATIENCE
from ..threads import InThread
from .doubles import MemoryTransport, MemoryTransports, Message

RESULT: Message = {"message_type": "result_message", "data": {"type": "text", "text": "4"}}
DONE: Message = {
    "message_type": "command_execution_result_message",
    "results": [{"command": "ls", "exit_code": 0, "stdout": "x"}],
}


def make_client(transport: Any) -> RuntimeUseClient:
    return RuntimeUseClient(transport=transport, model="m")


def in_time(start: float) -> None:
    """Fails a call that took far longer than it should: it waited for something that it must not wait for."""
    assert time.monotonic() - start < PATIENCE / 2


# One-shot callables.


def test_a_generator_as_transport() -> None:
    sent: List[Optional[Message]] = []

    def transport(send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
        sent.append(send_queue.get())
        yield {"message_type": "assistant_message", "text_blocks": ["hi"]}
        yield RESULT
        sent.append(send_queue.get())

    said: List[str] = []
    client = make_client(transport)
    result = client.query("2 + 2", on_assistant_message=lambda message: said.extend(message.text_blocks))
    assert (result.text, said) == ("4", ["hi"])
    assert sent[0] is not None
    assert sent[0]["user_prompt"] == "2 + 2"
    assert sent[1:] == [None]


def answering(*messages: Any) -> Callable[[Any], Iterator[Any]]:
    """Makes a transport that says this once it has got the request."""

    def transport(send_queue: queue.Queue[Optional[Message]]) -> Iterator[Any]:
        send_queue.get()
        yield from messages

    return transport


def test_a_plain_function_as_transport() -> None:
    # It takes the request before it returns what it answers: nothing says that it must not.
    def transport(send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
        send_queue.get(timeout=PATIENCE)
        return iter([DONE])

    assert make_client(transport).execute_commands(["ls"], timeout=1).results[0].stdout == "x"


def test_json_texts_from_a_transport() -> None:
    text = '{"message_type": "result_message", "data": {"type": "text", "text": "4"}}'
    assert make_client(answering(text)).query("p").text == "4"


def test_a_transport_that_answers_without_looking_at_the_request() -> None:
    assert make_client(lambda send_queue: iter([RESULT])).query("p").text == "4"


def test_a_transport_that_ends_without_a_result() -> None:
    with pytest.raises(ConnectionLostError):
        make_client(lambda send_queue: iter(())).query("p")


def test_a_generator_that_raises() -> None:
    def transport(send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
        if send_queue.get() is not None:
            raise OSError("the pipe broke")
        yield RESULT

    with pytest.raises(ConnectionLostError, match="the pipe broke"):
        make_client(transport).query("p")


def test_a_callable_that_raises_at_once() -> None:
    def transport(send_queue: Any) -> Iterator[Message]:
        raise OSError("no such pipe")

    with pytest.raises(RuntimeConnectionError, match="no such pipe"):
        make_client(transport).query("p")


def test_sessions_need_a_persistent_transport() -> None:
    client = make_client(lambda send_queue: iter([RESULT]))
    with pytest.raises(TypeError, match="persistent"):
        client.session()
    assert not is_persistent(lambda send_queue: iter([RESULT]))
    assert is_persistent(MemoryTransports())
    with pytest.raises(TypeError, match="transport"):
        connector(object())


# Persistent transports.


def test_one_shot_calls_over_a_persistent_transport() -> None:
    transports = MemoryTransports()
    client = make_client(transports)
    for _ in range(2):
        caller = InThread(lambda: client.query("p"))
        transport = transports.next_connected()
        assert transport.next_sent()["message_type"] == "invocation_message"
        transport.say(RESULT)
        assert caller.result().text == "4"
        assert transport.closed.wait(PATIENCE)


def test_a_session() -> None:
    transports = MemoryTransports()

    def use() -> List[Any]:
        with make_client(transports).session() as session:
            return [session.query("p").text, session.execute_commands(["ls"]).results[0].command]

    caller = InThread(use)
    transport = transports.next_connected()
    assert transport.next_sent()["message_type"] == "invocation_message"
    transport.say(RESULT)
    assert transport.next_sent()["message_type"] == "command_execution_message"
    transport.say(DONE)
    assert transport.next_sent() == {"message_type": "end_session_message"}
    transport.say({"message_type": "end_session_confirm_message"})
    assert caller.result() == ["4", "ls"]
    assert transport.closed.wait(PATIENCE)
    assert transports.made.empty()


def test_artifacts() -> None:
    transports = MemoryTransports()
    asked: List[str] = []

    def upload(request: Any) -> Any:
        from runtimeuse_sync import ArtifactUploadResult

        asked.append(request.filepath)
        return ArtifactUploadResult("https://store.test/x", "text/plain")

    client = make_client(transports)
    caller = InThread(lambda: client.query("p", artifacts_dirs=["/out"], on_artifact_upload_request=upload))
    transport = transports.next_connected()
    transport.next_sent()
    transport.say(RESULT)
    assert transport.next_sent() == {"message_type": "end_session_message"}
    transport.say({"message_type": "artifact_upload_request_message", "filename": "late", "filepath": "/out/late"})
    assert transport.next_sent()["filepath"] == "/out/late"
    transport.say({"message_type": "end_session_confirm_message"})
    caller.result()
    assert asked == ["/out/late"]


# A transport that blocks.


class Blocking(MemoryTransport):
    """Blocks in one of its methods until it is closed, as the Protocol says."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.blocked = threading.Event()

    def _perhaps_block(self, where: str) -> None:
        if where == self.where:
            self.blocked.set()
            assert self.closed.wait(PATIENCE), "a transport that reacts to close was never closed"
            raise OSError("closed meanwhile")

    def send(self, message: Message) -> None:
        self._perhaps_block("send")
        super().send(message)

    def receive(self) -> Optional[Message]:
        self._perhaps_block("receive")
        return super().receive()


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
        make_client(transports).query("p", timeout=0.05)
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


# A transport that fails.


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
    assert transport.closed.is_set()


def test_close_raises(caplog: pytest.LogCaptureFixture) -> None:
    transport = Failing("close")
    assert make_client(Fixed(transport)).query("p").text == "4"
    assert transport.closed.wait(PATIENCE)
    # Nobody is there to be told, but it is not kept quiet.
    assert any("clos" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("item", [None, 1, {}, b"{}", ["message_type"]])
def test_a_transport_that_hands_in_what_is_no_message(item: Any) -> None:
    client = make_client(answering(item, RESULT))
    if item is None:
        # The Protocol's own word for the end.
        with pytest.raises(ConnectionLostError):
            client.query("p")
    else:
        # Passed over, as a malformed message of a runtime is.
        assert client.query("p").text == "4"


# Pushing back.


def test_receiving_stops_while_the_buffer_is_full() -> None:
    class Endless(MemoryTransport):
        def __init__(self) -> None:
            super().__init__()
            self.received = 0

        def receive(self) -> Optional[Message]:
            if self.closed.is_set():
                return None
            self.received += 1
            return {"message_type": "command_output_message", "stream": "stdout", "text": "x" * 1000, "command": "yes"}

    transport = Endless()
    connection = BlockingConnection(lambda: transport, 20_000)
    listener = Wakeup()
    connection.start(listener)
    deadline = time.monotonic() + PATIENCE
    while not connection.inbox.full:
        assert time.monotonic() < deadline
        listener.wait(0.1)
    received = transport.received
    assert received <= 25
    # It waits, and does not spin.
    Wakeup().wait(0.05)
    assert transport.received <= received + 1
    # Room for more: it goes on.
    for _ in range(3 * received):
        batch = connection.inbox.first()
        while batch is None:
            listener.wait(PATIENCE)
            batch = connection.inbox.first()
        connection.used_up(batch)
    assert transport.received > received
    connection.close()
    connection.join()
    assert transport.closed.is_set()


# Interrupts.


def test_an_interrupt_while_the_thread_starts_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    # Starting a thread waits for it: a Ctrl-C may well come then.
    transports = MemoryTransports()
    real_start = Connection.start

    def interrupted(self: Connection, listener: Wakeup, *, tell_opening: bool) -> None:
        real_start(self, listener, tell_opening=tell_opening)
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "start", interrupted)
    client = make_client(transports)
    with pytest.raises(KeyboardInterrupt):
        client.query("p")
    assert transports.next_connected().closed.wait(PATIENCE), "the connection is open, and nobody knows of it"


def test_the_default_bound_is_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    made: List[int] = []

    class Recording(BlockingConnection):
        def __init__(self, connect: Callable[[], Any], max_buffered: int) -> None:
            made.append(max_buffered)
            super().__init__(connect, max_buffered)

    monkeypatch.setattr(client_module, "BlockingConnection", Recording)
    assert make_client(answering(RESULT)).query("p").text == "4"
    assert made == [16 * 2**20]


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="looks at reference counts")
def test_a_transport_is_let_go_after_the_call() -> None:
    transport = Failing("nowhere")
    seen = weakref.ref(transport)
    settings: Dict[str, Any] = {"transport": Fixed(transport), "model": "m"}
    RuntimeUseClient(**settings).query("p")
    assert transport.closed.wait(PATIENCE)
    settings.clear()
    del transport
    for _ in range(100):
        gc.collect()
        if seen() is None:
            break
        Wakeup().wait(0.02)
    assert seen() is None


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
    with pytest.raises(ConnectionLostError, match="can't start new thread"):
        make_client(transports).query("2 + 2", timeout=PATIENCE)
    assert transports.next_connected().closed.wait(PATIENCE)
