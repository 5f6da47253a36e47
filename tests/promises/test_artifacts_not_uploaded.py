"""Nothing is lost: a file that the runtime could not upload is an error of the call, or of the session's end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadResult,
    ConnectionLostError,
    RuntimeUseClient,
)
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import BOTH, CONFIRM, Serve, client_of, error, text, upload, wait
from ..support.servers import Peer

#: What a runtime says that has given uploads up.
LOST = "1 artifact was not uploaded: a (HTTP status 403)"


def put_anywhere(request: Any) -> ArtifactUploadResult:
    return ArtifactUploadResult(f"http://storage/{request.filename}?sig=hidden", "text/plain")


def run(client: RuntimeUseClient, in_session: bool, answer: Any = put_anywhere, **limits: Any) -> None:
    options: Any = {"artifacts_dir": "/out", "on_artifact_upload_request": answer}
    if not in_session:
        client.query("hi", **options, **limits)
        return
    with client.session(**limits) as session:
        session.query("hi", **options)


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
    assert str(caught.value) == f"the runtime did not confirm the end of the session: {shown}"
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert "hidden" not in str(caught.value.__cause__)
    assert in_session or caught.value.result.text == "done"


@BOTH
def test_a_close_for_another_reason_is_a_lost_connection(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
        peer.close(1001, "the runtime stops")

    with pytest.raises(ConnectionLostError, match="the runtime stops"):
        run(client_of(serve(script)), in_session)


@BOTH
def test_what_was_not_answered_when_the_runtime_gave_up(serve: Serve, in_session: bool) -> None:
    """It names the files that it knows of, and does not wait for answers to more."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
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
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
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
        peer.accept()
        peer.expect("invocation_message")
        peer.send(error("mine"))
        peer.expect("end_session_message")
        peer.close(1011, LOST)

    with pytest.raises(AgentRuntimeError, match="mine"):
        run(client_of(serve(script)), False)
    assert "late artifacts of a failed run may be missing" in caplog.text


def test_where_no_artifacts_were_asked_for_none_are_missed(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
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
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
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
