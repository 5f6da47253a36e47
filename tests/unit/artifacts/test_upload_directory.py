"""`UploadDirectory` tells what arrived and what did not."""

from __future__ import annotations

import http.client
import logging
import threading
from pathlib import Path
from typing import Any, List
from urllib.parse import urlsplit

import pytest

from runtimeuse_sync import ArtifactUploadError, ArtifactUploadRequestMessageInterface, _artifact_server
from runtimeuse_sync._wire.artifact_paths import ArtifactDirectories
from runtimeuse_sync.artifacts import ReceivedFile, UploadDirectory, UploadFailure
from runtimeuse_sync.artifacts.ledger import Ledger
from runtimeuse_sync.messages import announce_in

from ...support.servers import PATIENCE
from ...support.threads import InThread

NEVER = "it was announced, and never uploaded"


def url_for(uploads: UploadDirectory, filepath: str, *directories: str, secrets: Any = ()) -> str:
    request = ArtifactUploadRequestMessageInterface(
        "artifact_upload_request_message", filepath.rsplit("/", 1)[-1], filepath
    )
    announce_in(request, ArtifactDirectories(directories, (), secrets))
    return uploads.callback(request).presigned_url


def put(url: str, body: bytes = b"x") -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_artifact_server, "_GRACE", 0.1)


def test_it_lists_what_arrived(tmp_path: Path) -> None:
    uploads = UploadDirectory(tmp_path)
    assert (uploads.files, uploads.failures) == ([], [])
    with uploads:
        put(url_for(uploads, "/w/out/x/b.txt", "out"), b"12")
        put(url_for(uploads, "/w/out/a.txt", "out"), b"1")
        expected = [
            ReceivedFile("x/b.txt", 2, tmp_path / "x" / "b.txt", "/w/out/x/b.txt"),
            ReceivedFile("a.txt", 1, tmp_path / "a.txt", "/w/out/a.txt"),
        ]
        assert uploads.files == expected
        # A new version takes the place of the old one.
        put(url_for(uploads, "/w/out/x/b.txt", "out"), b"123")
        assert [(file.name, file.size) for file in uploads.files] == [("x/b.txt", 3), ("a.txt", 1)]
    assert uploads.failures == []
    assert [file.path.read_bytes() for file in uploads.files] == [b"123", b"1"]


def test_files_of_one_relative_path_stay_apart(tmp_path: Path) -> None:
    with UploadDirectory(tmp_path) as uploads:
        for name in ("out", "logs", "out"):
            assert put(url_for(uploads, f"/w/{name}/a.txt", "out", "logs"), name.encode()) == 200
    assert [file.name for file in uploads.files] == ["a.txt", "logs/a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"out"
    assert (tmp_path / "logs" / "a.txt").read_bytes() == b"logs"


def test_it_is_a_callback_itself(tmp_path: Path) -> None:
    request = ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "a", "/a")
    with UploadDirectory(tmp_path, working_dir="/") as uploads:
        assert put(uploads(request).presigned_url) == 200
    assert [file.name for file in uploads.files] == ["a"]


def test_what_never_arrived_is_an_error_of_leaving(tmp_path: Path) -> None:
    uploads = UploadDirectory(tmp_path)

    def use() -> None:
        with uploads:
            url_for(uploads, "/w/out/a.txt", "out")
            # It may still come.
            assert uploads.failures == []

    with pytest.raises(ArtifactUploadError) as caught:
        use()
    assert str(caught.value) == f"1 artifact(s) did not arrive in {tmp_path}: a.txt ({NEVER})"
    assert caught.value.filepaths == ["/w/out/a.txt"]
    assert uploads.failures == [UploadFailure("a.txt", NEVER, "/w/out/a.txt")]


def test_a_new_version_that_never_arrived(tmp_path: Path) -> None:
    uploads = UploadDirectory(tmp_path)

    def use() -> None:
        with uploads:
            first = url_for(uploads, "/a")
            url_for(uploads, "/a")
            # The old one comes late, and is better than none.
            assert put(first, b"old") == 200

    with pytest.raises(ArtifactUploadError, match=NEVER):
        use()
    assert [file.size for file in uploads.files] == [3]


