"""One deadline: the timeouts beside it, of callbacks and of an idle runtime, and which values are valid."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import pytest

from runtimeuse_sync import AgentRuntimeError, ArtifactUploadResult, RuntimeUseClient

from ..support.builders import (
    CANCELLED,
    LATE,
    Serve,
    Stopwatch,
    answer,
    assistant,
    client_of,
    echo,
    heartbeat,
    recorder,
    text,
    upload,
    wait,
)
from ..support.servers import Peer


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
            if message["message_type"] == "end_session_message":
                peer.expect("artifact_upload_response_message")
            answer(peer, message)
            if message["message_type"] == "cancel_message":
                peer.send(CANCELLED)

    def stuck(_: Any) -> ArtifactUploadResult:
        wait(release)
        return ArtifactUploadResult("http://u", "text/plain")

    with client_of(serve(script)).session() as session:
        session.query(
            "one", artifacts_dir="/out", on_artifact_upload_request=stuck, artifact_upload_callback_timeout=0.2
        )
        try:
            with pytest.raises(AgentRuntimeError) as caught:
                session.query("two")
        finally:
            release.set()
        assert (caught.value.metadata or {})["timeout_type"] == "artifact_upload_callback_timeout"


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
        client_of(serve(script)).execute_commands(["ls"], idle_timeout=1.0)
    least = 1.0 + 0.2 * max(0, before - 1)
    assert least <= watch.seconds < least + LATE
    assert not isinstance(caught.value, TimeoutError)
    assert caught.value.metadata == {
        "timeout_type": "idle_timeout",
        "idle_timeout": 1.0,
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

    def slow_at_first(message: Any) -> None:
        if not seen:
            time.sleep(1.1)
        see(message)

    result = client_of(serve(script)).query("hi", idle_timeout=1.0, on_assistant_message=slow_at_first)
    assert (result.text, len(seen)) == ("done", 3)


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
