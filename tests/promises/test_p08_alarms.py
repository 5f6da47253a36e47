"""P8: a signal handler that raises a `TimeoutError`, as alarms do: it comes out, and the session stays right."""

from __future__ import annotations

import random
import signal
from typing import List

import pytest

from runtimeuse_sync import AgentRuntimeError, ArtifactUploadResult, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

from ..servers import Peer
from .helpers import Serve, client_of, error, on_alarm


class Alarm(TimeoutError):
    """What the handler raises: an `OSError`, which must not be taken for the operating system's."""


def ring() -> None:
    raise Alarm("mine")


def test_at_random_instants() -> None:
    chance = random.Random("alarms")
    rang: List[bool] = []
    seen: List[bool] = []

    def handler(*_: object) -> None:
        rang.append(True)
        raise Alarm("mine")

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        with LocalRuntime("echo") as runtime, RuntimeUseClient(runtime.ws_url, model="m").session() as session:
            for number in range(300):
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00005, 0.0015))
                    try:
                        assert session.query(f"call {number}").text == f"call {number}"
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Alarm:
                    seen.append(True)
                assert session.query(f"next {number}").text == f"next {number}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert rang
    assert len(seen) == len(rang)


def test_while_a_session_ends(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("end_session_message")

    session = client_of(serve(script)).session().open()
    with on_alarm(0.2, ring), pytest.raises(Alarm, match="mine"):
        session.close()


def test_while_the_session_of_a_failed_one_shot_ends(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(error("it failed"))
        peer.expect("end_session_message")

    def keep(_: object) -> ArtifactUploadResult:
        raise AssertionError("nothing is uploaded")

    with on_alarm(0.3, ring), pytest.raises((Alarm, AgentRuntimeError)) as caught:
        client_of(serve(script)).query("hi", artifacts_dirs=["/out"], on_artifact_upload_request=keep)
    assert caught.type is Alarm
