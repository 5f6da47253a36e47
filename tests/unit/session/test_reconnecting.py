"""Reconnecting, interrupted before every step: nothing is sent twice or left behind, and the next call is right."""

from __future__ import annotations

import contextlib
import functools
import itertools
import queue
import threading
from types import CodeType, SimpleNamespace
from typing import Any, Iterator, List

import pytest

from runtimeuse_sync import CancelledException, RuntimeUseClient, RuntimeUseSession
from runtimeuse_sync._connection.base import Connection, Outgoing
from runtimeuse_sync._connection.inbox import Inbox
from runtimeuse_sync._connection.websocket import WebSocketConnection
from runtimeuse_sync._session.channel import Channel
from runtimeuse_sync._session.reconnecting import ReconnectingChannel

from ...support.builders import answer, client_of
from ...support.doubles import Interrupt, Runner, at_every_step, interrupt
from ...support.servers import PATIENCE, FaultServer, Peer
from ...support.threads import when


def inner(function: Any, name: str) -> Any:
    """Returns a function that is defined inside of another."""
    codes = [const for const in function.__code__.co_consts if isinstance(const, CodeType) and const.co_name == name]
    return SimpleNamespace(__code__=codes[0], __qualname__=f"{function.__qualname__}.{name}")


FUNCTIONS: List[Any] = [
    ReconnectingChannel.enter,
    ReconnectingChannel.begin,
    ReconnectingChannel._made,
    ReconnectingChannel._may_reconnect,
    ReconnectingChannel._reconnect,
    inner(ReconnectingChannel._reconnect, "open_it"),
    ReconnectingChannel._replacement,
    ReconnectingChannel._replace_connection,
    Channel._set_up,
    Channel.take_turn,
    Channel.wait_until_open,
    Channel.nothing_sent,
    Channel.leave,
    Connection.start,
    Connection.join,
    WebSocketConnection.poke,
]


#: Those that only run where the request has been begun before the cut is noticed.
LATE_FUNCTIONS: List[Any] = [
    ReconnectingChannel.next_batch,
    ReconnectingChannel.begin,
    ReconnectingChannel._made,
    ReconnectingChannel._may_reconnect,
    ReconnectingChannel._reconnect,
    inner(ReconnectingChannel._reconnect, "open_it"),
    ReconnectingChannel._replacement,
    ReconnectingChannel._replace_connection,
    Channel._set_up,
    Channel.check_connection,
    Channel.next_batch,
    Channel.nothing_sent,
    Channel.leave,
    Outgoing.withdraw,
]

#: Those that only run where connecting again ends early.
UNDOING_FUNCTIONS: List[Any] = [
    inner(ReconnectingChannel._reconnect, "give_up"),
    Connection.fail,
    Connection.join,
    Inbox.fail,
]

FUNCTION_NAMES: Any = {"ids": lambda function: function.__qualname__}


class Cutter:
    """A script that cuts the connection after each answer to "cut", at once or when told to, and says so."""

    def __init__(self) -> None:
        self.cuts: queue.Queue[int] = queue.Queue()
        self.now: queue.Queue[None] = queue.Queue()

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            answer(peer, message)
            if message.get("user_prompt") == "cut":
                self.now.get(timeout=PATIENCE)
                peer.cut()
                self.cuts.put(peer.number)
                return

    def cut(self, session: RuntimeUseSession) -> None:
        """Has the connection cut, and returns when the client has noticed it."""
        assert session.query("cut").text == "cut"
        channel: Any = session._channel
        self._cut()
        when(lambda: channel.connection.inbox.closed)

    def cut_late(self, session: RuntimeUseSession) -> None:
        """Has the connection cut just before the next request goes into the outbox."""
        assert session.query("cut").text == "cut"
        channel: Any = session._channel
        connection = channel.connection
        submit_once = connection.submit_once
        pending = [None]

        def cut_and_submit(outgoing: Outgoing) -> None:
            if pending:
                pending.clear()
                self._cut()
            submit_once(outgoing)

        connection.submit_once = cut_and_submit

    def _cut(self) -> None:
        self.now.put(None)
        self.cuts.get(timeout=PATIENCE)


@contextlib.contextmanager
def cut_sessions() -> Iterator[Any]:
    cutter = Cutter()
    with FaultServer(cutter) as server:
        with client_of(server).session(reconnect=True) as session:
            yield session, cutter
        asked = [message["user_prompt"] for message in server.said("invocation_message")]
    asked = [prompt for prompt in asked if prompt != "cut"]
    assert len(set(asked)) == len(asked), "a request was sent twice"
    assert [prompt for prompt in asked if prompt.startswith("next")] == [
        f"next {number}" for number in range(sum(prompt.startswith("next") for prompt in asked))
    ]


