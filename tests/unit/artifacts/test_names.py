"""What uploaded files are called: by their path below the artifact directory, each file by a name of its own."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from runtimeuse_sync import ArtifactUploadRequestMessageInterface
from runtimeuse_sync._wire.artifact_paths import ArtifactDirectories
from runtimeuse_sync.artifacts.names import Names
from runtimeuse_sync.messages import announce_as, announce_in


def request_for(filepath: str, *directories: str) -> ArtifactUploadRequestMessageInterface:
    request = ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "name", filepath)
    if directories:
        announce_in(request, ArtifactDirectories(directories))
    return request


def name_in(names: Names, filepath: str, *directories: str) -> str:
    return names.name_of(request_for(filepath, *directories), filepath)


def test_a_file_is_called_by_its_path_below_the_directory() -> None:
    assert name_in(Names(), "/w/out/x/a.txt", "out") == "x/a.txt"
    assert request_for("/w/out/x/a.txt", "out").relative_path == "x/a.txt"


def test_without_a_known_directory_the_name_is_the_whole_path() -> None:
    for request in (request_for("/w/out/a.txt"), request_for("/w/out/a.txt", "elsewhere")):
        assert Names().name_of(request, request.filepath) == "w/out/a.txt"
        assert request.relative_path == "w/out/a.txt"


def test_a_path_leads_nowhere_else() -> None:
    for path in ("../../etc/passwd", "/w/../../etc/passwd", "/w/out/../../etc/passwd", "/etc/passwd"):
        for directories in ((), ("out",), (".",), ("..",), ("../..",)):
            name = name_in(Names(), path, *directories)
            assert not name.startswith("/")
            assert ".." not in name.split("/")
            assert request_for(path, *directories).relative_path == name


@pytest.mark.parametrize("path", ["", "/", "/.."])
def test_a_path_that_names_no_file(path: str) -> None:
    with pytest.raises(ValueError, match="names no file"):
        name_in(Names(), path, "/w")
    with pytest.raises(ValueError, match="names no file"):
        request_for(path).relative_path  # noqa: B018  # it raises


def test_a_file_keeps_its_name() -> None:
    names = Names()
    for _ in range(2):
        assert name_in(names, "/w/out/a.txt", "out", "logs") == "a.txt"
        assert name_in(names, "/w/logs/a.txt", "out", "logs") == "logs/a.txt"
    # Even if its directory changes.
    assert name_in(names, "/w/out/a.txt", "/w") == "a.txt"


def test_no_two_files_have_one_name() -> None:
    names = Names()
    # The file that really has the path which the other would get.
    assert name_in(names, "/w/out/logs/a.tar.gz", "out", "logs") == "logs/a.tar.gz"
    assert name_in(names, "/w/out/a.tar.gz", "out", "logs") == "a.tar.gz"
    assert name_in(names, "/w/logs/a.tar.gz", "out", "logs") == "logs/a.tar-2.gz"
    # Of another sandbox.
    assert name_in(names, "/v/logs/a.tar.gz", "out", "logs") == "logs/a.tar-3.gz"
    assert name_in(names, "v/logs/a.tar.gz") == "v/logs/a.tar.gz"
    assert name_in(names, "/v//logs/a.tar.gz") == "v/logs/a.tar-2.gz"


def test_very_many_files_of_one_name() -> None:
    names = Names()
    given = {name_in(names, f"/{number}/out/a", "out") for number in range(5_000)}
    assert given == {"a", "out/a"} | {f"out/a-{number}" for number in range(2, 5_000)}


def test_files_that_differ_in_bytes_alone_stay_apart() -> None:
    names = Names()
    given = []
    for path in ("/out/caf\udce9", "/out/caf\udcea"):
        request = request_for("/out/caf\ufffd", "/out")
        announce_as(request, "name", path)
        given.append(names.name_of(request, request.filepath))
    assert given == ["caf\ufffd", "out/caf\ufffd"]


@pytest.mark.parametrize("working_dir", ["/out/w", PurePosixPath("/out/w")])
def test_a_working_directory_decides(working_dir: Any) -> None:
    names = Names(working_dir)
    assert name_in(names, "/out/w/out/a", "out") == "a"
    assert name_in(names, "/out/w/b", ".") == "b"


@pytest.mark.parametrize(
    ("value", "error"), [(3, TypeError), (b"/w", TypeError), ("", ValueError), ("w", ValueError), (".", ValueError)]
)
def test_working_directories_that_are_none(value: Any, error: Any) -> None:
    with pytest.raises(error, match="working_dir"):
        Names(value)
