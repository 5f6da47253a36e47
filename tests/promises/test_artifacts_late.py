"""Nothing is lost: answers to late upload requests that come too late or fail; limits that pass between them."""

from __future__ import annotations

import threading
from typing import Any, Callable, List, Optional

import pytest

from runtimeuse_sync import (
    ArtifactUploadError,
    ArtifactUploadResult,
    CancelledException,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseSession,
)

from ..support.builders import BOTH, CONFIRM, Serve, Stopwatch, client_of, text, upload, wait
from ..support.servers import Peer

Answer = Callable[[Any], ArtifactUploadResult]

FILES = ["/out/a", "/out/b", "/out/c"]


def put_anywhere(request: Any) -> ArtifactUploadResult:
    return ArtifactUploadResult(f"http://storage/{request.filename}", "text/plain")


def announce(peer: Peer) -> None:
    """Answers a query, and announces all files at its session's end."""
    peer.accept()
    peer.expect("invocation_message")
    peer.send(text("done"))
    peer.expect("end_session_message")
    peer.send(*map(upload, FILES))


def run(
    client: RuntimeUseClient,
    answer: Answer,
    in_session: bool,
    sessions: Optional[List[RuntimeUseSession]] = None,
    **limits: Any,
) -> None:
    """Makes a query, alone or on a session, which `sessions` gets."""
    options: Any = {"artifacts_dir": "/out", "on_artifact_upload_request": answer}
    if not in_session:
        client.query("hi", **options, **limits)
        return
    with client.session(**limits) as session:
        if sessions is not None:
            sessions.append(session)
        session.query("hi", **options)


@BOTH
@pytest.mark.parametrize("kept_waiting", ["b", "c"])
def test_files_that_the_runtime_did_not_wait_for(serve: Serve, in_session: bool, kept_waiting: str) -> None:
    asking, given_up = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        announce(peer)
        for _ in range("abc".index(kept_waiting)):
            peer.expect("artifact_upload_response_message")
        wait(asking)
        peer.send(CONFIRM)
        peer.until_read()
        given_up.set()
        assert peer.until_gone() == []

    asked: List[str] = []

    def answer(request: Any) -> ArtifactUploadResult:
        asked.append(request.filename)
        if request.filename == kept_waiting:
            asking.set()
            wait(given_up)
        return put_anywhere(request)

    with pytest.raises(ArtifactUploadError) as caught:
        run(client_of(serve(script)), answer, in_session)
    lost = FILES["abc".index(kept_waiting) :]
    assert caught.value.filepaths == lost
    assert all(path in str(caught.value) for path in lost)
    assert asked[-1] == kept_waiting
    assert in_session or caught.value.result.text == "done"


@BOTH
def test_a_runtime_that_gave_up_before_the_first_was_asked_for(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
        peer.send(*map(upload, FILES), CONFIRM)
        assert peer.until_gone() == []

    def never(request: Any) -> ArtifactUploadResult:
        raise AssertionError(request)

    with pytest.raises(ArtifactUploadError) as caught:
        run(client_of(serve(script)), never, in_session)
    assert caught.value.filepaths == FILES


@pytest.mark.parametrize(
    ("in_session", "limit"), [(False, "timeout"), (False, "end_session_timeout"), (True, "end_session_timeout")]
)
def test_a_limit_that_passes_between_late_uploads(serve: Serve, in_session: bool, limit: str) -> None:
    def script(peer: Peer) -> None:
        announce(peer)
        peer.until_gone()

    asked: List[str] = []
    watch = Stopwatch()

    def answer(request: Any) -> ArtifactUploadResult:
        asked.append(request.filename)
        while watch.seconds < 1.0:
            threading.Event().wait(1.0 - watch.seconds)
        return put_anywhere(request)

    limits: Any = {limit: 0.9}
    with pytest.raises(RunTimeoutError):
        run(client_of(serve(script)), answer, in_session, **limits)
    assert asked == ["a"]


@BOTH
def test_an_abort_between_late_uploads(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        announce(peer)
        peer.until_gone()

    client = client_of(serve(script))
    sessions: List[RuntimeUseSession] = []
    asked: List[str] = []

    def answer(request: Any) -> ArtifactUploadResult:
        asked.append(request.filename)
        abortable: List[Any] = [*sessions] or [client]
        for aborted in abortable:
            aborted.abort()
        return put_anywhere(request)

    with pytest.raises(CancelledException):
        run(client, answer, in_session, sessions)
    assert asked == ["a"]


@BOTH
@pytest.mark.parametrize("error", [RunTimeoutError("another's"), CancelledException("another's")])
def test_a_callback_that_raises_what_another_call_ended_by(serve: Serve, in_session: bool, error: Exception) -> None:
    def script(peer: Peer) -> None:
        announce(peer)
        for _ in range(2):
            peer.expect("artifact_upload_response_message")
        peer.send(CONFIRM)

    def answer(request: Any) -> ArtifactUploadResult:
        if request.filename == "a":
            raise error
        return put_anywhere(request)

    with pytest.raises(ArtifactUploadError if in_session else type(error)) as caught:
        run(client_of(serve(script)), answer, in_session)
    if isinstance(caught.value, ArtifactUploadError):
        assert caught.value.filepaths == ["/out/a"]
        assert caught.value.__cause__ is error
    else:
        assert caught.value is error
