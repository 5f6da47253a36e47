"""Nothing is lost: late artifacts."""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path
from typing import Any, Deque, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadResult,
    CommandFailedError,
    ConnectionLostError,
    RunTimeoutError,
)
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import (
    CONFIRM,
    LATE,
    SOON,
    Serve,
    Stopwatch,
    client_of,
    end,
    error,
    put_anywhere,
    ran,
    text,
    until_end,
    upload,
    wait,
)
from ..support.servers import Peer
from ..support.storage import Storage


def take_upload(peer: Peer, filepath: str) -> None:
    response = peer.expect("artifact_upload_response_message")
    assert response == {
        "message_type": "artifact_upload_response_message",
        "filename": filepath.rsplit("/", 1)[-1],
        "filepath": filepath,
        "presigned_url": f"http://storage/{filepath.rsplit('/', 1)[-1]}?sig=hidden",
        "content_type": "text/plain",
    }


class Refused(Exception):
    pass


def test_a_query_whose_last_act_writes_a_file(runtime: LocalRuntime, storage: Storage, tmp_path: Path) -> None:
    result = client_of(runtime).query(
        "sleep 0.1; echo report > out/report.txt; echo done",
        artifacts_dirs=["out"],
        on_artifact_upload_request=storage.upload_result,
        timeout=30,
    )
    assert result.text == "done\n"
    assert storage.stored == {"/report.txt": b"report\n"}
    assert storage.content_types == {"/report.txt": "text/plain"}


def test_a_command_whose_last_act_writes_a_file(runtime: LocalRuntime, storage: Storage) -> None:
    client_of(runtime).execute_commands(
        ["sleep 0.1; echo report > out/report.txt"],
        artifacts_dir="out",
        on_artifact_upload_request=storage.upload_result,
        timeout=30,
    )
    assert storage.stored == {"/report.txt": b"report\n"}


@pytest.mark.parametrize("how", ["fails", "agent fails"])
def test_the_files_of_a_run_that_failed(runtime: LocalRuntime, storage: Storage, how: str) -> None:
    client = client_of(runtime)
    options: Any = {"artifacts_dir": "out", "on_artifact_upload_request": storage.upload_result, "timeout": 30}
    script = "sleep 0.1; echo log > out/log.txt; exit 3"
    call: Any = {
        "fails": lambda: client.execute_commands([script], **options),
        "agent fails": lambda: client.query(script, **options),
    }[how]
    with pytest.raises(AgentRuntimeError) as caught:
        call()
    assert isinstance(caught.value, CommandFailedError) == (how == "fails")
    assert storage.stored == {"/log.txt": b"log\n"}


def test_between_calls_and_at_the_end_of_a_session(runtime: LocalRuntime, storage: Storage, tmp_path: Path) -> None:
    options: Any = {"artifacts_dirs": ["out"], "on_artifact_upload_request": storage.upload_result, "timeout": 30}
    with client_of(runtime).session() as session:
        session.execute_commands(["true"], **options)
        channel: Any = session._channel
        announced = threading.Event()

        class Kept(Deque[Any]):
            def append(self, request: Any) -> None:
                super().append(request)
                announced.set()

        channel.uploads.kept = Kept()
        (tmp_path / "out" / "between.txt").write_text("between")
        wait(announced)
        assert [request.filename for request in channel.uploads.kept] == ["between.txt"]
        session.execute_commands(["sleep 0.1"])
        session.execute_commands(["echo late > out/late.txt"])
    assert storage.stored == {"/between.txt": b"between", "/late.txt": b"late\n"}


def test_ignored_content(runtime: LocalRuntime, storage: Storage) -> None:
    client_of(runtime).execute_commands(
        ["sleep 0.1; echo 1 > out/a.log; echo 2 > out/a.txt"],
        artifacts_dirs=["out"],
        artifacts_ignore_content="*.log\n",
        timeout=30,
        on_artifact_upload_request=storage.upload_result,
    )
    assert storage.stored == {"/a.txt": b"2\n"}


