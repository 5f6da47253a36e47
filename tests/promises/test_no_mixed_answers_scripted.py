"""No mixed answers, against a scripted runtime that does, move by move, what PROTOCOL.md warns of."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    CancelledException,
    RunTimeoutError,
    RuntimeUseSession,
)
from runtimeuse_sync._session.barrier import PROBE_INTERVAL

from ..support.builders import (
    BUSY,
    CANCELLED,
    LATE,
    SOON,
    Serve,
    Stopwatch,
    answer_all,
    assistant,
    begin_until_cancelled,
    client_of,
    end,
    error,
    interrupt_when,
    next_and_end,
    output,
    ran,
    recorder,
    text,
    upload,
    wait,
)
from ..support.servers import PATIENCE, Peer
from ..support.threads import InThread


class CallbackFailed(Exception):
    pass


def leave_by_timeout(session: RuntimeUseSession) -> None:
    with pytest.raises(RunTimeoutError):
        session.query("old", timeout=SOON)


def leave_by_abort(session: RuntimeUseSession) -> None:
    with pytest.raises(CancelledException):
        session.query("old", on_assistant_message=lambda _: session.abort())


def leave_by_callback(session: RuntimeUseSession) -> None:
    def fail(_: Any) -> None:
        raise CallbackFailed

    with pytest.raises(CallbackFailed):
        session.query("old", on_assistant_message=fail)


def leave_by_interrupt(session: RuntimeUseSession) -> None:
    begun = threading.Event()
    interrupter = interrupt_when(begun)
    with pytest.raises(KeyboardInterrupt):
        session.query("old", on_assistant_message=lambda _: begun.set())
    interrupter.result()


def leave_by_idle_timeout(session: RuntimeUseSession) -> None:
    with pytest.raises(AgentRuntimeError) as caught:
        session.query("old", idle_timeout=SOON)
    assert (caught.value.metadata or {})["timeout_type"] == "idle_timeout"


def leave_by_callback_timeout(session: RuntimeUseSession) -> None:
    release = threading.Event()
    try:
        with pytest.raises(AgentRuntimeError) as caught:
            session.query("old", on_assistant_message=lambda _: wait(release), assistant_callback_timeout=0.1)
        assert (caught.value.metadata or {})["timeout_type"] == "assistant_callback_timeout"
    finally:
        release.set()


def leave_by_breaking_out(session: RuntimeUseSession) -> None:
    with session.stream("old") as run:
        for _ in run:
            break


LEAVES = [
    leave_by_timeout,
    leave_by_abort,
    leave_by_callback,
    leave_by_interrupt,
    leave_by_idle_timeout,
    leave_by_callback_timeout,
    leave_by_breaking_out,
]


def obeys(peer: Peer) -> None:
    peer.send(CANCELLED)
    peer.expect_barrier()
    peer.send(ran())


def ignores_cancel_and_answers(peer: Peer) -> None:
    # Longer than the client waits before it asks: it asks, and is refused.
    # In one piece: soon after a refusal it asks again, unless the old request has ended.
    peer.expect_barrier()
    peer.send(assistant("still"), error(BUSY), output("at it"), text("old"))


def ignores_cancel_and_fails(peer: Peer) -> None:
    peer.expect_barrier()
    peer.send(error(BUSY), error("old failed"))
    peer.expect_barrier()
    peer.send(ran())


def answers_at_once(peer: Peer) -> None:
    peer.send(text("old"))


def fails_twice(peer: Peer) -> None:
    peer.send(error("one"))
    peer.send(error("two"))
    peer.expect_barrier()
    peer.send(ran())


def asks_for_uploads(peer: Peer) -> None:
    peer.send(upload("/out/a"), CANCELLED)
    peer.expect_barrier()
    peer.send(upload("/out/b"), ran())


QUICK_ENDS = [obeys, answers_at_once, fails_twice]
SLOW_ENDS = [ignores_cancel_and_answers, ignores_cancel_and_fails]


@pytest.mark.parametrize(
    ("leave", "afterwards"),
    [
        *[(leave, afterwards) for leave in LEAVES for afterwards in QUICK_ENDS],
        *[(leave_by_abort, afterwards) for afterwards in SLOW_ENDS],
    ],
)
def test_the_next_call_gets_its_own_answer(
    serve: Serve, leave: Callable[[RuntimeUseSession], None], afterwards: Callable[[Peer], None]
) -> None:
    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "old")
        afterwards(peer)
        next_and_end(peer)

    with client_of(serve(script)).session() as session:
        leave(session)
        seen, see = recorder()
        assert session.query("next", on_assistant_message=see, on_command_output=see, timeout=15).text == "next"
        assert seen == []


def test_an_upload_request_of_the_old_call_is_kept_for_the_next(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "old")
        asks_for_uploads(peer)
        peer.expect("invocation_message")
        for name in ("a", "b"):
            response = peer.expect("artifact_upload_response_message")
            assert (response["filename"], response["filepath"]) == (name, f"/out/{name}")
        peer.send(text("next"))
        end(peer)

    with client_of(serve(script)).session() as session:
        leave_by_abort(session)
        result = session.query(
            "next",
            artifacts_dir="/out",
            on_artifact_upload_request=lambda request: ArtifactUploadResult(request.filename, "text/plain"),
            timeout=15,
        )
        assert result.text == "next"


def test_a_next_call_waits_within_its_own_deadline(serve: Serve) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "old")
        wait(over)
        peer.send(text("old"))
        next_and_end(peer)

    with client_of(serve(script)).session() as session:
        leave_by_abort(session)
        watch = Stopwatch()
        with pytest.raises(RunTimeoutError):
            session.query("between", timeout=0.3)
        assert 0.3 <= watch.seconds < 0.3 + LATE
        over.set()
        assert session.query("next", timeout=15).text == "next"


def test_calls_of_both_kinds_in_turn(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        answer_all(peer)

    with client_of(serve(script)).session() as session:
        threads: List[InThread] = []
        for number in range(20):
            threads.append(InThread(session.query, f"q{number}"))
            threads.append(InThread(session.execute_commands, [f"c{number}"]))
        for number in range(20):
            assert threads[2 * number].result().text == f"q{number}"
            assert threads[2 * number + 1].result().results[0].command == f"c{number}"


def test_short_calls_one_after_another_do_not_keep_a_session_waiting(serve: Serve) -> None:
    """The runtime has lost a request, and each of the next calls ends before it would be asked about that."""

    asked_at: List[float] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.expect("cancel_message")
        peer.expect_barrier()
        asked_at.append(time.monotonic())
        peer.send(ran())
        answer_all(peer)

    with client_of(serve(script)).session() as session:
        with pytest.raises(RunTimeoutError):
            session.query("lost", timeout=SOON)
        lost_at = time.monotonic()
        answer = ""
        watch = Stopwatch()
        while not answer:
            assert watch.seconds < PATIENCE
            with contextlib.suppress(RunTimeoutError):
                answer = session.query("next", timeout=0.3).text
        assert answer == "next"
    # Far longer than one of the calls; the time to be asked runs from a moment before the call ended.
    assert asked_at[0] - lost_at > PROBE_INTERVAL / 2, "it was asked at once"
