"""Subclasses of `WebSocketTransport`: what they override is used."""

from __future__ import annotations

import queue
from typing import Any, Iterator, List, Optional

import pytest

from runtimeuse_sync import RuntimeUseClient, WebSocketTransport
from runtimeuse_sync.testing import FakeConnection, FakeRuntime, Message, text_result

from ...support.transports import RESULT

NOWHERE = "ws://127.0.0.1:1/?token=hunter2"


def test_its_connect_is_used() -> None:
    fake = FakeRuntime([text_result("1"), text_result("2")])

    class Connecting(WebSocketTransport):
        def connect(self) -> Any:
            return FakeConnection(fake)

    client = RuntimeUseClient(transport=Connecting(NOWHERE), model="m")
    assert repr(client) == "RuntimeUseClient('ws://127.0.0.1:1')"
    client.wait_until_ready(5)
    assert client.query("p", timeout=5).text == "1"
    with client.session() as session:
        assert session.query("p", timeout=5).text == "2"


def test_a_connect_that_is_set_on_the_object_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = WebSocketTransport(NOWHERE)
    monkeypatch.setattr(transport, "connect", FakeRuntime([text_result("1")]).connect)
    assert RuntimeUseClient(transport=transport, model="m").query("p", timeout=5).text == "1"


def test_its_call_operator_is_used_by_one_shots() -> None:
    asked: List[Optional[Message]] = []

    class Calling(WebSocketTransport):
        def __call__(self, send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
            asked.append(send_queue.get())
            yield RESULT

    assert RuntimeUseClient(transport=Calling(NOWHERE), model="m").query("p", timeout=5).text == "4"
    assert [each and each["user_prompt"] for each in asked] == ["p"]


def test_one_that_overrides_both_is_called_for_one_shots() -> None:
    fake = FakeRuntime([text_result("by connect")])

    class Both(WebSocketTransport):
        def connect(self) -> Any:
            return FakeConnection(fake)

        def __call__(self, send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
            send_queue.get()
            yield RESULT

    client = RuntimeUseClient(transport=Both(NOWHERE), model="m")
    assert client.query("p", timeout=5).text == "4"
    with client.session() as session:
        assert session.query("p", timeout=5).text == "by connect"


def test_one_that_overrides_neither_is_a_websocket() -> None:
    class Named(WebSocketTransport):
        def __init__(self) -> None:
            super().__init__(NOWHERE, connect_timeout=0.5)

    client = RuntimeUseClient(transport=Named(), model="m")
    with pytest.raises(ConnectionError, match="connection refused"):
        client.query("p", timeout=5)


@pytest.mark.parametrize("name", ["connect_timeout", "handshake_timeout"])
def test_a_timeout_can_be_set_later(name: str) -> None:
    transport = WebSocketTransport(NOWHERE)
    setattr(transport, name, 3.0)
    assert getattr(transport, name) == 3.0
    with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
        setattr(transport, name, 0)
    assert getattr(transport, name) == 3.0


def test_max_buffered_can_be_set_later() -> None:
    transport = WebSocketTransport(NOWHERE)
    transport.max_buffered = 5
    assert transport.max_buffered == 5
    assert transport.connection().inbox.max_bytes == 5
