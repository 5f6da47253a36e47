"""Custom transports that do not react even to `close`: aborts and deadlines take effect at once all the same."""

from __future__ import annotations

import gc
import queue
import threading
import time
import warnings
from contextlib import asynccontextmanager, contextmanager
from typing import Any, AsyncIterator, Iterator, List, Optional

import pytest

from runtimeuse_sync import RuntimeUseClient, WebSocketTransport
from runtimeuse_sync._connection import custom
from runtimeuse_sync._connection.custom import CustomConnection
from runtimeuse_sync.errors import CancelledException, RunTimeoutError

from ...support.doubles import BlockingTransport, MemoryTransport, MemoryTransports, Message
from ...support.servers import PATIENCE, free_port
from ...support.threads import InThread, when
from ...support.transports import RESULT, make_client


class Unmoved(BlockingTransport):
    """A transport that is its own connection, and may also block as it connects or closes."""

    def connect(self) -> Unmoved:
        self.perhaps_block("connect")
        return self

    def close(self) -> None:
        self.perhaps_block("close")
        super().close()


@pytest.fixture(params=["connect", "send", "receive", "close"])
def unmoved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unmoved]:
    # Long, so that whoever waits for the transport is told apart from a busy machine.
    monkeypatch.setattr(CustomConnection, "join_timeout", 4 * PATIENCE)
    transport = Unmoved(request.param)
    yield transport
    transport.go_on.set()


def test_a_deadline(unmoved: Unmoved) -> None:
    start = time.monotonic()
    with pytest.raises(RunTimeoutError):
        make_client(unmoved).query("p", timeout=0.05)
    assert time.monotonic() - start < PATIENCE


def test_an_abort(unmoved: Unmoved) -> None:
    client = make_client(unmoved)
    caller = InThread(lambda: client.query("p"))
    if unmoved.where == "close":
        unmoved.next_sent()
    else:
        assert unmoved.blocked.wait(PATIENCE)
    client.abort()
    assert isinstance(caller.error(), CancelledException)


def test_a_run_that_is_left(unmoved: Unmoved) -> None:
    def leave() -> None:
        with make_client(unmoved).stream("p", timeout=PATIENCE):
            raise OSError("left")

    if unmoved.where == "connect":
        unmoved.go_on.set()
    assert isinstance(InThread(leave).error(), OSError)


def test_an_idle_timeout(unmoved: Unmoved) -> None:
    if unmoved.where == "connect":
        unmoved.go_on.set()
    start = time.monotonic()
    with pytest.raises(Exception, match=r"No message received"):
        make_client(unmoved).query("p", idle_timeout=0.05)
    assert time.monotonic() - start < PATIENCE


def test_an_answer_that_has_come_is_not_held_back_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CustomConnection, "join_timeout", 4 * PATIENCE)
    transport = Unmoved("close")
    transport.say(RESULT)
    start = time.monotonic()
    assert make_client(transport).query("p", timeout=2).text == "4"
    assert time.monotonic() - start < PATIENCE
    transport.go_on.set()


def test_one_that_reacts_is_gone_when_the_call_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    # Long, so that a busy machine does not pass for a transport that is stuck.
    monkeypatch.setattr(CustomConnection, "join_timeout", PATIENCE)
    monkeypatch.setattr(custom, "_STUCK_AFTER", PATIENCE)

    def threads() -> List[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("runtimeuse-connection")]

    transports = MemoryTransports()
    client = make_client(transports)
    caller = InThread(lambda: (client.query("p"), threads()))
    transports.next_connected().say(RESULT)
    assert caller.result()[1] == []


def test_a_subclass_of_the_websocket_that_is_called_ends_at_once() -> None:
    class Calling(WebSocketTransport):
        def __call__(self, send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
            yield from super().__call__(send_queue)

    with free_port() as port:
        transport = Calling(f"ws://127.0.0.1:{port}", connect_timeout=20 * PATIENCE)
        before = set(threading.enumerate())
        with pytest.raises(RunTimeoutError):
            make_client(transport).query("p", timeout=0.2)
        until = time.monotonic() + PATIENCE
        for thread in set(threading.enumerate()) - before:
            thread.join(max(0.0, until - time.monotonic()))
            assert not thread.is_alive(), thread.name


# What is no connection.


async def coroutine(*_: Any) -> None: ...


async def async_generator(*_: Any) -> AsyncIterator[Message]:
    yield RESULT


def generator(*_: Any) -> Iterator[Message]:
    yield RESULT


class AsyncMethods:
    async def send(self, message: Message) -> None: ...

    async def receive(self) -> Optional[Message]: ...

    async def close(self) -> None: ...


NO_CONNECTIONS: List[Any] = [
    (contextmanager(generator), "_GeneratorContextManager, which has no send and no receive and no close"),
    (asynccontextmanager(async_generator), "_AsyncGeneratorContextManager, which has no send"),
    (generator, "generator, which has no receive"),
    (async_generator, "async_generator, which has no send"),
    (coroutine, "coroutine, which has no receive"),
    (lambda: None, "NoneType, which has no send"),
    (AsyncMethods, "AsyncMethods, which has a coroutine function for send"),
]


@pytest.mark.parametrize(("connect", "said"), NO_CONNECTIONS, ids=[said.split(",")[0] for _, said in NO_CONNECTIONS])
def test_what_connect_returns_must_be_a_connection(connect: Any, said: str) -> None:
    class Wrong:
        def connect(self) -> Any:
            return connect()

    client = make_client(Wrong())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (
            lambda: client.query("p", timeout=PATIENCE),
            lambda: client.session().open(),
            lambda: client.wait_until_ready(PATIENCE),
        ):
            with pytest.raises(TypeError, match=f"connect\\(\\) returned a {said}.*methods send, receive and close"):
                call()
        gc.collect()


@pytest.mark.parametrize(
    ("transport", "said"),
    [(coroutine, "coroutine"), (async_generator, "async_generator"), (lambda send_queue: None, "NoneType")],
    ids=["coroutine", "async_generator", "None"],
)
def test_what_a_transport_returns_that_is_called_must_be_an_iterator(transport: Any, said: str) -> None:
    with pytest.raises(TypeError, match=f"returned a {said} when it was called: it must return an iterator"):
        RuntimeUseClient(transport=transport, model="m").query("p", timeout=PATIENCE)
    gc.collect()


@pytest.mark.parametrize("where", ["connect", "send", "receive"])
@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyError("odd"), SystemExit("odd"), StopIteration("odd")], ids=repr
)
def test_its_own_exceptions_are_the_cause(where: str, error: BaseException) -> None:
    class Raising(MemoryTransport):
        def connect(self) -> Raising:
            self._perhaps_raise("connect")
            return self

        def _perhaps_raise(self, here: str) -> None:
            if here == where:
                raise error

        def send(self, message: Message) -> None:
            self._perhaps_raise("send")

        def receive(self) -> Optional[Message]:
            self._perhaps_raise("receive")
            return super().receive()

    with pytest.raises(ConnectionError, match="odd") as caught:
        make_client(Raising()).query("p", timeout=PATIENCE)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_whatever_its_close_raises_is_logged(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    class Raising(MemoryTransport):
        def connect(self) -> Raising:
            return self

        def close(self) -> None:
            super().close()
            raise error

    transport = Raising()
    transport.say(RESULT)
    assert make_client(transport).query("p", timeout=PATIENCE).text == "4"
    when(lambda: f"closing the transport failed: {type(error).__name__}" in caplog.text)
