"""`storage_uploads`: files go into the storage, by URLs that are good for one upload of one file."""

from __future__ import annotations

import io
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Iterator, List
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core import signing
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InvalidStorageError, Storage, default_storage, storages
from django.core.files.uploadhandler import TemporaryUploadedFile
from django.test import Client, RequestFactory, override_settings

from runtimeuse_sync import ArtifactUploadError, ArtifactUploadRequestMessageInterface
from runtimeuse_sync._wire.artifact_paths import ArtifactDirectories
from runtimeuse_sync.artifacts import UploadFailure
from runtimeuse_sync.django import _upload_view as view
from runtimeuse_sync.django import storage_uploads
from runtimeuse_sync.django._upload_base import StorageUploads, StoredFile
from runtimeuse_sync.messages import announce_in

NEVER = "it was announced, and never uploaded"


def request_of(filepath: str, secrets: Any = ()) -> ArtifactUploadRequestMessageInterface:
    request = ArtifactUploadRequestMessageInterface(
        "artifact_upload_request_message", os.path.basename(filepath), filepath
    )
    announce_in(request, ArtifactDirectories(["/out", "/more"], (), secrets))
    return request


def url_for(uploads: StorageUploads, filepath: str) -> str:
    return uploads(request_of(filepath)).presigned_url


def put(url: str, body: bytes = b"x", **more: Any) -> Any:
    """Upload to a URL, with a test client that checks CSRF tokens."""
    parts = urlsplit(url)
    more.setdefault("CONTENT_LENGTH", str(len(body)))
    return Client(enforce_csrf_checks=True, raise_request_exception=False).put(
        f"{parts.path}?{parts.query}", body, content_type="text/plain", **more
    )


def uploads_to(storage: Any = "default", prefix: str = "", **more: Any) -> StorageUploads:
    return storage_uploads(RequestFactory().get("/page"), storage, prefix, **more)


@pytest.fixture(autouse=True)
def media(tmp_path: Path) -> Iterator[Path]:
    """The folder of the default storage."""
    folder = tmp_path / "media"
    backends = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "memory": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        "broken": {"BACKEND": "no.such.Storage"},
    }
    (tmp_path / "temporary").mkdir()
    temporary = str(tmp_path / "temporary")
    with override_settings(STORAGES=backends, MEDIA_ROOT=str(folder), FILE_UPLOAD_TEMP_DIR=temporary):
        yield folder
    assert not list((tmp_path / "temporary").iterdir())


