"""Nothing is lost: the ready-made callbacks tell what arrived and what did not, and name files by relative paths."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import pytest
import requests

from runtimeuse_sync import AgentRuntimeError, ArtifactUploadError, ArtifactUploadResult
from runtimeuse_sync.artifacts import UploadDirectory
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import BOTH, CONFIRM, Serve, client_of, put_anywhere, ran, text, until_end, upload
from ..support.builders import error as failed
from ..support.servers import PATIENCE, Peer


def content_of(directory: Path) -> Dict[str, str]:
    return {path.relative_to(directory).as_posix(): path.read_text() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def received(tmp_path: Path) -> Path:
    return tmp_path / "received"


@pytest.mark.parametrize("directory", ["rel", "./rel/", "x/../rel", "{root}/rel", "{root}/./rel/"])
def test_files_are_stored_under_their_relative_paths(
    runtime: LocalRuntime, tmp_path: Path, received: Path, directory: str
) -> None:
    with UploadDirectory(received) as uploads:
        client_of(runtime).execute_commands(
            ["mkdir -p rel/x/rel; echo 1 > rel/a.txt; echo 2 > rel/x/a.txt; echo 3 > rel/x/rel/a.txt"],
            artifacts_dirs=[directory.format(root=tmp_path)],
            on_artifact_upload_request=uploads.callback,
        )
    assert content_of(received) == {"a.txt": "1\n", "x/a.txt": "2\n", "x/rel/a.txt": "3\n"}
    assert {file.name: (file.size, file.path, file.filepath) for file in uploads.files} == {
        name: (2, received / name, str(tmp_path / "rel" / name)) for name in ("a.txt", "x/a.txt", "x/rel/a.txt")
    }


def test_the_older_spelling_of_the_option(runtime: LocalRuntime, received: Path) -> None:
    with UploadDirectory(received) as uploads:
        client_of(runtime).query("echo 1 > rel/a", artifacts_dir="rel", on_artifact_upload_request=uploads)
    assert content_of(received) == {"a": "1\n"}


def test_the_working_directory_itself(runtime: LocalRuntime, tmp_path: Path) -> None:
    for working_dir, name in ((None, f"{tmp_path}/sub/a"[1:]), (str(tmp_path), "sub/a")):
        with UploadDirectory(tmp_path / "sub" / ".." / "b", working_dir=working_dir) as uploads:
            client_of(runtime).execute_commands(
                ["mkdir -p sub; echo 1 > sub/a"],
                artifacts_dirs=["."],
                artifacts_ignore_content="/b",
                on_artifact_upload_request=uploads,
            )
        assert [file.name for file in uploads.files] == [name]


def test_directories_with_the_same_files_in_them(runtime: LocalRuntime, received: Path) -> None:
    with UploadDirectory(received) as uploads:
        client_of(runtime).execute_commands(
            ["for d in web api; do mkdir -p $d/dist; echo $d > $d/dist/index.js; done; echo only > api/dist/only.js"],
            artifacts_dirs=["web/dist", "api/dist"],
            on_artifact_upload_request=uploads,
        )
    assert len(uploads.files) == 3
    stored = content_of(received)
    assert sorted(stored.values()) == ["api\n", "only\n", "web\n"]
    assert stored["only.js"] == "only\n"
    assert stored.keys() - {"only.js", "index.js"} <= {"api/dist/index.js", "web/dist/index.js"}


def test_a_session_remembers_the_directories_of_its_calls(runtime: LocalRuntime, received: Path) -> None:
    with UploadDirectory(received) as uploads, client_of(runtime).session() as session:
        session.execute_commands(["echo 1 > out/a"], artifacts_dirs=["out"], on_artifact_upload_request=uploads)
        session.execute_commands(["echo 2 > logs/b"], artifacts_dirs=["logs"], on_artifact_upload_request=uploads)
        session.execute_commands(["echo 3 > out/c; mkdir -p logs/new; echo 4 > logs/new/d"])
    assert content_of(received) == {"a": "1\n", "b": "2\n", "c": "3\n", "new/d": "4\n"}


def test_a_directory_whose_name_is_masked(runtime: LocalRuntime, received: Path) -> None:
    with UploadDirectory(received) as uploads:
        client_of(runtime).execute_commands(
            ["echo 1 > of-hunter2/out/a"],
            artifacts_dirs=["of-hunter2/out"],
            secrets_to_redact=["hunter2"],
            on_artifact_upload_request=uploads,
        )
    assert content_of(received) == {"a": "1\n"}


def test_a_callback_of_ones_own_knows_the_relative_path(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(upload("/w/out/x/a.txt"), upload("/elsewhere/../b.txt"), upload("out/c.txt"))
        for _ in range(3):
            peer.expect("artifact_upload_response_message")
        peer.send(CONFIRM)

    paths: List[str] = []

    def answer(request: Any) -> ArtifactUploadResult:
        paths.append(request.relative_path)
        return put_anywhere(request)

    client_of(serve(script)).query("hi", artifacts_dirs=["out"], on_artifact_upload_request=answer)
    assert paths == ["x/a.txt", "elsewhere/b.txt", "c.txt"]


def put(answer: Any, body: bytes) -> int:
    with requests.put(answer["presigned_url"], data=body, timeout=PATIENCE) as response:
        return response.status_code


def test_a_runtime_that_says_nothing_about_its_uploads(
    serve: Serve, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the protocol has it: the call ends well, and the directory knows better."""
    monkeypatch.setattr("runtimeuse_sync._artifact_server._GRACE", 0.1)
    (received / "taken").mkdir(parents=True)
    statuses: List[int] = []

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        for name in ("a", "taken", "forgotten"):
            peer.send(upload(f"/w/out/{name}"))
            answer = peer.expect("artifact_upload_response_message")
            if name != "forgotten":
                statuses.append(put(answer, b"123"))
        peer.send(CONFIRM)

    results: List[str] = []
    uploads = UploadDirectory(received)

    def use() -> None:
        with uploads:
            client = client_of(serve(script))
            results.append(client.query("hi", artifacts_dirs=["out"], on_artifact_upload_request=uploads).text)

    with pytest.raises(ArtifactUploadError) as caught:
        use()
    assert (results, statuses) == (["done"], [200, 409])
    assert caught.value.filepaths == ["/w/out/taken", "/w/out/forgotten"]
    assert [(failure.name, failure.reason) for failure in uploads.failures] == [
        ("taken", "a file or directory of that name is in the way"),
        ("forgotten", "it was announced, and never uploaded"),
    ]
    assert [(file.name, file.size) for file in uploads.files] == [("a", 3)]


