"""Arguments that cannot be are refused, by name, before anything is sent."""

from __future__ import annotations

import os
import re
import tracemalloc
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.files._arguments import RemotePath, local_path, source_of

from ...support.doubles import NeverOpened


class Lazy:
    """A path of another kind."""

    def __init__(self, path: Any) -> None:
        self._path = path

    def __fspath__(self) -> Any:
        return self._path


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("a", b"./a"),
        ("/a/b", b"/a/b"),
        ("a/", b"./a"),
        ("//", b"/"),
        (".", b"./."),
        ("-rf", b"./-rf"),
        ("~", b"./~"),
        ("grüße", "./grüße".encode()),
        (os.fsdecode(b"\xff"), b"./\xff"),
        (PurePosixPath("/a/b"), b"/a/b"),
        (PureWindowsPath("a/b"), b"./a/b"),
        (Path("a"), b"./a"),
        (Lazy("a"), b"./a"),
    ],
)
def test_paths_in_the_sandbox(path: Any, raw: bytes) -> None:
    assert RemotePath("path", path).raw == raw


def test_local_paths(tmp_path: Path) -> None:
    assert local_path("local", Lazy(str(tmp_path))) == local_path("local", tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("kind", "why", "act"),
    [
        (TypeError, "path must be a str or a path, not int", lambda files: files.read(1)),
        (TypeError, "path must be a str or a path, not bytes", lambda files: files.read(b"a")),
        (TypeError, "path must be a str or a path, not bytes", lambda files: files.read(Lazy(b"a"))),
        (TypeError, "path must be a str or a path, not NoneType", lambda files: files.exists(None)),
        (ValueError, "path must not be empty", lambda files: files.remove("")),
        (ValueError, "path contains a NUL character", lambda files: files.list("a\0b")),
        (ValueError, "path contains a lone surrogate that stands for no byte", lambda files: files.read("\ud800")),
        (ValueError, "path must name a file", lambda files: files.write("a/", "x")),
        (ValueError, "path must name a file", lambda files: files.write("/", "x")),
        (ValueError, "remote must name a file", lambda files: files.upload(__file__, "a/")),
        (TypeError, "data must be bytes, a str or a binary file object, not int", lambda files: files.write("a", 1)),
        (TypeError, "data must be bytes, a str or a binary file object, not NoneType", lambda f: f.write("a", None)),
        (TypeError, "mode must be permissions as an int", lambda files: files.write("a", "x", mode="644")),
        (ValueError, "mode must be permissions such as 0o644", lambda files: files.write("a", "x", mode=0o10000)),
        (ValueError, "mode must be permissions such as 0o644", lambda files: files.write("a", "x", mode=-1)),
        (TypeError, "progress must be callable, not int", lambda files: files.read("a", progress=1)),
        (TypeError, "progress must be callable", lambda files: files.write("a", "x", progress=1)),
        (TypeError, "progress must be callable", lambda files: files.upload(__file__, "a", progress=1)),
        (TypeError, "progress must be callable", lambda files: files.download("a", "b", progress=1)),
        (ValueError, "timeout must be more than 0 seconds", lambda files: files.read("a", timeout=0)),
        (ValueError, "timeout must be more than 0 seconds", lambda files: files.exists("a", timeout=float("nan"))),
        (TypeError, "timeout must be a number of seconds or None", lambda files: files.list("a", timeout="1")),
        (TypeError, "local must be a str or a path, not int", lambda files: files.upload(1, "a")),
        (TypeError, "remote must be a str or a path, not int", lambda files: files.upload(__file__, 1)),
        (TypeError, "remote must be a str or a path, not int", lambda files: files.download(1, "a")),
        (ValueError, "local must not be empty", lambda files: files.download("a", "")),
        (TypeError, "recursive must be a bool", lambda files: files.remove("a", recursive=1)),
        (TypeError, "missing_ok must be a bool", lambda files: files.remove("a", missing_ok=None)),
        (TypeError, "encoding must be a str", lambda files: files.read_text("a", encoding=None)),
        (LookupError, "unknown encoding: none", lambda files: files.read_text("a", encoding="none")),
        (LookupError, "unknown error handler name", lambda files: files.read_text("a", errors="none")),
        (LookupError, "unknown encoding: none", lambda files: files.write("a", "x", encoding="none")),
        (UnicodeEncodeError, "ascii", lambda files: files.write("a", "ü", encoding="ascii")),
        (TypeError, "unexpected keyword", lambda files: files.read("a", timout=1)),
    ],
)
def test_invalid_arguments(kind: Any, why: str, act: Any) -> None:
    transport = NeverOpened()
    client = RuntimeUseClient(transport=transport)
    with pytest.raises(kind, match=re.escape(why)):
        act(client.files)
    assert not transport.opened


def test_bytes_are_not_copied() -> None:
    """A large copy would delay the begin of the operation, and so an abort."""
    data = bytes(10_000_000)
    tracemalloc.start()
    try:
        reader, size = source_of(data, "utf-8")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert (reader.read(3), size) == (b"\0\0\0", 10_000_000)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_may_change_is_copied(kind: Any) -> None:
    changing = bytearray(b"before")
    reader, size = source_of(kind(changing), "utf-8")
    changing[:] = b"after!"
    assert (reader.read(100), size) == (b"before", 6)
