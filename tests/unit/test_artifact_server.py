"""`UploadDirectory` where names are odd or collide, and at its end."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import threading
from pathlib import Path
from typing import Any, Iterator, Tuple
from urllib.parse import quote, urlsplit

import pytest

from runtimeuse_sync import ArtifactUploadError, _artifact_server
from runtimeuse_sync.artifacts import UploadDirectory

from ..support.servers import PATIENCE
from ..support.threads import when
from .test_artifacts import put, request_for


def upload(uploads: UploadDirectory, path: str, body: bytes = b"x") -> int:
    return put(uploads.callback(request_for(path)).presigned_url, body)


@contextlib.contextmanager
def losing(reason: str, *paths: str) -> Iterator[None]:
    """Leaving the `UploadDirectory` inside must say that these files did not arrive, and why."""
    with pytest.raises(ArtifactUploadError, match=re.escape(f"({reason}")) as caught:
        yield
    assert caught.value.filepaths == list(paths)


def partials(directory: Path) -> list[Path]:
    return list(directory.rglob("*.part"))


def begin(uploads: UploadDirectory, path: str, directory: Path) -> socket.socket:
    """Begins an upload of four bytes, two of which arrive; returns once it is being written."""
    url = urlsplit(uploads.callback(request_for(path)).presigned_url)
    connection = socket.create_connection((url.hostname, url.port or 0), PATIENCE)
    connection.sendall(f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab".encode())
    when(lambda: partials(directory), "the upload to begin")
    return connection


@pytest.fixture
def grace(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(_artifact_server, "_GRACE", 0.1)
    return 0.1


@pytest.mark.parametrize("length", [239, 241, 255])
def test_names_may_be_as_long_as_the_file_system_takes_them(tmp_path: Path, length: int) -> None:
    with losing("File name too long", "/out/" + "n" * 256), UploadDirectory(tmp_path) as uploads:
        assert upload(uploads, "/out/" + "n" * length) == 200
        assert upload(uploads, "/out/" + "n" * 256) == 400
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["n" * length]


@pytest.mark.skipif(os.sep != "/", reason="backslashes separate here")
def test_a_backslash_is_part_of_a_name(tmp_path: Path) -> None:
    with UploadDirectory(tmp_path) as uploads:
        assert upload(uploads, "/out/a\\b", b"1") == 200
        assert upload(uploads, "/out/a/b", b"2") == 200
    assert (tmp_path / "out" / "a\\b").read_bytes() == b"1"
    assert (tmp_path / "out" / "a" / "b").read_bytes() == b"2"


@pytest.mark.parametrize("paths", [("/o/a", "/o/a/b"), ("/o/a", "/o/a/b/c"), ("/o/a/b", "/o/a")])
def test_a_file_and_a_directory_of_one_name_are_a_conflict(
    tmp_path: Path, paths: Tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = paths
    with losing("a file or directory of that name is in the way", second), UploadDirectory(tmp_path) as uploads:
        assert upload(uploads, first) == 200
        # More than fits into the sockets' buffers, and still its sender gets to read the answer.
        assert upload(uploads, second, b"x" * 5_000_000) == 409
        assert upload(uploads, "/o/other") == 200
    assert (tmp_path / first[1:]).read_bytes() == b"x"
    assert partials(tmp_path) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 507), (errno.EIO, 500)])
def test_what_the_file_system_refuses_is_answered(
    tmp_path: Path, number: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", replace)
    with losing(os.strerror(number), "/a"), UploadDirectory(tmp_path) as uploads:
        assert upload(uploads, "/a") == status
        [failure] = uploads.failures
        assert (failure.name, failure.reason, failure.filepath) == ("a", os.strerror(number), "/a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", "/..", "/a%00b", "/b", "/../a"])
def test_what_was_not_announced_is_refused(tmp_path: Path, path: str, grace: float) -> None:
    with losing("it was announced, and never uploaded", "/a"), UploadDirectory(tmp_path) as uploads:
        url = urlsplit(uploads.callback(request_for("/a")).presigned_url)
        assert put(url._replace(path=path or "/").geturl(), b"x") == 400
        for version in ("", "0", "2", "-1", "\u00b2", "x"):
            other = url._replace(query=url.query[:-1] + quote(version))
            assert put(other.geturl(), b"x") == 400
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_can_be_no_file_is_answered(tmp_path: Path) -> None:
    with losing("no file can have this path", "/a\0b"), UploadDirectory(tmp_path) as uploads:
        assert upload(uploads, "/a\0b") == 400
    assert list(tmp_path.iterdir()) == []


def test_it_cannot_be_entered_twice_at_once(tmp_path: Path) -> None:
    uploads = UploadDirectory(tmp_path)
    for _ in range(2):
        with uploads:
            with pytest.raises(RuntimeError, match="already entered"):
                with uploads:
                    raise AssertionError("it was entered twice")
            assert upload(uploads, "/a") == 200


def test_a_sender_that_goes_away_is_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with losing("the upload was broken off", "/a"), UploadDirectory(tmp_path) as uploads:
        connection = begin(uploads, "/a", tmp_path)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records] == ["an upload was broken off"]


def test_leaving_waits_for_uploads_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()
    server_close = _artifact_server.UploadServer.server_close

    def closed(server: Any) -> None:
        server_close(server)
        left.set()

    monkeypatch.setattr(_artifact_server.UploadServer, "server_close", closed)
    with UploadDirectory(tmp_path) as uploads:
        connection = begin(uploads, "/a", tmp_path)

        def finish() -> None:
            assert left.wait(PATIENCE)
            connection.sendall(b"cd")

        finisher = threading.Thread(target=finish)
        finisher.start()
    assert (tmp_path / "a").read_bytes() == b"abcd"
    finisher.join()
    with connection:
        assert b" 200 " in connection.recv(1000)


def test_what_is_under_way_for_too_long_is_given_up(tmp_path: Path, grace: float) -> None:
    with losing("the upload was broken off after 2 of 4 bytes", "/a"), UploadDirectory(tmp_path) as uploads:
        connection = begin(uploads, "/a", tmp_path)
    with connection:
        assert connection.recv(1000) == b""
    # Its thread is waited for, too, but not for long.
    when(lambda: not [each for each in threading.enumerate() if each.name.startswith("runtimeuse-upload")])
    assert list(tmp_path.iterdir()) == []


def test_many_uploads_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that come while the server does not get to them."""
    go_on = threading.Event()
    process = _artifact_server.UploadServer.process_request

    def held(server: Any, *arguments: Any) -> None:
        assert go_on.wait(PATIENCE)
        process(server, *arguments)

    monkeypatch.setattr(_artifact_server.UploadServer, "process_request", held)
    with UploadDirectory(tmp_path) as uploads, contextlib.ExitStack() as stack:
        begun = []
        for number in range(100):
            url = urlsplit(uploads.callback(request_for(f"/out/{number}")).presigned_url)
            # Without a place in the queue this would take a second, for the system to try again.
            begun.append((url, stack.enter_context(socket.create_connection((url.hostname, url.port or 0), 0.9))))
        for url, connection in begun:
            connection.sendall(f"PUT {url.path}?{url.query} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".encode())
        go_on.set()
        for _, connection in begun:
            connection.settimeout(PATIENCE)
            assert connection.recv(1000).startswith(b"HTTP/1.0 200")
    assert sorted(int(path.name) for path in (tmp_path / "out").iterdir()) == list(range(100))
