"""Nothing is lost: late uploads that fail, are answered too late, or are given up by the runtime.

Each is an error of the call, or of the session's end.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadResult,
    CancelledException,
    ConnectionLostError,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseSession,
)
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import (
    BOTH,
    CONFIRM,
    Serve,
    Stopwatch,
    client_of,
    error,
    put_anywhere,
    text,
    until_end,
    upload,
    wait,
)
from ..support.servers import Peer

FILES = ["/out/a", "/out/b", "/out/c"]

#: The close reason of a runtime that has given uploads up.
LOST = "1 artifact was not uploaded: a (HTTP status 403)"


def run(
    client: RuntimeUseClient,
    in_session: bool,
    answer: Callable[[Any], ArtifactUploadResult] = put_anywhere,
    sessions: Optional[List[RuntimeUseSession]] = None,
    **limits: Any,
) -> None:
    """Makes a query, alone or on a session, which is appended to `sessions`."""
    options: Any = {"artifacts_dir": "/out", "on_artifact_upload_request": answer}
    if not in_session:
        client.query("hi", **options, **limits)
        return
    with client.session(**limits) as session:
        if sessions is not None:
            sessions.append(session)
        session.query("hi", **options)


def announce(peer: Peer) -> None:
    """Answers a query, and announces all files at its session's end."""
    until_end(peer, text("done"))
    peer.send(*map(upload, FILES))


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
        run(client_of(serve(script)), in_session, answer)
    lost = FILES["abc".index(kept_waiting) :]
    assert caught.value.filepaths == lost
    assert all(path in str(caught.value) for path in lost)
    assert asked[-1] == kept_waiting
    assert in_session or caught.value.result.text == "done"


@BOTH
def test_a_runtime_that_gave_up_before_the_first_was_asked_for(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(*map(upload, FILES), CONFIRM)
        assert peer.until_gone() == []

    def never(request: Any) -> ArtifactUploadResult:
        raise AssertionError(request)

    with pytest.raises(ArtifactUploadError) as caught:
        run(client_of(serve(script)), in_session, never)
    assert caught.value.filepaths == FILES


@pytest.mark.parametrize(
    ("in_session", "limit"), [(False, "timeout"), (False, "end_session_timeout"), (True, "end_session_timeout")]
)
def test_a_limit_that_passes_between_late_uploads(serve: Serve, in_session: bool, limit: str) -> None:
    def script(peer: Peer) -> None:
        announce(peer)
        peer.until_gone()

    asked: List[str] = []

    def answer(request: Any) -> ArtifactUploadResult:
        asked.append(request.filename)
        # From here on, as the limit begins before: on a busy machine the test itself may have begun long before that.
        watch = Stopwatch()
        while watch.seconds < 1.0:
            threading.Event().wait(1.0 - watch.seconds)
        return put_anywhere(request)

    limits: Any = {limit: 0.9}
    with pytest.raises(RunTimeoutError):
        run(client_of(serve(script)), in_session, answer, **limits)
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
        run(client, in_session, answer, sessions)
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
        run(client_of(serve(script)), in_session, answer)
    if isinstance(caught.value, ArtifactUploadError):
        assert caught.value.filepaths == ["/out/a"]
        assert caught.value.__cause__ is error
    else:
        assert caught.value is error


@BOTH
@pytest.mark.parametrize("said", [LOST, "", "1 artifact was not uploaded: a, sig=hidden"])
def test_what_the_runtime_gave_up(serve: Serve, in_session: bool, said: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/a"), text("done"))
        peer.expect("artifact_upload_response_message")
        peer.expect("end_session_message")
        peer.close(1011, said)

    with pytest.raises(ArtifactUploadError) as caught:
        run(client_of(serve(script)), in_session)
    shown = said.replace("sig=hidden", "[REDACTED]") or "it closed the connection because of an internal error"
    assert caught.value.args[0] == f"the runtime did not confirm the end of the session: {shown}"
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert "hidden" not in str(caught.value.__cause__)
    assert in_session or caught.value.result.text == "done"


@BOTH
def test_a_close_for_another_reason_is_a_lost_connection(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.close(1001, "the runtime stops")

    with pytest.raises(ConnectionLostError, match="the runtime stops"):
        run(client_of(serve(script)), in_session)


@BOTH
def test_what_was_not_answered_when_the_runtime_gave_up(serve: Serve, in_session: bool) -> None:
    """It names the files that it knows of, and does not wait for answers to more."""

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(upload("/out/a"), upload("/out/b"))
        peer.close(1011, LOST)

    asked: List[str] = []

    def answer(request: Any) -> ArtifactUploadResult:
        asked.append(request.filename)
        return put_anywhere(request)

    with pytest.raises(ArtifactUploadError) as caught:
        run(client_of(serve(script)), in_session, answer)
    assert [*map("/out/".__add__, asked), *caught.value.filepaths][-1:] == ["/out/b"]
    assert LOST in str(caught.value)


@BOTH
def test_the_callbacks_own_failure_comes_first(serve: Serve, in_session: bool) -> None:
    class Refused(Exception):
        pass

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(upload("/out/a"), upload("/out/b"))
        peer.expect("artifact_upload_response_message")
        peer.close(1011, LOST)

    def answer(request: Any) -> ArtifactUploadResult:
        if request.filename == "a":
            raise Refused("mine")
        return put_anywhere(request)

    with pytest.raises(ArtifactUploadError if in_session else Refused) as caught:
        run(client_of(serve(script)), in_session, answer)
    if isinstance(caught.value, ArtifactUploadError):
        assert caught.value.filepaths == ["/out/a"]
        assert isinstance(caught.value.__cause__, Refused)


def test_a_failed_run_stays_what_it_is(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        until_end(peer, error("mine"))
        peer.close(1011, LOST)

    with pytest.raises(AgentRuntimeError, match="mine"):
        run(client_of(serve(script)), False)
    assert "late artifacts of a failed run may be missing" in caplog.text


def test_where_no_artifacts_were_asked_for_none_are_missed(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.close(1011, "the end of the session failed: LookupError")

    with client_of(serve(script)).session() as session:
        assert session.query("hi").text == "done"


@BOTH
def test_the_embedded_runtime_says_which(runtime: LocalRuntime, in_session: bool, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "a").write_text("x")
    options: Any = {
        "artifacts_dir": str(tmp_path / "out"),
        "on_artifact_upload_request": lambda _: ArtifactUploadResult("http://127.0.0.1:1/a?sig=hidden", "text/plain"),
    }
    client = client_of(runtime)

    def call() -> None:
        if not in_session:
            client.execute_commands(["true"], **options)
            return
        with client.session() as session:
            session.execute_commands(["true"], **options)

    with pytest.raises(ArtifactUploadError, match=r"1 artifact was not uploaded: a \(ConnectionError\)"):
        call()


def test_answers_that_come_after_the_confirmation(serve: Serve) -> None:
    """It is behind more announcements than are taken before some of them are answered."""
    paths = [f"/{number:01000}" for number in range(80)]
    read = threading.Event()

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(*map(upload, paths), CONFIRM)
        peer.until_read()
        read.set()
        peer.until_gone()

    asked: List[str] = []

    def answer(request: Any) -> ArtifactUploadResult:
        asked.append(request.filepath)
        wait(read)
        return put_anywhere(request)

    with pytest.raises(ArtifactUploadError, match="did not wait until 80 ") as caught:
        run(client_of(serve(script), max_buffered=200_000), False, answer)
    assert caught.value.filepaths == paths
    # As many were answered as had to be, to have room for the rest.
    assert len(asked) > 1