def below(folder: Path) -> List[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("storage", ["default", "memory"])
def test_it_lists_what_arrived(storage: str) -> None:
    uploads = uploads_to(storage, "runs/7/")
    assert (uploads.files, uploads.failures) == ([], [])
    first, second = url_for(uploads, "/out/charts/a b.txt"), url_for(uploads, "/out/c")
    assert first.startswith("http://testserver/runtimeuse/uploads/?token=")
    assert uploads.failures == [
        UploadFailure("charts/a b.txt", NEVER, "/out/charts/a b.txt"),
        UploadFailure("c", NEVER, "/out/c"),
    ]
    assert put(second, b"").status_code == 200
    assert put(first, b"123").status_code == 200
    assert uploads.files == uploads.check(0)
    assert uploads.files == [
        StoredFile("charts/a b.txt", 3, "runs/7/charts/a b.txt", "/out/charts/a b.txt"),
        StoredFile("c", 0, "runs/7/c", "/out/c"),
    ]
    assert uploads.failures == []
    with storages[storage].open("runs/7/charts/a b.txt") as file:
        assert file.read() == b"123"


def test_the_default_is_the_default_storage(media: Path) -> None:
    uploads = storage_uploads("https://example.com/ignored")
    url = url_for(uploads, "/out/a")
    assert url.startswith("https://example.com/runtimeuse/uploads/?")
    assert put(url).status_code == 200
    assert below(media) == ["a"]
    assert uploads.storage is storages["default"]
    assert storage_uploads("https://example.com", default_storage).storage is storages["default"]


@pytest.mark.parametrize("storage", ["default", "memory"])
def test_a_newer_version_replaces_the_older_one(storage: str) -> None:
    uploads = uploads_to(storage)
    slow, first, second = (url_for(uploads, "/out/a.txt") for _ in range(3))
    assert put(first, b"1").status_code == 200
    assert uploads.failures == [UploadFailure("a.txt", "only an older version arrived", "/out/a.txt")]
    assert [file.size for file in uploads.files] == [1]
    assert put(second, b"22").status_code == 200
    # What is older than what is there is no error, and changes nothing.
    assert put(slow, b"333").status_code == 200
    assert uploads.check(0) == [StoredFile("a.txt", 2, "a.txt", "/out/a.txt")]
    with storages[storage].open("a.txt") as file:
        assert file.read() == b"22"
    assert storages[storage].listdir("") == ([], ["a.txt"])


def test_a_file_of_an_earlier_run_is_replaced_and_does_not_count(media: Path) -> None:
    storages["default"].save("a.txt", ContentFile(b"old"))
    os.utime(media / "a.txt", (1e9, 1e9))
    uploads = uploads_to()
    url = url_for(uploads, "/out/a.txt")
    assert uploads.files == []
    assert put(url, b"new").status_code == 200
    assert [file.size for file in uploads.files] == [3]
    assert below(media) == ["a.txt"]


def test_a_url_can_be_used_once(media: Path) -> None:
    uploads = uploads_to()
    url = url_for(uploads, "/out/a")
    assert put(url, b"1").status_code == 200
    again = put(url, b"22")
    assert again.status_code == 410
    assert again.content == b"this upload URL was used before"
    assert (media / "a").read_bytes() == b"1"
    assert uploads.failures == []


def test_of_two_at_once_one_is_stored(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = uploads_to()
    url = url_for(uploads, "/out/a")
    statuses: List[int] = []
    copy = view._copy

    def and_meanwhile(*arguments: Any) -> int:
        monkeypatch.setattr(view, "_copy", copy)
        statuses.append(put(url, b"1").status_code)
        return copy(*arguments)

    monkeypatch.setattr(view, "_copy", and_meanwhile)
    statuses.append(put(url, b"22").status_code)
    assert statuses == [200, 410]
    assert (media / "a").read_bytes() == b"1"


def test_a_url_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = uploads_to(expires=60)
    url = url_for(uploads, "/out/a")
    now = time.time()
    monkeypatch.setattr("runtimeuse_sync.django._upload_view.time.time", lambda: now + 61)
    assert put(url).status_code == 410
    assert uploads.failures == [UploadFailure("a", "the upload URL was used too late", "/out/a")]


def test_what_is_not_signed_here_is_refused(media: Path) -> None:
    url = url_for(uploads_to(), "/out/a")
    token = parse_qs(urlsplit(url).query)["token"][0]
    for wrong in ("", token[:-1], token[1:], "x" + token, token.split(":")[0]):
        assert put(f"/runtimeuse/uploads/?token={wrong}").status_code == 403
    assert put("/runtimeuse/uploads/").status_code == 403
    with override_settings(SECRET_KEY="another one"):
        assert put(url).status_code == 403

    assert (
        put("/runtimeuse/uploads/?token=" + signing.dumps(["default", "a", 1, 9e9, "", 1, "default"])).status_code
        == 403
    )
    assert not media.exists()


def test_only_put_is_taken() -> None:
    url = url_for(uploads_to(), "/out/a")
    parts = urlsplit(url)
    for method in ("get", "post", "delete", "head", "patch"):
        response = getattr(Client(), method)(f"{parts.path}?{parts.query}")
        assert response.status_code == 405
        assert response["Allow"] == "PUT"
    assert put(url).status_code == 200


def test_only_this_view_needs_no_csrf_token() -> None:
    from django.urls import resolve

    assert resolve("/runtimeuse/uploads/").func.csrf_exempt
    assert not resolve("/runtimeuse/uploads/").func.login_required


def test_large_files_are_not_limited_by_djangos_settings(media: Path) -> None:
    uploads = uploads_to(max_size=300_000)
    body = os.urandom(300_000)
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10, FILE_UPLOAD_MAX_MEMORY_SIZE=10):
        assert put(url_for(uploads, "/out/a"), body).status_code == 200
    assert (media / "a").read_bytes() == body
    too_large = put(url_for(uploads, "/out/b"), body + b"1")
    assert too_large.status_code == 413
    assert uploads.failures == [UploadFailure("b", "it has 300001 bytes, and 300000 are allowed", "/out/b")]
    assert below(media) == ["a"]


def test_a_body_is_not_in_memory_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.core.handlers.wsgi import WSGIRequest

    asked: List[int] = []
    read = WSGIRequest.read

    def noted(self: Any, size: int) -> Any:
        asked.append(size)
        return read(self, size)

    monkeypatch.setattr(WSGIRequest, "read", noted)
    assert put(url_for(uploads_to(), "/out/a"), b"x" * 200_000).status_code == 200
    assert max(asked) <= 64 * 1024


class BrokenOff(io.BytesIO):
    """A body whose sender is gone at its end."""

    def __init__(self, body: bytes, error: Any) -> None:
        super().__init__(body)
        self.error = error

    def read(self, size: Any = -1) -> bytes:
        data = super().read(size)
        if not data and self.error is not None:
            raise self.error
        return data


@pytest.mark.parametrize("error", [None, ConnectionResetError("gone")])
def test_a_file_that_is_broken_off_is_not_stored(media: Path, error: Any) -> None:
    uploads = uploads_to()
    url = url_for(uploads, "/out/a")
    response = put(url, b"", **{"wsgi.input": BrokenOff(b"123", error), "CONTENT_LENGTH": "10"})
    assert response.status_code == 400
    assert uploads.failures == [UploadFailure("a", "the upload was broken off after 3 of 10 bytes", "/out/a")]
    assert not media.exists()
    # The runtime may try again.
    assert put(url).status_code == 200
    assert uploads.failures == []


@pytest.mark.parametrize("length", ["", "x", "-1", "9" * 5000, "\N{FULLWIDTH DIGIT ONE}"])
def test_the_length_is_needed(length: str) -> None:
    uploads = uploads_to()
    assert put(url_for(uploads, "/out/a"), CONTENT_LENGTH=length).status_code == 411
    assert uploads.failures == [UploadFailure("a", "the upload had no Content-Length", "/out/a")]


def test_what_is_in_the_way_is_told(media: Path) -> None:
    uploads = uploads_to()
    assert put(url_for(uploads, "/out/a/b")).status_code == 200
    assert put(url_for(uploads, "/out/c")).status_code == 200
    assert put(url_for(uploads, "/out/a")).status_code == 409
    assert put(url_for(uploads, "/out/c/d")).status_code == 409
    assert [failure.name for failure in uploads.failures] == ["a", "c/d"]
    assert {failure.reason for failure in uploads.failures} == {"a file or directory of that name is in the way"}
    assert below(media) == ["a/b", "c"]
    with pytest.raises(ArtifactUploadError, match="2 artifact") as caught:
        uploads.check(0)
    assert caught.value.filepaths == ["/out/a", "/out/c/d"]


def test_names_stay_in_the_prefix(media: Path) -> None:
    uploads = uploads_to(prefix="runs//7")
    names = ["/out/../../etc/passwd", "/elsewhere/../x", "../../y", "/out/..\\..\\z", "/out/~/n\nl", "/out/a:b"]
    for name in names:
        assert put(url_for(uploads, name)).status_code == 200
    assert len(below(media)) == len(names)
    assert all(name.startswith("runs/7/") and ".." not in Path(name).parts for name in below(media))
    assert [file.filepath for file in uploads.check(0)] == names
    with pytest.raises(ValueError, match="names no file"):
        url_for(uploads, "/..")


def test_files_of_the_same_name_do_not_replace_each_other(media: Path) -> None:
    uploads = uploads_to()
    for path in ("/out/a\\b", "/out/a_b", "/more/a_b"):
        assert put(url_for(uploads, path)).status_code == 200
    assert len(set(below(media))) == 3
    assert [file.name for file in uploads.files] == ["a_b", "out/a_b", "more/a_b"]


def test_a_name_that_is_too_long_is_told() -> None:
    uploads = uploads_to()
    assert put(url_for(uploads, "/out/" + "a" * 300 + ".txt")).status_code == 400
    assert "name too long" in uploads.failures[0].reason


class Failing(FileSystemStorage):
    """A storage that fails when it is told to."""

    def _save(self, name: str, content: Any) -> Any:
        raise RuntimeError("no storage at s3://key:secret@host")


def test_a_storage_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uploads = uploads_to(Failing(tmp_path))
    url = url_for(uploads, "/out/a")
    assert put(url).status_code == 500
    assert uploads.failures == [UploadFailure("a", "the storage failed: RuntimeError", "/out/a")]
    # Not used up: the runtime may try again.
    assert put(url).status_code == 500
    assert put(url_for(uploads, "/out/a")).status_code == 500


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    uploads = uploads_to()
    monkeypatch.setattr(FileSystemStorage, "_save", full)
    assert put(url_for(uploads, "/out/a")).status_code == 507
    monkeypatch.setattr(TemporaryUploadedFile, "write", full, raising=False)
    assert put(url_for(uploads, "/out/b")).status_code == 507
    assert [failure.reason for failure in uploads.failures] == ["No space left on device"] * 2


def test_a_storage_without_an_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = uploads_to(FileSystemStorage(location=tmp_path / "own"))
    assert put(url_for(uploads, "/out/a")).status_code == 200
    # As in another process.
    monkeypatch.setattr("runtimeuse_sync.django._upload_storages._known", {})
    assert put(url_for(uploads, "/out/b")).status_code == 200
    assert below(tmp_path / "own") == ["a", "b"]
    caches["default"].clear()
    assert put(url_for(uploads, "/out/c")).status_code == 500


class Bare(Storage):
    """A storage of which nobody can make another one."""


def test_a_storage_that_others_cannot_find_is_refused() -> None:
    class Local(FileSystemStorage):
        """No module has it."""

    for storage in (Bare(), Local()):
        with pytest.raises(ValueError, match="name it in STORAGES"):
            uploads_to(storage)


@pytest.mark.parametrize("storage", ["default", "memory"])
def test_without_a_shared_cache_the_storage_is_asked(storage: str) -> None:
    uploads = uploads_to(storage)
    assert put(url_for(uploads, "/out/a"), b"12").status_code == 200
    url_for(uploads, "/out/b")
    caches["default"].clear()
    assert uploads.files == [StoredFile("a", 2, "a", "/out/a")]
    assert uploads.failures == [UploadFailure("b", NEVER, "/out/b")]


def test_leaving_the_context_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimeuse_sync.django._upload_base.GRACE", 0)
    with uploads_to() as uploads:
        assert put(url_for(uploads, "/out/a")).status_code == 200
    with pytest.raises(
        ArtifactUploadError, match=r"1 artifact\(s\) did not arrive in the storage, in 'runs/': a \(it was"
    ):
        with uploads_to(prefix="runs") as uploads:
            url_for(uploads, "/out/a")
    with pytest.raises(KeyError), uploads_to() as uploads:
        raise KeyError(url_for(uploads, "/out/a"))


def test_the_end_of_a_session_checks_its_own_files(caplog: pytest.LogCaptureFixture) -> None:
    uploads = uploads_to()
    url_for(uploads, "/out/of another session")
    mine = request_of("/out/s3cret.txt", secrets=["s3cret"])
    url = uploads(mine).presigned_url
    with pytest.raises(ArtifactUploadError) as caught:
        uploads.session_ended([mine])
    assert "s3cret" not in str(caught.value)
    assert put(url).status_code == 200
    uploads.session_ended([mine])


def test_a_cache_that_does_not_answer_is_no_lost_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise ConnectionError("redis://:secret@host")

    uploads = uploads_to()
    mine = request_of("/out/a")
    uploads(mine)
    monkeypatch.setattr(type(caches["default"]), "get_many", fail)
    uploads.session_ended([mine])
    assert "whether 1 artifact(s) arrived is not known: ConnectionError" in caplog.text
    with pytest.raises(ConnectionError):
        uploads.check(0)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"prefix": None}, TypeError, "prefix must be a str, not NoneType"),
        ({"prefix": "../x"}, ValueError, "prefix must be a plain path"),
        ({"prefix": "a/./b"}, ValueError, "prefix must be a plain path"),
        ({"prefix": "a\\b"}, ValueError, "prefix must be a plain path"),
        ({"max_size": 0}, ValueError, "max_size must be more than 0 bytes"),
        ({"max_size": 1.5}, TypeError, "max_size must be a number of bytes"),
        ({"expires": 0}, ValueError, "expires"),
        ({"expires": timedelta(hours=1)}, TypeError, "expires"),
        ({"storage": 1}, TypeError, "storage must be a storage or the alias of one, not int"),
        ({"storage": "none"}, InvalidStorageError, "none"),
        ({"working_dir": "relative"}, ValueError, "working_dir"),
        ({"cache": 1}, TypeError, "cache must be a str"),
    ],
)
def test_wrong_arguments(arguments: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        storage_uploads(RequestFactory().get("/"), **arguments)


def test_wrong_requests() -> None:
    with pytest.raises(TypeError, match="request must be a request or a base URL"):
        storage_uploads(None)
    for base in ("", "example.com", "ws://example.com", "https://", "https://example.com/?a=1"):
        with pytest.raises(ValueError, match="base URL"):
            storage_uploads(base)
    for timeout, error in ((-1, ValueError), ("1", TypeError), (float("nan"), ValueError)):
        with pytest.raises(error, match="timeout"):
            uploads_to().check(timeout)  # type: ignore[arg-type]


def test_urls_that_are_not_included_are_named() -> None:
    with override_settings(ROOT_URLCONF="django.contrib.auth.urls"), pytest.raises(
        ImproperlyConfigured, match=r'include\("runtimeuse_sync.django.urls"\)'
    ):
        uploads_to()
