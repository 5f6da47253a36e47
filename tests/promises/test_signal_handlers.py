"""Ctrl-C: what a signal handler raises is raised from the call, whatever its class, and not taken for anything else.

`tests/reliability/test_interrupts.py` does the same at random instants, in processes of their own.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
from typing import Any, Callable, List, Type

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadResult,
    CancelledException,
    ConnectionLostError,
    RunTimeoutError,
    RuntimeUseSession,
)
from runtimeuse_sync._call import Wakeup

from ..support.builders import CONFIRM, Serve, client_of, error, on_alarm, put_anywhere, ring, text, until_end, upload
from ..support.servers import PATIENCE, Peer
from ..support.threads import InThread, wait_until_inside


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
        until_end(peer, error("it failed"))
        ring()

    def keep(_: object) -> ArtifactUploadResult:
        raise AssertionError("nothing is uploaded")

    with on_alarm(alarm), pytest.raises((Alarm, AgentRuntimeError)) as caught:
        client_of(serve(script)).query("hi", artifacts_dirs=["/out"], on_artifact_upload_request=keep)
    assert caught.type is Alarm


# Leaving a session whose body has raised. What the handler raises may be of any class, also one of ours.


class SoftTimeLimitExceeded(Exception):
    """As Celery's."""


RAISED: List[Type[BaseException]] = [
    SoftTimeLimitExceeded,
    TimeoutError,
    KeyboardInterrupt,
    SystemExit,
    RunTimeoutError,
    CancelledException,
    ConnectionLostError,
    ArtifactUploadError,
]


def leave_after_an_error(session: RuntimeUseSession, body: Exception, **options: Any) -> None:
    with session:
        session.query("hi", **options)
        raise body


@pytest.fixture
def usr1() -> Any:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("artifacts", [False, True])
@pytest.mark.parametrize("kind", RAISED)
def test_leaving_a_session_whose_body_has_raised(
    serve: Serve, usr1: None, kind: Type[BaseException], artifacts: bool
) -> None:
    ending = threading.Event()

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        ending.set()
        peer.until_gone()

    body, mine = LookupError("the body's"), kind("mine")
    options: Any = {"artifacts_dir": "/out", "on_artifact_upload_request": put_anywhere} if artifacts else {}
    session = client_of(serve(script)).session()
    main = threading.get_ident()

    def handle(*_: object) -> None:
        raise mine

    signal.signal(signal.SIGUSR1, handle)

    def send() -> None:
        # Once the end is announced, what waits is what waits for its confirmation.
        assert ending.wait(PATIENCE)
        wait_until_inside(main, Wakeup.wait.__code__)
        os.kill(os.getpid(), signal.SIGUSR1)

    sender = InThread(send)
    with pytest.raises(kind) as caught:
        leave_after_an_error(session, body, **options)
    assert caught.value is mine
    assert mine.__context__ is body
    assert "closed" in repr(session)
    sender.result()


@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize("kind", RAISED)
def test_while_a_late_upload_is_answered(serve: Serve, usr1: None, kind: Type[BaseException], in_session: bool) -> None:
    """The handler runs in the middle of the callback: it is not the callback that has failed."""

    def script(peer: Peer) -> None:
        until_end(peer, text("done") if in_session else error("it failed"))
        peer.send(upload("/out/a"), upload("/out/b"))
        peer.until_gone()

    mine = kind("mine")
    asked: List[str] = []

    def answer(request: Any) -> ArtifactUploadResult:
        asked.append(request.filename)
        os.kill(os.getpid(), signal.SIGUSR1)
        threading.Event().wait(PATIENCE)
        return put_anywhere(request)

    def handle(raised: BaseException, *_: object) -> None:
        raise raised

    signal.signal(signal.SIGUSR1, functools.partial(handle, mine))
    options: Any = {"artifacts_dir": "/out", "on_artifact_upload_request": answer}
    client = client_of(serve(script))

    def call() -> None:
        if in_session:
            leave_after_an_error(client.session(), LookupError("the body's"), **options)
        else:
            client.query("hi", **options)

    with pytest.raises(kind) as caught:
        call()
    assert caught.value is mine
    assert asked == ["a"]


def test_what_is_our_own_stays_below_the_bodys_error(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that fails, and a runtime that is gone: told in the log, and the body's error comes out."""

    def fails(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(upload("/out/a"), CONFIRM)
        peer.until_gone()

    def is_gone(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.cut()

    def fail(_: object) -> ArtifactUploadResult:
        raise TimeoutError("the callback's")

    scripts: List[Callable[[Peer], None]] = [fails, is_gone]
    for script in scripts:
        body = LookupError("the body's")
        session = client_of(serve(script)).session()
        with caplog.at_level(logging.WARNING), pytest.raises(LookupError) as caught:
            leave_after_an_error(session, body, artifacts_dir="/out", on_artifact_upload_request=fail)
        assert caught.value is body
    told = [record.message for record in caplog.records]
    assert told == [
        f"the session did not end well after LookupError: {kind}"
        for kind in ("ArtifactUploadError", "ConnectionLostError")
    ]
