"""The ready-made upload callbacks."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runtimeuse_sync import (
    ArtifactUploadError,
    ArtifactUploadRequestMessageInterface,
    ExecuteCommandsOptions,
    QueryOptions,
)
from runtimeuse_sync.artifacts import UploadDirectory, content_type

from ..support.network import has_ipv6
from ..support.servers import PATIENCE


def request_for(filepath: str) -> ArtifactUploadRequestMessageInterface:
    name = filepath.rsplit("/", 1)[-1]
    return ArtifactUploadRequestMessageInterface("artifact_upload_request_message", name, filepath)


def put(url: str, body: bytes, **headers: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_content_types() -> None:
    assert content_type("a.json") == "application/json"
    assert content_type("a") == "application/octet-stream"


def test_files_arrive_under_their_path(tmp_path: Path) -> None:
    with UploadDirectory(tmp_path / "received") as uploads:
        url = uploads.callback(request_for("/out/größe 1.txt")).presigned_url
        assert put(url, b"x" * 200_000) == 200
    assert (tmp_path / "received" / "out" / "größe 1.txt").read_bytes() == b"x" * 200_000
    assert [path.name for path in (tmp_path / "received" / "out").iterdir()] == ["größe 1.txt"]


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(tmp_path: Path, host: str) -> None:
    with UploadDirectory(tmp_path, host=host) as uploads:
        url = uploads.callback(request_for("/a")).presigned_url
        assert url.startswith("http://[::1]:")
        assert put(url, b"x") == 200
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file systems take only text as names")
def test_a_name_need_not_be_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff.txt")
    with UploadDirectory(tmp_path) as uploads:
        assert put(uploads.callback(request_for("/out/" + name)).presigned_url, b"x") == 200
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"caf\xe9 \xff.txt"]


def test_who_does_not_know_the_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUploadError, match=r"a \(the upload had no Content-Length\)"):
        refuse_all(tmp_path)
    assert list(tmp_path.iterdir()) == []


def refuse_all(directory: Path) -> None:
    with UploadDirectory(directory) as uploads:
        url = uploads.callback(request_for("/a")).presigned_url
        assert put(url.split("?")[0] + "?token=guess", b"x") == 403
        assert put(url, b"1\r\nx\r\n0\r\n\r\n", **{"Transfer-Encoding": "chunked"}) == 411
        assert put(url, b"", **{"Content-Length": "\u00b2"}) == 411


def test_outside_its_context_it_has_no_answer(tmp_path: Path) -> None:
    uploads = UploadDirectory(tmp_path)
    with pytest.raises(RuntimeError, match="context manager"):
        uploads.callback(request_for("/a"))
    with uploads:
        pass
    # A URL of a server that is gone would lose the file without a word.
    with pytest.raises(RuntimeError, match="context manager"):
        uploads.callback(request_for("/a"))


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_directory_has_a_name(blank: str) -> None:
    for kind in (QueryOptions, ExecuteCommandsOptions):
        with pytest.raises(ValueError, match=r"artifacts_dirs\[1\] must not be empty"):
            kind(artifacts_dirs=["/out", blank], on_artifact_upload_request=print)  # type: ignore[arg-type]  # never called
