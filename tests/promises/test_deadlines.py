"""One deadline for the whole call, wherever the call is when the deadline passes."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, List

import pytest

from runtimeuse_sync import ArtifactUploadResult, RuntimeConnectionError, RunTimeoutError, RuntimeUseClient

from ..support.builders import (
    LATE,
    SOON,
    Serve,
    Stopwatch,
    assistant,
    begin_until_cancelled,
    client_of,
    end,
    heartbeat,
    text,
    until_end,
    wait,
)
from ..support.servers import PATIENCE, Peer, black_hole, free_port
from ..support.threads import InThread


@contextlib.contextmanager
def times_out(seconds: float) -> Any:
    watch = Stopwatch()
    with pytest.raises(TimeoutError) as caught:
        yield caught
    assert seconds <= watch.seconds < seconds + LATE
    assert isinstance(caught.value, RunTimeoutError)


def silent(peer: Peer) -> None:
    peer.accept()


def test_while_connecting_to_nobody() -> None:
    with black_hole() as port:
        client = RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m")
        with times_out(0.3):
            client.query("hi", timeout=0.3)


def test_while_the_connection_is_refused() -> None:
    with free_port() as port:
        client = RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m")
        with times_out(0.3):
            client.query("hi", timeout=0.3)


def test_while_nobody_answers_the_handshake(serve: Serve) -> None:
    server = serve(lambda peer: peer.read_request())
    with times_out(0.3):
        client_of(server).query("hi", timeout=0.3)


def test_connect_timeout_is_a_connection_error_and_says_why() -> None:
    with black_hole() as port:
        watch = Stopwatch()
        with pytest.raises(RuntimeConnectionError, match=r"no connection within 0\.3 s"):
            RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m", connect_timeout=0.3).query("hi")
        assert 0.3 <= watch.seconds < 0.3 + LATE


@pytest.mark.parametrize("session", [False, True])
def test_while_sending_to_a_peer_that_never_reads(serve: Serve, session: bool) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        wait(over)
        peer.cut(reset=True)

    client = client_of(serve(script))
    prompt = "x" * (12 << 20)  # more than the buffers of two sockets hold
    with client.session(end_session_timeout=0.5) if session else contextlib.nullcontext(client) as caller:
        try:
            with times_out(SOON):
                caller.query(prompt, timeout=SOON)
        finally:
            over.set()


def test_while_waiting_for_the_answer(serve: Serve) -> None:
    server = serve(silent)
    with times_out(SOON):
        client_of(server).query("hi", timeout=SOON)
    assert server.wait_for("cancel_message")


def test_while_messages_keep_coming(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        while not peer.readable(0.02):
            peer.send(assistant("more"), heartbeat())
        peer.expect("cancel_message")

    with times_out(SOON):
        client_of(serve(script)).query("hi", timeout=SOON, idle_timeout=10)


def test_while_waiting_for_the_turn(serve: Serve) -> None:
    over, asked = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        asked.set()
        wait(over)
        peer.send(text("first"))
        assert peer.expect("invocation_message")["user_prompt"] == "third"
        peer.send(text("third"))
        end(peer)

    with client_of(serve(script)).session() as session:
        first = InThread(session.query, "first")
        wait(asked)
        with times_out(0.3):
            session.query("second", timeout=0.3)
        over.set()
        assert first.result().text == "first"
        assert session.query("third").text == "third"


@pytest.mark.parametrize("one_shot", [True, False])
def test_inside_a_callback_the_runtime_is_told_at_once(serve: Serve, one_shot: bool) -> None:
    """The caller's thread is stuck; the cancel leaves without it."""
    cancelled = threading.Event()

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "a")
        cancelled.set()
        if not one_shot:
            peer.send(text("late"))
            end(peer)

    def stuck(_: Any) -> None:
        wait(cancelled)
        finished.append(True)

    finished: List[bool] = []
    client = client_of(serve(script))
    with contextlib.nullcontext(client) if one_shot else client.session() as caller:
        with times_out(SOON):
            caller.query("hi", timeout=SOON, on_assistant_message=stuck)
    assert finished


def test_a_result_that_comes_too_late_for_a_slow_callback(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"), text("done"))

    with times_out(SOON):
        client_of(serve(script)).query("hi", timeout=SOON, on_assistant_message=lambda _: time.sleep(SOON))


def test_inside_a_callback_with_a_timeout_of_its_own(serve: Serve) -> None:
    release = threading.Event()

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "a")

    def stuck(_: Any) -> None:
        release.wait(PATIENCE)

    try:
        with times_out(SOON):
            client_of(serve(script)).query(
                "hi", timeout=SOON, assistant_callback_timeout=10, on_assistant_message=stuck
            )
    finally:
        release.set()


def test_the_end_of_a_one_shot_is_within_the_deadline(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        until_end(peer, text("done"))

    def uploads(_: Any) -> ArtifactUploadResult:
        raise AssertionError("nothing was announced")

    with times_out(SOON):
        client_of(serve(script)).query("hi", timeout=SOON, artifacts_dir="/out", on_artifact_upload_request=uploads)


def test_a_deadline_while_connecting_says_why(serve: Serve) -> None:
    with free_port() as port, pytest.raises(RunTimeoutError, match="last attempt: connection refused"):
        RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m").query("hi", timeout=SOON)