def test_uploads_are_served_during_the_end_of_a_one_shot(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        assert peer.expect("invocation_message")["artifacts_dirs"] == ["/a", "/b"]
        peer.send(upload("/a/one"), text("done"), upload("/a/two"))
        take_upload(peer, "/a/one")
        peer.expect("end_session_message")
        take_upload(peer, "/a/two")
        peer.send(upload("/b/three"))
        take_upload(peer, "/b/three")
        peer.send(CONFIRM)

    result = client_of(serve(script)).query("hi", artifacts_dirs=["/a", "/b"], on_artifact_upload_request=put_anywhere)
    assert result.text == "done"


def test_without_artifacts_a_one_shot_does_not_wait_for_an_end(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        assert peer.until_gone() == []

    assert client_of(serve(script)).query("hi").text == "done"


def test_end_session_timeout_of_a_one_shot_hands_over_the_result(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        until_end(peer, text("done"))

    watch = Stopwatch()
    with pytest.raises(RunTimeoutError, match=f"{SOON:g} s") as caught:
        client_of(serve(script)).query(
            "hi", artifacts_dir="/out", on_artifact_upload_request=put_anywhere, end_session_timeout=SOON
        )
    assert SOON <= watch.seconds < SOON + LATE
    assert caught.value.result.text == "done"


def test_a_connection_lost_during_the_end_of_a_one_shot(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(ran("ls"))
        peer.expect("end_session_message")
        peer.cut()

    with pytest.raises(ConnectionLostError) as caught:
        client_of(serve(script)).execute_commands(["ls"], artifacts_dir="/out", on_artifact_upload_request=put_anywhere)
    assert caught.value.result.results[0].command == "ls"


@pytest.mark.parametrize("confirmed", [True, False])
@pytest.mark.parametrize("terminal", [text("done"), error("failed")])
def test_a_late_upload_that_fails_in_a_one_shot(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, terminal: Any, confirmed: bool
) -> None:
    if not confirmed:  # else nothing is waited for that long
        monkeypatch.setattr("runtimeuse_sync._session.uploads.LATE_FILES", SOON)
        monkeypatch.setattr("runtimeuse_sync._session.uploads.RUNNING_UPLOADS", SOON)

    def script(peer: Peer) -> None:
        until_end(peer, terminal)
        peer.send(upload("/out/a"), upload("/out/b"))
        take_upload(peer, "/out/b")
        if confirmed:
            peer.send(CONFIRM)

    def fails_once(request: Any) -> ArtifactUploadResult:
        if request.filename == "a":
            raise Refused("mine")
        return put_anywhere(request)

    failed = terminal["message_type"] == "error_message"
    with pytest.raises(AgentRuntimeError if failed else Refused):
        client_of(serve(script)).query(
            "hi", artifacts_dir="/out", on_artifact_upload_request=fails_once, end_session_timeout=None
        )


@pytest.mark.parametrize("body_fails", [False, True])
def test_a_late_upload_that_fails_at_the_end_of_a_session(
    serve: Serve, body_fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(upload("/out/a"), upload("/out/b"))
        take_upload(peer, "/out/b")
        peer.send(CONFIRM)

    mine = Refused("mine")

    def refuses_a(request: Any) -> ArtifactUploadResult:
        if request.filename == "a":
            raise mine
        return put_anywhere(request)

    body = ValueError("the body's own")

    def use() -> None:
        with client_of(serve(script)).session() as session:
            session.query("hi", artifacts_dir="/out", on_artifact_upload_request=refuses_a)
            if body_fails:
                raise body

    with pytest.raises(ValueError if body_fails else ArtifactUploadError) as caught:
        use()
    if body_fails:
        assert caught.value is body
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
    else:
        assert isinstance(caught.value, ArtifactUploadError)
        assert caught.value.__cause__ is mine
        assert caught.value.filepaths == ["/out/a"]
        assert "/out/a" in str(caught.value)


def test_an_upload_that_failed_in_a_call_is_tried_again_at_the_end(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/a"))
        peer.expect("cancel_message")
        peer.send(text("late"))
        peer.expect("end_session_message")
        take_upload(peer, "/out/a")
        peer.send(CONFIRM)

    asked: List[str] = []

    def fails_first(request: Any) -> ArtifactUploadResult:
        asked.append(request.filename)
        if len(asked) == 1:
            raise Refused
        return put_anywhere(request)

    with client_of(serve(script)).session() as session:
        with pytest.raises(Refused):
            session.query("hi", artifacts_dir="/out", on_artifact_upload_request=fails_first)
    assert asked == ["a", "a"]


def test_an_upload_request_that_nobody_can_answer(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"), upload("/out/a"))
        end(peer)

    with pytest.raises(ArtifactUploadError) as caught:
        with client_of(serve(script)).session() as session:
            session.query("hi")
    assert caught.value.filepaths == ["/out/a"]


@pytest.mark.parametrize("artifacts", [True, False])
@pytest.mark.parametrize("how", ["silent", "lost"])
def test_the_end_of_a_session_that_is_not_confirmed(serve: Serve, artifacts: bool, how: str) -> None:
    """It matters where artifacts were asked for: they may be missing."""

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        if how == "lost":
            peer.cut()

    options: Any = {"artifacts_dir": "/out", "on_artifact_upload_request": put_anywhere} if artifacts else {}
    wanted = RunTimeoutError if how == "silent" else ConnectionLostError
    watch = Stopwatch()
    with pytest.raises(wanted) if artifacts else contextlib.nullcontext():
        with client_of(serve(script)).session(end_session_timeout=SOON) as session:
            session.query("hi", **options)
    assert (SOON if how == "silent" else 0) <= watch.seconds < SOON + LATE
