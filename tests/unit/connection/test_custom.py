"""The connection over a custom transport: callables, persistent transports, and how much is received ahead."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Callable, Iterator, List, Optional

import pytest

from runtimeuse_sync import client as client_module
from runtimeuse_sync._call import Wakeup
from runtimeuse_sync._connection import custom
from runtimeuse_sync._connection.custom import CustomConnection, connector, is_persistent
from runtimeuse_sync.errors import ConnectionLostError, RuntimeConnectionError

from ...support.doubles import MemoryTransport, MemoryTransports, Message
from ...support.servers import PATIENCE
from ...support.threads import InThread
from ...support.transports import RESULT, answering, make_client

DONE: Message = {
    "message_type": "command_execution_result_message",
    "results": [{"command": "ls", "exit_code": 0, "stdout": "x"}],
}


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


def test_a_plain_function_as_transport() -> None:
    # It takes the request before it returns what it answers: nothing says that it must not.
    def transport(send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
        send_queue.get(timeout=PATIENCE)
        return iter([DONE])

    assert make_client(transport).execute_commands(["ls"], timeout=PATIENCE).results[0].stdout == "x"


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


def test_one_shots_call_a_transport_that_has_both() -> None:
    class Both(MemoryTransports):
        def __call__(self, send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
            send_queue.get()
            yield RESULT

    transports = Both()
    client = make_client(transports)
    client.wait_until_ready(PATIENCE)
    assert transports.next_connected().closed.wait(PATIENCE)
    assert client.query("p", timeout=PATIENCE).text == "4"
    assert transports.made.empty(), "the one-shot has connected"
    session = client.session().open()
    transports.next_connected().say({"message_type": "end_session_confirm_message"})
    session.close()


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
    connection = CustomConnection(lambda: transport, 20_000)
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


def test_closed_while_the_sender_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = MemoryTransport()
    connection = CustomConnection(lambda: transport, 20_000)
    before = {thread.ident for thread in threading.enumerate()}

    class Started(threading.Event):
        # Where a thread has its `ident`, and cannot be joined yet.
        def set(self) -> None:
            connection.close()
            closer = next(thread for thread in threading.enumerate() if thread.name.endswith("-closer"))
            assert closer.ident not in before
            closer.join(0.1)
            alive.append(closer.is_alive())
            super().set()

    alive: List[bool] = []

    def new_thread(target: Callable[..., object], name: str, *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
        if name.endswith("-sender"):
            monkeypatch.setattr(thread, "_started", Started())
        return thread

    monkeypatch.setattr(custom, "new_thread", new_thread)
    connection.start(Wakeup())
    connection.join()
    assert alive == [True]
    assert transport.closed.is_set()


def test_the_default_bound_is_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    made: List[int] = []

    class Recording(CustomConnection):
        def __init__(self, connect: Callable[[], Any], max_buffered: int) -> None:
            made.append(max_buffered)
            super().__init__(connect, max_buffered)

    monkeypatch.setattr(client_module, "CustomConnection", Recording)
    assert make_client(answering(RESULT)).query("p").text == "4"
    assert made == [16 * 2**20]
