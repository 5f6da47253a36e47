"""Requests of a session that the caller's thread sends: what the connection's thread must still learn of in time."""

from __future__ import annotations

import threading
from typing import List

import pytest

from runtimeuse_sync import RunTimeoutError
from runtimeuse_sync._socket_connection import SocketConnection
from runtimeuse_sync._turn import Ticket
from runtimeuse_sync._wakeup import Wakeup

from ..servers import Peer
from .helpers import Serve, client_of, echo, end, text, wait


def test_the_deadline_of_a_run_that_nobody_reads(serve: Serve) -> None:
    cancelled = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.expect("cancel_message")
        cancelled.set()
        peer.send(text("late"))
        end(peer)

    with client_of(serve(script), ping_interval=None).session() as session:
        with session.stream("hi", timeout=0.2) as run:
            wait(cancelled)
            with pytest.raises(RunTimeoutError):
                _ = run.result


def test_a_request_that_does_not_fit_at_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    # Short requests always fit into a socket's buffer where no other is under way.
    monkeypatch.setattr("runtimeuse_sync._socket_connection.MAX_DIRECT_SIZE", 1 << 30)
    prompt = "x" * 30_000_000
    with client_of(serve(echo), ping_interval=None).session() as session:
        assert session.query(prompt).text == prompt
        assert session.query("next").text == "next"


def test_nothing_is_lent_while_it_is_decided_what_to_send(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a cancellation could hit the request that a caller sends in between."""
    decide = SocketConnection._take_outgoing
    borrowed: List[bool] = []

    def try_to_borrow(connection: SocketConnection) -> List[bytes]:
        ticket = Ticket(Wakeup())
        outgoing = decide(connection)
        borrowed.append(connection._lending.borrow(ticket))
        connection._lending.give_back(ticket)
        return outgoing

    monkeypatch.setattr(SocketConnection, "_take_outgoing", try_to_borrow)
    with client_of(serve(echo)).session() as session:
        for number in range(5):
            assert session.query(str(number)).text == str(number)
    assert len(borrowed) > 5
    assert not any(borrowed)
