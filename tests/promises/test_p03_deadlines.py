"""P3: one deadline, for the whole call: wherever the call stands when it passes."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Any, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
)

from ..servers import PATIENCE, Peer, black_hole, free_port
from ..threads import InThread
from .helpers import (
    CANCELLED,
    Serve,
    Stopwatch,
    answer,
    assistant,
    begin_until_cancelled,
    client_of,
    echo,
    end,
    heartbeat,
    recorder,
    text,
    upload,
    wait,
)

#: No deadline may be late by more than this, however busy the machine.
LATE = 5.0


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
            with times_out(0.5):
                caller.query(prompt, timeout=0.5)
        finally:
            over.set()


def test_while_waiting_for_the_answer(serve: Serve) -> None:
    server = serve(silent)
    with times_out(0.3):
        client_of(server).query("hi", timeout=0.3)
    assert server.wait_for("cancel_message")


def test_while_messages_keep_coming(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        while not peer.readable(0.02):
            peer.send(assistant("more"), heartbeat())
        peer.expect("cancel_message")

    with times_out(0.3):
        client_of(serve(script)).query("hi", timeout=0.3, idle_timeout=10)


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
        with times_out(0.3):
            caller.query("hi", timeout=0.3, on_assistant_message=stuck)
    assert finished


def test_a_result_that_comes_too_late_for_a_slow_callback(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"), text("done"))

    with times_out(0.2):
        client_of(serve(script)).query("hi", timeout=0.2, on_assistant_message=lambda _: time.sleep(0.4))


def test_inside_a_callback_with_a_timeout_of_its_own(serve: Serve) -> None:
    release = threading.Event()

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "a")

    def stuck(_: Any) -> None:
        release.wait(PATIENCE)

    try:
        with times_out(0.3):
            client_of(serve(script)).query("hi", timeout=0.3, assistant_callback_timeout=10, on_assistant_message=stuck)
    finally:
        release.set()


def test_callback_timeouts(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/a.txt") if peer.number else assistant("a"))
        peer.expect("cancel_message")

    release = threading.Event()

    def stuck(_: Any) -> Any:
        wait(release)
        return ArtifactUploadResult("http://u", "text/plain")

    client = client_of(serve(script))
    try:
        for number, option in enumerate(["assistant_callback_timeout", "artifact_upload_callback_timeout"]):
            limit: Any = {option: 0.2}
            watch = Stopwatch()
            with pytest.raises(AgentRuntimeError) as caught:
                client.query(
                    "hi",
                    artifacts_dir="/out",
                    on_assistant_message=stuck,
                    on_artifact_upload_request=stuck,
                    **limit,
                )
            assert 0.2 <= watch.seconds < 0.2 + LATE
            metadata = caught.value.metadata or {}
            assert (metadata["timeout_type"], metadata["timeout"]) == (option, 0.2)
            assert not isinstance(caught.value, TimeoutError)
            if number:
                assert (metadata["filename"], metadata["filepath"]) == ("a.txt", "/out/a.txt")
    finally:
        release.set()


def test_an_upload_callback_keeps_the_timeout_that_came_with_it(serve: Serve) -> None:
    """A request that comes during a later call, which has no upload callback, is served by the earlier one's."""
    release = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        answer(peer, peer.receive())
        peer.expect("invocation_message")
        peer.send(upload("/out/a.txt"))
        for message in peer.requests():
            answer(peer, message)
            if message["message_type"] == "cancel_message":
                peer.send(CANCELLED)
            elif message["message_type"] == "artifact_upload_response_message":
                peer.send(text("two"))

    def stuck(_: Any) -> ArtifactUploadResult:
        wait(release)
        return ArtifactUploadResult("http://u", "text/plain")

    with client_of(serve(script)).session() as session:
        session.query(
            "one", artifacts_dir="/out", on_artifact_upload_request=stuck, artifact_upload_callback_timeout=0.2
        )
        threading.Timer(2, release.set).start()
        with pytest.raises(AgentRuntimeError) as caught:
            session.query("two")
        assert (caught.value.metadata or {})["timeout_type"] == "artifact_upload_callback_timeout"
        release.set()


@pytest.mark.parametrize("before", [0, 3])
def test_idle_timeout(serve: Serve, before: int) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        for _ in range(before):
            peer.send(heartbeat())
            assert not peer.readable(0.2)
        peer.expect("cancel_message")

    watch = Stopwatch()
    with pytest.raises(AgentRuntimeError) as caught:
        client_of(serve(script)).execute_commands(["ls"], idle_timeout=0.4)
    least = 0.4 + 0.2 * max(0, before - 1)
    assert least <= watch.seconds < least + LATE
    assert not isinstance(caught.value, TimeoutError)
    assert caught.value.metadata == {
        "timeout_type": "idle_timeout",
        "idle_timeout": 0.4,
        "last_message_type": "heartbeat_message" if before else None,
        "message_count": before,
        "phase": "waiting_for_message",
    }


def test_a_slow_callback_is_no_idle_runtime(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(*[assistant("a")] * 3, text("done"))

    seen, see = recorder()

    def slow(message: Any) -> None:
        time.sleep(0.15)
        see(message)

    result = client_of(serve(script)).query("hi", idle_timeout=0.1, on_assistant_message=slow)
    assert (result.text, len(seen)) == ("done", 3)


def test_the_end_of_a_one_shot_is_within_the_deadline(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")

    def uploads(_: Any) -> ArtifactUploadResult:
        raise AssertionError("nothing was announced")

    with times_out(0.3):
        client_of(serve(script)).query("hi", timeout=0.3, artifacts_dir="/out", on_artifact_upload_request=uploads)


@pytest.mark.parametrize("seconds", [0, -1, 0.0, -0.5, float("nan"), -float("inf")])
@pytest.mark.parametrize(
    "name",
    [
        "timeout",
        "idle_timeout",
        "assistant_callback_timeout",
        "artifact_upload_callback_timeout",
        "end_session_timeout",
    ],
)
def test_what_is_no_time_is_a_value_error(name: str, seconds: float) -> None:
    client = RuntimeUseClient("ws://127.0.0.1:1", model="m")
    limit: Any = {name: seconds}
    with pytest.raises(ValueError, match=name):
        client.query("hi", **limit)
    with pytest.raises(ValueError, match=name):
        client.execute_commands(["ls"], **limit)


@pytest.mark.parametrize("name", ["connect_timeout", "ping_interval", "ping_timeout"])
def test_what_is_no_time_for_a_client(name: str) -> None:
    for seconds in (0, -1, float("nan")):
        limit: Any = {name: seconds}
        with pytest.raises(ValueError, match=name):
            RuntimeUseClient("ws://127.0.0.1:1", **limit)


@pytest.mark.parametrize("seconds", [None, float("inf"), sys.float_info.max, 1e300, 10**30, 1e-6 + 1e9])
def test_very_long_is_no_limit(serve: Serve, seconds: Any) -> None:
    client = client_of(serve(echo), ping_interval=seconds, connect_timeout=seconds or 10)
    assert client.query("hi", timeout=seconds, idle_timeout=seconds, end_session_timeout=seconds).text == "hi"
    with client.session(end_session_timeout=seconds) as session:
        assert session.query("hi", timeout=seconds).text == "hi"
