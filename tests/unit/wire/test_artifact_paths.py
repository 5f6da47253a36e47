"""Which part of an announced path is below its artifact directory."""

from __future__ import annotations

import time
from typing import List, Optional, Tuple

import pytest

from runtimeuse_sync._wire.artifact_paths import ArtifactDirectories, parts_of, relative_path


def below(filepath: str, *directories: str, working_dir: Optional[str] = None) -> Optional[str]:
    place = ArtifactDirectories(directories).place(filepath, working_dir)
    return None if place is None else "/".join(place.below)


@pytest.mark.parametrize(
    ("path", "relative"),
    [
        ("/out/a.txt", "out/a.txt"),
        ("out//b", "out/b"),
        ("../../etc/x", "etc/x"),
        ("./a/./b", "a/b"),
        ("a\\b/../c", "a\\b/c"),
    ],
)
def test_a_path_leads_nowhere_else(path: str, relative: str) -> None:
    assert relative_path(path) == relative


@pytest.mark.parametrize("path", ["", "/", "/../.", ".."])
def test_a_path_that_names_no_file(path: str) -> None:
    with pytest.raises(ValueError, match="names no file"):
        relative_path(path)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/a/b", ["a", "b"]),
        ("a//b/./c/", ["a", "b", "c"]),
        ("/a/../b", ["b"]),
        ("/../a", ["a"]),
        ("../a", ["..", "a"]),
        ("a/../../b", ["..", "b"]),
        ("../../a", ["..", "..", "a"]),
        (".", []),
        ("/", []),
    ],
)
def test_the_names_in_a_path(path: str, parts: List[str]) -> None:
    assert list(parts_of(path)) == parts


@pytest.mark.parametrize("directory", ["/w/out", "/w/out/", "/w//./out", "/w/x/../out", "/../w/out/."])
def test_an_absolute_directory(directory: str) -> None:
    assert below("/w/out/x/a.txt", directory) == "x/a.txt"
    assert below("/w/./out/y/../a.txt", directory) == "a.txt"
    for other in ("/w/out", "/w/output/a.txt", "/v/w/out/a.txt", "/w/a.txt", "w/out/a.txt", "/w/out/.."):
        assert below(other, directory) is None, other


@pytest.mark.parametrize("directory", ["out", "out/", "./out", "x/../out", "out/.", "../out"])
def test_a_relative_directory(directory: str) -> None:
    assert below("/w/root/out/x/a.txt", directory) == "x/a.txt"
    for other in ("/w/root/out", "/w/root/output/a.txt", "/w/a.txt"):
        assert below(other, directory) is None, other


@pytest.mark.parametrize(
    ("filepath", "directory", "expected"),
    [
        ("out/a.txt", "out", "a.txt"),
        ("./out/x/a.txt", "out/", "x/a.txt"),
        ("../out/a.txt", "../out", "a.txt"),
        ("../out/a.txt", "out", None),
        ("x/out/a.txt", "out", None),
        ("x/a.txt", ".", "x/a.txt"),
        ("out/a.txt", "/out", None),
    ],
)
def test_a_runtime_that_announces_relative_paths(filepath: str, directory: str, expected: Optional[str]) -> None:
    assert below(filepath, directory) == expected


def test_a_directory_of_several_names() -> None:
    assert below("/w/dist/b/web/dist/a.txt", "web/dist") == "a.txt"
    assert below("/w/web/x/dist/a.txt", "web/dist") is None


def test_a_name_that_occurs_several_times() -> None:
    """A folder of the artifact directory may have its name; the client takes the directory to be the first."""
    assert below("/w/out/x/out/a.txt", "out") == "x/out/a.txt"
    assert below("/w/out/out", "out") == "out"
    assert below("/out/w/out/a.txt", "/out/w/out") == "a.txt"


@pytest.mark.parametrize(
    "directories", [("/w/out", "/w/out/x"), ("/w/out/x", "/w/out"), ("out", "out/x"), ("/", "/w/out/x")]
)
def test_of_directories_in_each_other_the_innermost_counts(directories: Tuple[str, str]) -> None:
    assert below("/w/out/x/a.txt", *directories) == "a.txt"


def test_the_name_of_an_inner_directory_may_be_a_file() -> None:
    assert below("/w/out/x", "/w/out", "/w/out/x") == "x"
    assert below("/w/out/x", "out", "out/x") == "x"


def test_what_is_certain_comes_before_what_occurs_first() -> None:
    assert below("/w/out/x/a.txt", "/w/out", "x") == "x/a.txt"
    assert below("/w/out/x/a.txt", "x", "out") == "x/a.txt"


def test_the_root_as_a_directory() -> None:
    assert below("/a/b", "/") == "a/b"


@pytest.mark.parametrize("directory", [".", "..", "./", "x/..", "../.."])
def test_a_directory_that_the_client_cannot_know(directory: str) -> None:
    assert below("/w/root/a.txt", directory) is None


@pytest.mark.parametrize(
    ("filepath", "directory", "expected"),
    [
        ("/out/w/out/a.txt", "out", "a.txt"),
        ("/out/w/x/a.txt", ".", "x/a.txt"),
        ("/out/x/a.txt", "..", "x/a.txt"),
        ("/out/out/a.txt", "../out", "a.txt"),
        ("/elsewhere/out/a.txt", "out", None),
        ("out/x/a.txt", "out", "x/a.txt"),
        ("out/x/a.txt", "/out/w/out", "x/a.txt"),
        ("/abs/a.txt", "/abs", "a.txt"),
    ],
)
def test_a_known_working_directory(filepath: str, directory: str, expected: Optional[str]) -> None:
    assert below(filepath, directory, working_dir="/out/w") == expected


@pytest.mark.parametrize("directory", ["/w/hunter2/out", "hunter2/out"])
def test_masked_directories(directory: str) -> None:
    directories = ArtifactDirectories([directory], ["hunter2"])
    for path in ("/w/[REDACTED]/out/x/a", "/w/hunter2/out/x/a"):
        place = directories.place(path)
        assert place is not None
        assert place.below == ("x", "a")


def test_directories_accumulate() -> None:
    first = ArtifactDirectories(["/w/hunter2"], ["hunter2"], ["one"])
    second = first.and_also(["logs"], ["er2"], ["two"])
    assert (first.secrets, second.secrets) == (["one"], ["two"])
    assert first.place("/w/logs/a") is None
    for path in ("/w/hunter2/a", "/w/[REDACTED]/a", "/w/hunt[REDACTED]/a", "/x/logs/a"):
        place = second.place(path)
        assert place is not None, path
        assert place.below == ("a",)
    third = second.and_also([], [], [])
    assert third.place("/w/hunt[REDACTED]/a") == second.place("/w/hunt[REDACTED]/a")


def test_a_path_of_very_many_names_takes_no_time() -> None:
    directories = ArtifactDirectories([*(f"/a/{number}" for number in range(100)), *(f"b/{n}" for n in range(100))])
    began = time.process_time()
    assert directories.place("/" + "b/" * 50_000 + "x") is None
    assert time.process_time() - began < 5
