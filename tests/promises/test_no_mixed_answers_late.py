"""No mixed answers: late answers, refusals and the barrier are never taken for the next call's."""

from __future__ import annotations

import threading
from typing import Any, Callable

import pytest

from runtimeuse_sync import AgentRuntimeError, ProtocolError, RuntimeUseSession

from ..support.builders import BUSY, CANCELLED, Serve, answer_all, client_of, error, next_and_end, ran, text, wait
from ..support.servers import Peer


def late_result(peer: Peer) -> None:
    peer.send(error("first"))
    peer.expect_barrier()
    peer.send(text("late"), ran())


def late_result_after_refusal(peer: Peer) -> None:
    peer.send(error("first"))
    peer.expect_barrier()
    peer.send(error(BUSY))
    peer.expect("cancel_message")
    peer.send(text("late"))


def second_error(peer: Peer) -> None:
    peer.send(error("first"), error("second"))
    peer.expect_barrier()
    peer.send(ran())


def second_error_after_refusal(peer: Peer) -> None:
    peer.send(error("first"))
    peer.expect_barrier()
    peer.send(error(BUSY))
    peer.expect("cancel_message")
    peer.send(CANCELLED)
    peer.expect_barrier()
    peer.send(ran())


@pytest.mark.parametrize("moves", [late_result, late_result_after_refusal, second_error, second_error_after_refusal])
@pytest.mark.parametrize("pause", [False, True])
def test_after_an_error_with_something_behind_it(serve: Serve, moves: Callable[[Peer], None], pause: bool) -> None:
    moved = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        moves(peer)
        moved.set()
        next_and_end(peer)

    with client_of(serve(script)).session() as session:
        with pytest.raises(AgentRuntimeError) as caught:
            session.query("old")
        assert caught.value.error == "first"
        if pause:  # the connection comes to rest with nobody there
            wait(moved)
        assert session.query("next", timeout=15).text == "next"


def test_the_barrier_repeats_the_secrets_and_knows_a_redacted_refusal(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(error("first"))
        peer.expect_barrier(("flight",))
        peer.send(error(BUSY.replace("flight", "[REDACTED]")))
        peer.expect("cancel_message")
        peer.send(text("late"))
        next_and_end(peer)

    with client_of(serve(script)).session() as session:
        with pytest.raises(AgentRuntimeError):
            session.query("old", secrets_to_redact=["flight"])
        assert session.query("next", timeout=15).text == "next"


def abort_late(session: RuntimeUseSession) -> None:
    run = session.stream("old")
    with pytest.raises(AgentRuntimeError), run:
        _ = run.result
    run.abort()  # It has ended: without effect.


def outlive_the_deadline(session: RuntimeUseSession) -> None:
    with pytest.raises(AgentRuntimeError):
        session.query("old", timeout=1.0)


@pytest.mark.parametrize(("late", "quiet"), [(abort_late, 0.4), (outlive_the_deadline, 1.4)])
def test_no_late_cancel_hits_the_barrier(serve: Serve, late: Callable[[RuntimeUseSession], None], quiet: float) -> None:
    """A runtime takes a cancel behind the barrier for the barrier's: it answers that by an error, as any request."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(error("first"))
        peer.expect_barrier()
        if peer.readable(quiet):
            peer.expect("cancel_message")
            peer.send(CANCELLED)
            peer.expect_barrier()
        peer.send(ran())
        next_and_end(peer)

    with client_of(serve(script)).session() as session:
        late(session)
        assert session.query("next", timeout=10).text == "next"


@pytest.mark.parametrize(
    "wrong",
    [ran("ls"), {"message_type": "result_message", "data": {"type": "text"}}, {"message_type": "error_message"}],
)
def test_an_answer_that_cannot_be_is_a_protocol_error(serve: Serve, wrong: Any) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(wrong)
        answer_all(peer)

    with client_of(serve(script)).session() as session:
        with pytest.raises(ProtocolError):
            session.query("old")
        assert session.query("next", timeout=15).text == "next"