def test_an_old_version_that_comes_late_replaces_nothing(tmp_path: Path) -> None:
    with UploadDirectory(tmp_path) as uploads:
        first, second = (url_for(uploads, "/a") for _ in range(2))
        assert put(second, b"new") == 200
        assert put(first, b"older") == 200
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [file.size for file in uploads.files] == [3]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_upload_that_works_when_it_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with UploadDirectory(tmp_path) as uploads:
        url = url_for(uploads, "/a")
        assert put(url) == 409
        reason = "a file or directory of that name is in the way"
        assert uploads.failures == [UploadFailure("a", reason, "/a")]
        (tmp_path / "a").rmdir()
        assert put(url) == 200
        assert uploads.failures == []
    assert [file.name for file in uploads.files] == ["a"]


def test_the_first_failures_are_shown_and_all_are_known(tmp_path: Path) -> None:
    def use() -> None:
        with UploadDirectory(tmp_path) as uploads:
            for number in range(25):
                url_for(uploads, f"/{number}")

    with pytest.raises(ArtifactUploadError, match=r"^25 artifact.*: 0 \(.*, 19 \([^(]*\), and 5 more$") as caught:
        use()
    assert caught.value.filepaths == [f"/{number}" for number in range(25)]


def test_the_bodys_own_exception_comes_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def use() -> None:
        with UploadDirectory(tmp_path) as uploads:
            url_for(uploads, "/a")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        use()
    assert [record.getMessage() for record in caplog.records] == ["1 artifact(s) did not arrive, after LookupError"]
    assert caplog.records[0].levelno == logging.WARNING


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    def use() -> None:
        with UploadDirectory(tmp_path) as uploads:
            url_for(uploads, "/w/of hunter2.txt", "/w", secrets=["hunter2"])

    with pytest.raises(ArtifactUploadError, match=r"of \[REDACTED\]\.txt") as caught:
        use()
    assert "hunter2" not in str(caught.value)


def test_leaving_waits_for_what_has_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_artifact_server, "_GRACE", PATIENCE)
    waiting = threading.Event()
    wait = Ledger.wait_until_begun

    def waits(ledger: Any, seconds: float) -> None:
        waiting.set()
        wait(ledger, seconds)

    monkeypatch.setattr(Ledger, "wait_until_begun", waits)
    with UploadDirectory(tmp_path) as uploads:
        url = url_for(uploads, "/a")
        statuses: List[int] = []

        def come() -> None:
            assert waiting.wait(PATIENCE)
            statuses.append(put(url))

        sender = InThread(come)
    sender.result()
    assert statuses == [200]
    assert [file.name for file in uploads.files] == ["a"]


def test_an_interrupt_while_it_waits_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "wait_until_begun", interrupted)
    uploads = UploadDirectory(tmp_path)

    def use() -> None:
        with uploads:
            url_for(uploads, "/a")

    with pytest.raises(KeyboardInterrupt):
        use()
    with pytest.raises(RuntimeError, match="context manager"):
        url_for(uploads, "/a")


def test_each_use_has_its_own_list_and_no_file_takes_anothers_place(tmp_path: Path) -> None:
    uploads = UploadDirectory(tmp_path)
    for sandbox, expected in (("v", "a.txt"), ("w", "out/a.txt"), ("v", "a.txt")):
        with uploads:
            assert uploads.files == []
            put(url_for(uploads, f"/{sandbox}/out/a.txt", "out"), sandbox.encode())
        assert [file.name for file in uploads.files] == [expected]
    assert [(tmp_path / name).read_bytes() for name in ("a.txt", "out/a.txt")] == [b"v", b"w"]


def test_its_repr(tmp_path: Path) -> None:
    uploads = UploadDirectory(str(tmp_path))
    assert repr(uploads) == f"<UploadDirectory {str(tmp_path)!r} closed>"
    with uploads:
        assert repr(uploads).endswith(" open>")


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ((3,), TypeError, "directory must be a path, not int"),
        ((None,), TypeError, "directory must be a path, not NoneType"),
        (("a", None), TypeError, "host must be a str, not NoneType"),
        (("a", ""), ValueError, "host must not be empty"),
    ],
)
def test_wrong_arguments(arguments: Any, error: Any, named: str) -> None:
    with pytest.raises(error, match=named):
        UploadDirectory(*arguments)


def test_a_wrong_working_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="working_dir must be an absolute path in the sandbox, not 'work'"):
        UploadDirectory(tmp_path, working_dir="work")