@pytest.mark.parametrize("function", FUNCTIONS, **FUNCTION_NAMES)
def test_an_interrupt_at_any_step(function: Any) -> None:
    with cut_sessions() as (session, cutter):
        for number, run in enumerate(at_every_step(function, interrupt)):
            cutter.cut(session)
            interrupted_and_next(session, run, number)


@pytest.mark.parametrize("function", LATE_FUNCTIONS, **FUNCTION_NAMES)
def test_an_interrupt_at_any_step_after_the_request_was_begun(function: Any) -> None:
    with cut_sessions() as (session, cutter):
        for number, run in enumerate(at_every_step(function, interrupt)):
            cutter.cut_late(session)
            interrupted_and_next(session, run, number)


def interrupted_and_next(session: RuntimeUseSession, run: Runner, number: int) -> None:
    raised = False
    try:
        run(lambda: session.query(f"interrupted {number}"))
    except Interrupt:
        raised = True
    assert raised == run.reached, "the interrupt is lost"
    assert session.query(f"next {number}").text == f"next {number}"


@pytest.mark.parametrize("function", UNDOING_FUNCTIONS, **FUNCTION_NAMES)
def test_an_interrupt_at_any_step_while_connecting_is_given_up(function: Any) -> None:
    with cut_sessions() as (session, cutter):
        for number, run in enumerate(at_every_step(function, interrupt)):
            cutter.cut(session)
            with pytest.raises((Interrupt, CancelledException)) as caught:
                run(functools.partial(_aborted_while_connecting, session))
            assert (caught.type is Interrupt) == run.reached
            assert session.query(f"next {number}").text == f"next {number}"


def _aborted_while_connecting(session: RuntimeUseSession) -> None:
    channel: Any = session._channel

    def abort_and_check(call: Any) -> None:
        call.abort()
        call.check()

    channel.wait_until_open = abort_and_check
    try:
        session.query("aborted")
    finally:
        del channel.wait_until_open


# Who decides about a request that may just be leaving.


def test_a_request_is_taken_or_withdrawn_never_both() -> None:
    for decide in itertools.permutations(["take", "withdraw"]):
        outgoing = Outgoing(b"{}")
        first, second = (getattr(outgoing, name) for name in decide)
        assert first()
        assert not second()
        assert first()
        assert outgoing.taken == (decide[0] == "take")


@pytest.mark.parametrize("function", [Outgoing.take, Outgoing.withdraw])
def test_another_thread_decides_at_any_step(function: Any) -> None:
    decided: List[bool] = []
    outgoing = Outgoing(b"{}")

    def act() -> None:
        decided.append(outgoing.withdraw() if function is Outgoing.take else outgoing.take())

    for run in at_every_step(function, act):
        outgoing = Outgoing(b"{}")
        decided.clear()
        run(lambda: decided.append(function(outgoing)))  # noqa: B023  # run at once
        if run.reached:
            assert decided.count(True) == 1


class SlowToEnd:
    """A persistent transport whose first connection ends while its request is on the way to `send`."""

    def __init__(self) -> None:
        self.sent: List[str] = []
        self.connections = 0

    def connect(self) -> Any:
        self.connections += 1
        return _SlowConnection(self, first=self.connections == 1)


class _SlowConnection:
    def __init__(self, transport: SlowToEnd, *, first: bool) -> None:
        self._transport, self._first = transport, first
        self._incoming: queue.Queue[Any] = queue.Queue()
        self.sending = threading.Event()

    def send(self, message: Any) -> None:
        prompt = message.get("user_prompt", message["message_type"])
        self._transport.sent.append(prompt)
        if self._first and prompt == "two":
            self._incoming.put(None)
            return
        done = {"message_type": "result_message", "data": {"type": "text", "text": prompt}, "metadata": {}}
        self._incoming.put(done if "user_prompt" in message else None)

    def receive(self) -> Any:
        return self._incoming.get()

    def close(self) -> None:
        self._incoming.put(None)


def test_what_a_custom_transport_was_given_counts_as_sent() -> None:
    transport = SlowToEnd()
    with RuntimeUseClient(transport=transport, model="m").session(reconnect=True) as session:
        assert session.query("one").text == "one"
        with pytest.raises(ConnectionError, match="the request counts as sent"):
            session.query("two")
        assert session.query("three").text == "three"
    assert transport.sent == ["one", "two", "three", "end_session_message"]
