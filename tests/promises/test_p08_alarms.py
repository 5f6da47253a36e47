"""P8: a signal handler that raises a `TimeoutError`, as alarms do: it comes out, and is not taken for anything else.

At random instants it comes in processes of their own (`tests/reliability/test_interrupts.py`).
"""

from __future__ import annotations

import pytest

from runtimeuse_sync import AgentRuntimeError, ArtifactUploadResult

from ..servers import Peer
from .helpers import Serve, client_of, error, on_alarm, ring


class Alarm(TimeoutError):
    """What the handler raises: an `OSError`, which must not be taken for the operating system's."""


def alarm() -> None:
    raise Alarm("mine")


def test_while_a_session_ends(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("end_session_message")
        ring()

    session = client_of(serve(script)).session().open()
    with on_alarm(alarm), pytest.raises(Alarm, match="mine"):
        session.close()


def test_while_the_session_of_a_failed_one_shot_ends(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(error("it failed"))
        peer.expect("end_session_message")
        ring()

    def keep(_: object) -> ArtifactUploadResult:
        raise AssertionError("nothing is uploaded")

    with on_alarm(alarm), pytest.raises((Alarm, AgentRuntimeError)) as caught:
        client_of(serve(script)).query("hi", artifacts_dirs=["/out"], on_artifact_upload_request=keep)
    assert caught.type is Alarm