def test_a_path_that_would_lead_out_of_the_directory(serve: Serve, received: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        for path in ("/w/out/../../../../escaped", "out/../../escaped", "../escaped", "/w/out/.//../out/inside"):
            peer.send(upload(path))
            assert put(peer.expect("artifact_upload_response_message"), path.encode()) == 200
        peer.send(ran("true"))
        peer.expect("end_session_message")
        peer.send(CONFIRM)

    with UploadDirectory(received) as uploads:
        client_of(serve(script)).execute_commands(
            ["true"], artifacts_dirs=["out", "."], on_artifact_upload_request=uploads
        )
    assert sorted(file.name for file in uploads.files) == ["escaped", "escaped-2", "inside", "w/out/escaped"]
    assert len(content_of(received)) == 4
    assert [path.name for path in received.parent.iterdir()] == ["received"]


def test_what_the_embedded_runtime_says_comes_first(
    runtime: LocalRuntime, received: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (received / "a").mkdir(parents=True)

    def use() -> None:
        with UploadDirectory(received) as uploads:
            client_of(runtime).execute_commands(
                ["echo 1 > out/a"], artifacts_dirs=["out"], on_artifact_upload_request=uploads
            )

    with pytest.raises(ArtifactUploadError, match=r"1 artifact was not uploaded: a \(HTTP status 409\)") as caught:
        use()
    assert caught.value.result.results[0].exit_code == 0
    assert "1 artifact(s) did not arrive, after ArtifactUploadError" in caplog.text


class Told:
    """An upload callback that is told of the end of the session."""

    def __init__(self, error: Optional[Exception] = None) -> None:
        self.error = error
        self.paths: List[List[str]] = []
        self.threads: List[str] = []

    def __call__(self, request: Any) -> ArtifactUploadResult:
        return put_anywhere(request)

    def session_ended(self, requests: Any) -> None:
        self.paths.append([request.relative_path for request in requests])
        self.threads.append(threading.current_thread().name)
        if self.error is not None:
            raise self.error


def announcing(*said: Any, names: Sequence[str] = ("a", "b", "a")) -> Callable[[Peer], None]:
    """Answers a query, and announces files at the end."""

    def script(peer: Peer) -> None:
        until_end(peer, *said)
        for name in names:
            peer.send(upload(f"/w/out/{name}"))
            peer.expect("artifact_upload_response_message")
        peer.send(CONFIRM)

    return script


def ask(server: Any, in_session: bool, callback: Any, **options: Any) -> None:
    options.update(artifacts_dirs=["out"], on_artifact_upload_request=callback)
    if not in_session:
        client_of(server).query("hi", **options)
        return
    with client_of(server).session() as session:
        session.query("hi", **options)


@BOTH
def test_a_callback_that_asks_for_it_is_told_the_end(serve: Serve, in_session: bool) -> None:
    told = Told()
    ask(serve(announcing(text("done"))), in_session, told)
    # A file that was announced again is named once.
    assert told.paths == [["a", "b"]]
    assert told.threads == [threading.current_thread().name]


@BOTH
def test_a_callback_with_a_timeout_is_told_in_a_helper_thread(serve: Serve, in_session: bool) -> None:
    told = Told()
    ask(serve(announcing(text("done"))), in_session, told, artifact_upload_callback_timeout=PATIENCE)
    assert told.threads[0].startswith("runtimeuse-callback-")


@BOTH
def test_a_callback_without_files_is_not_told(serve: Serve, in_session: bool) -> None:
    told = Told()
    ask(serve(announcing(text("done"), names=())), in_session, told)
    assert told.paths == []


@BOTH
def test_what_a_callback_finds_missing_is_raised(serve: Serve, in_session: bool) -> None:
    error = ArtifactUploadError("mine", ["/w/out/a"])
    with pytest.raises(ArtifactUploadError) as caught:
        ask(serve(announcing(text("done"))), in_session, Told(error))
    assert caught.value.filepaths == ["/w/out/a"]
    if in_session:
        assert caught.value.__cause__ is error
    else:
        assert caught.value is error
        assert caught.value.result.text == "done"


def test_any_other_exception_of_it_comes_out_of_a_one_shot(serve: Serve) -> None:
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        ask(serve(announcing(text("done"))), False, Told(error))
    assert caught.value is error


def test_a_failed_run_stays_what_it_is(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AgentRuntimeError, match="mine"):
        ask(serve(announcing(failed("mine"))), False, Told(ArtifactUploadError("lost")))
    assert "late artifacts of a failed run may be missing" in caplog.text


def test_each_callback_of_a_session_is_told_of_its_own_files(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for name in ("a", "b", "c"):
            peer.expect("invocation_message")
            peer.send(upload(f"/w/out/{name}"))
            peer.expect("artifact_upload_response_message")
            peer.send(text("done"))
        peer.expect("end_session_message")
        peer.send(CONFIRM)

    first, second = Told(ArtifactUploadError("lost", ["/w/out/a"])), Told(ArtifactUploadError("lost", ["/w/out/b"]))

    def use() -> None:
        with client_of(serve(script)).session() as session:
            for callback in (first, second, first):
                session.query("hi", artifacts_dirs=["out"], on_artifact_upload_request=callback)

    with pytest.raises(ArtifactUploadError, match="could not be uploaded: /w/out/a, /w/out/b"):
        use()
    assert (first.paths, second.paths) == ([["a", "c"]], [["b"]])
