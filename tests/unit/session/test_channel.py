"""Requests on one connection, step by step, where order matters most: no answers are mixed up."""

from __future__ import annotations

import functools
import json
import logging
from typing import Any, List, Tuple
from unittest import mock

import pytest

from runtimeuse_sync._call import Call
from runtimeuse_sync._connection import inbox
from runtimeuse_sync._connection.base import Connection
from runtimeuse_sync._session.channel import Channel
from runtimeuse_sync._session.protocol import Protocol, State
from runtimeuse_sync._session.turns import Ticket
from runtimeuse_sync._wire.fixed_texts import BUSY_ERROR

from ...support.doubles import FakeClock, IdleConnection, Interrupt, at_every_step, interrupt

_LOGGER = logging.getLogger("runtimeuse_sync")


def _error(text: str) -> str:
    return json.dumps({"message_type": "error_message", "error": text})


def _types(payloads: List[bytes]) -> List[str]:
    return [json.loads(payload)["message_type"] for payload in payloads]


def _channel() -> Tuple[IdleConnection, Channel]:
    connection = IdleConnection()
    return connection, Channel(connection, "ws://model", [], _LOGGER, persistent=True)


def _start_commands(connection: IdleConnection, channel: Channel) -> Tuple[Call, Ticket]:
    call = Call("command execution", None)
    ticket = Ticket(call.wakeup)
    channel.enter(call, ticket)
    channel.begin(
        call, b'{"message_type": "command_execution_message"}', "command_execution_result_message", [], _LOGGER
    )
    assert _types(connection.take_outgoing()) == ["command_execution_message"]
    return call, ticket


def test_no_cancel_follows_the_barrier() -> None:
    # An error arrives together with the abort. A cancellation after the barrier would cancel the barrier, which would
    # then never be answered.
    connection, channel = _channel()
    call, ticket = _start_commands(connection, channel)
    channel.leave(call, ticket)  # aborted, or its deadline has passed
    connection.hand_in([_error("it failed")])
    assert channel.protocol.state is State.PROBING
    outgoing = _types(connection.take_outgoing())
    assert outgoing.count("command_execution_message") == 1
    assert outgoing[-1] == "command_execution_message"
    assert _types(connection.take_outgoing()) == []


def test_no_cancel_follows_the_barrier_when_the_deadline_of_a_failed_call_passes() -> None:
    clock = FakeClock()
    connection = IdleConnection(clock=clock)
    channel = Channel(connection, "ws://model", [], _LOGGER, persistent=True)
    call = Call("query", 5.0, clock)
    ticket = Ticket(call.wakeup)
    channel.enter(call, ticket)
    channel.begin(call, b'{"message_type": "invocation_message"}', "result_message", [], _LOGGER)
    connection.take_outgoing()
    connection.hand_in([_error("it failed")])
    batch = connection.inbox.first()
    assert batch is not None
    channel.use_next(batch)
    channel.leave(call, ticket)
    assert _types(connection.take_outgoing()) == ["command_execution_message"]
    clock.advance(10)
    assert _types(connection.take_outgoing()) == []


@pytest.mark.parametrize("state", State)
def test_an_upload_request_is_kept_in_every_state(state: State) -> None:
    connection, channel = _channel()
    channel.protocol.state = state
    request = {"message_type": "artifact_upload_request_message", "filename": "a", "filepath": "/a"}
    connection.inbox.put([json.dumps(request)])
    channel.use_all_queued()
    assert [kept.filepath for kept in channel.uploads.kept] == ["/a"]


@pytest.mark.parametrize("function", [Channel.begin, Protocol.begin, Connection.submit_once, Connection.has_got])
def test_a_request_that_an_interrupt_kept_from_being_sent_is_owed_nothing(function: Any) -> None:
    for run in at_every_step(function, interrupt):
        connection, channel = _channel()
        call = Call("query", None)
        ticket = Ticket(call.wakeup)
        channel.enter(call, ticket)
        try:
            run(functools.partial(channel.begin, call, b"{}", "result_message", [], _LOGGER))
        except Interrupt:
            pass
        channel.leave(call, ticket)
        sent = b"{}" in connection.take_outgoing()
        assert channel.protocol.state is (State.ABANDONED if sent else State.FREE)


def test_a_refusal_used_twice_does_not_make_the_session_free_too_early() -> None:
    connection, channel = _channel()
    call, ticket = _start_commands(connection, channel)
    channel.leave(call, ticket)
    connection.take_outgoing()
    connection.hand_in([_error("the agent's own")])
    assert _types(connection.take_outgoing())[0] == "command_execution_message"
    connection.hand_in([_error("the agent's own, again")])
    assert channel.protocol.state is State.DOUBTFUL
    # The next call uses the refusal of the first barrier. Ctrl-C comes before the position in the batch moves on.
    next_call = Call("query", None)
    next_ticket = Ticket(next_call.wakeup)
    channel.take_turn(next_call, next_ticket)
    with mock.patch.object(inbox, "Batch", _BatchInterruptedOnce):
        connection.hand_in([_error(BUSY_ERROR)])
    batch = connection.inbox.first()
    assert batch is not None
    with pytest.raises(KeyboardInterrupt):
        channel.use_next(batch)
    channel.leave(next_call, next_ticket)
    connection.look_after()
    # The old request, which still ran, ends. The second barrier is not answered yet.
    barriers = _types(connection.take_outgoing()).count("command_execution_message")
    result = {"message_type": "command_execution_result_message", "results": [{"command": "old", "exit_code": 0}]}
    connection.hand_in([json.dumps(result)])
    barriers += _types(connection.take_outgoing()).count("command_execution_message")
    assert barriers <= 1
    assert not (barriers and _is_free(channel.protocol))


def _is_free(protocol: Protocol) -> bool:
    return protocol.state is State.FREE


class _BatchInterruptedOnce(inbox.Batch):
    __slots__ = ("_interrupted", "_position")

    @property
    def position(self) -> int:
        return self._position

    @position.setter
    def position(self, value: int) -> None:
        if value and not hasattr(self, "_interrupted"):
            self._interrupted = True
            raise KeyboardInterrupt
        self._position = value
