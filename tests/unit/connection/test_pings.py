"""The pings that callers ask for: each is sent once, answered by its own pong, and forgotten in spite of interrupts."""

from __future__ import annotations

from types import CodeType, SimpleNamespace
from typing import Any

import pytest

from runtimeuse_sync._connection.pings import AskedPing, AskedPings
from runtimeuse_sync._connection.websocket import WebSocketConnection

from ...support.builders import client_of, echo
from ...support.doubles import Interrupt, at_every_step, interrupt
from ...support.servers import FaultServer


def was_woken(ping: AskedPing) -> bool:
    woken: bool = ping.wakeup._lock.acquire(blocking=False)
    return woken


def test_each_ping_is_sent_once_and_answered_by_its_own_pong() -> None:
    pings = AskedPings()
    first, second = AskedPing(), AskedPing()
    assert pings.due() == []
    pings.ask(first)
    assert pings.due() == [first.payload]
    pings.ask(second)
    assert pings.due() == [second.payload]
    assert pings.due() == []
    pings.answer(second.payload)
    assert (first.answered, second.answered) == (False, True)
    assert (was_woken(first), was_woken(second)) == (False, True)
    # The keepalive's have four bytes.
    assert {len(first.payload), len(second.payload)} == {8}


def test_no_pong_answers_a_ping_that_is_not_sent_or_forgotten() -> None:
    pings = AskedPings()
    ping = AskedPing()
    pings.ask(ping)
    pings.answer(ping.payload)
    pings.answer(b"another")
    assert not ping.answered
    pings.forget(ping)
    pings.forget(ping)
    assert pings.due() == []
    pings.answer(ping.payload)
    assert not ping.answered


def test_the_end_of_the_connection_wakes_all() -> None:
    pings = AskedPings()
    waiting = [AskedPing() for _ in range(3)]
    for ping in waiting:
        pings.ask(ping)
    pings.wake_all()
    assert all(map(was_woken, waiting))
    assert not any(ping.answered for ping in waiting)


def inner(function: Any, name: str) -> Any:
    [code] = [const for const in function.__code__.co_consts if isinstance(const, CodeType) and const.co_name == name]
    return SimpleNamespace(__code__=code)


@pytest.mark.parametrize(
    "function",
    [
        WebSocketConnection.is_alive,
        inner(WebSocketConnection.is_alive, "wait"),
        inner(WebSocketConnection.is_alive, "<lambda>"),
        AskedPings.ask,
        AskedPings.forget,
    ],
    ids=["is_alive", "wait", "clean-up", "ask", "forget"],
)
def test_an_interrupt_at_any_step_leaves_no_ping(function: Any) -> None:
    with FaultServer(echo) as server, client_of(server).session() as session:
        channel: Any = session._channel
        for run in at_every_step(function, interrupt):
            raised = False
            try:
                run(lambda: session.is_healthy(60))
            except Interrupt:
                raised = True
            assert raised == run.reached
            assert channel.connection._asked_pings._waiting == {}
        assert session.is_healthy(60)
        assert session.query("one").text == "one"
