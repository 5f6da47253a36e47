"""Reading, writing, listing and removing files, by clients and sessions, with the embedded runtime and a strict one."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path, PurePosixPath
from typing import Any, Callable, List, Optional, Tuple

import pytest

from runtimeuse_sync import RuntimeUseClient, RuntimeUseError
from runtimeuse_sync.files import FileChangedError, FileError, FileInfo
from runtimeuse_sync.files._scripts import PIECE, VARIABLE

from ..support.strict_runtime import StrictRuntime
from .conftest import Sandbox

#: Names that shells, archives and lists may stumble over.
NAMES = [
    "plain.txt",
    "with space",
    " leading and trailing ",
    "line\nbreak",
    "ends with a line break\n",
    "\n",
    "'single' and \"double\"",
    "-rf",
    "--help",
    "$HOME `id` $(id)",
    "back\\slash \\n \\101",
    "100%s %d",
    "* ? [a-z]",
    "grüße ☃",
    "~",
    "# comment; & | < > ( ) { }",
    "\t\x01\x7f",
    os.fsdecode(b"not utf-8 \xff\xfe"),
]


def random_bytes(size: int) -> bytes:
    return random.Random(size).getrandbits(8 * size).to_bytes(size, "big") if size else b""


# --- Contents.


@pytest.mark.parametrize(
    "size",
    [0, 1, 2, 3, VARIABLE - 1, VARIABLE, VARIABLE + 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 5_000_001, 9_000_000],
)
def test_contents_of_any_size_go_there_and_back(sandbox: Sandbox, size: int) -> None:
    data = random_bytes(size)
    sandbox.files.write("file", data)
    assert (sandbox.root / "file").read_bytes() == data
    assert sandbox.files.read("file") == data
    assert [path.name for path in sandbox.root.iterdir()] == ["file"]


def test_no_command_prints_a_mebibyte_or_takes_a_longer_variable(
    strict: StrictRuntime, strict_client: RuntimeUseClient
) -> None:
    data = random_bytes(12_000_000)
    strict_client.files.write("file", data)
    assert strict_client.files.read("file") == data
    assert 900_000 < strict.most_printed <= 1024 * 1024
    assert max(len(command.get("env", {})) for command in strict.commands) == 12


def test_all_bytes(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 3
    sandbox.files.write("file", data)
    assert sandbox.files.read("file") == data


@pytest.mark.parametrize("text", ["", "plain\n", "grüße ☃ \U0001f600\r\nno end", "\n\n\n"])
def test_text(sandbox: Sandbox, text: str) -> None:
    sandbox.files.write("file", text)
    assert sandbox.files.read_text("file") == text


def test_text_of_another_encoding(sandbox: Sandbox) -> None:
    sandbox.files.write("file", "grüße", encoding="latin-1")
    assert (sandbox.root / "file").read_bytes() == "grüße".encode("latin-1")
    assert sandbox.files.read_text("file", encoding="latin-1") == "grüße"
    with pytest.raises(UnicodeDecodeError):
        sandbox.files.read_text("file")
    assert sandbox.files.read_text("file", errors="replace") == "gr\ufffd\ufffde"


@pytest.mark.parametrize(
    "make",
    [
        lambda: bytearray(b"abc"),
        lambda: memoryview(b"xabcx")[1:4],
        lambda: io.BytesIO(b"abc"),
        lambda: io.BufferedReader(io.BytesIO(b"abc")),
        lambda: Unsized(b"a", b"bc"),
    ],
)
def test_other_kinds_of_data(sandbox: Sandbox, make: Callable[[], Any]) -> None:
    sandbox.files.write("file", make())
    assert sandbox.files.read("file") == b"abc"


def test_a_file_object_is_read_from_where_it_is(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "local"
    path.write_bytes(random_bytes(3_000_000))
    told: List[Tuple[int, Optional[int]]] = []
    with path.open("rb") as file:
        file.seek(10)
        sandbox.files.write("file", file, progress=lambda done, total: told.append((done, total)))
    assert sandbox.files.read("file") == random_bytes(3_000_000)[10:]
    assert told[0] == (0, 2_999_990)
    assert told[-1] == (2_999_990, 2_999_990)


def test_pseudo_files_that_do_not_know_their_size(sandbox: Sandbox) -> None:
    assert sandbox.files.read("/proc/version") == Path("/proc/version").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_names(sandbox: Sandbox, name: str) -> None:
    sandbox.files.write(f"above {name}/{name}", name.encode("utf-8", "surrogateescape"))
    assert [entry.name for entry in sandbox.files.list(f"above {name}")] == [name]
    assert os.listdir(sandbox.root / f"above {name}") == [name]
    path = PurePosixPath(f"above {name}", name)
    assert sandbox.files.read(path) == name.encode("utf-8", "surrogateescape")
    assert sandbox.files.exists(path)
    sandbox.files.remove(path)
    assert not sandbox.files.exists(path)
    assert sandbox.files.list(f"above {name}") == []


# --- Writing.


def test_parents_are_made_and_permissions_follow_the_umask(sandbox: Sandbox) -> None:
    sandbox.files.write("a/b/c/file", "x")
    mode = (sandbox.root / "a/b/c/file").stat().st_mode
    umask = os.umask(0)
    os.umask(umask)
    assert mode & 0o7777 == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o444, 0o640, 0o777])
def test_the_permissions_of_a_replaced_file_are_kept(sandbox: Sandbox, mode: int) -> None:
    path = sandbox.root / "file"
    path.write_text("old")
    path.chmod(mode)
    sandbox.files.write("file", "new")
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("new", mode)


def test_permissions_can_be_given(sandbox: Sandbox) -> None:
    sandbox.files.write("file", "x", mode=0o750)
    assert (sandbox.root / "file").stat().st_mode & 0o7777 == 0o750


def test_a_file_is_replaced_in_one_step(sandbox: Sandbox) -> None:
    path = sandbox.root / "file"
    path.write_text("old")
    with path.open() as reader:
        sandbox.files.write("file", random_bytes(200_000))
        # It is another file, so whoever reads the old one reads on.
        assert reader.read() == "old"


def test_a_file_is_written_through_a_link(sandbox: Sandbox) -> None:
    (sandbox.root / "real").mkdir()
    (sandbox.root / "real/file").write_text("old")
    (sandbox.root / "link").symlink_to("real/file")
    (sandbox.root / "dangling").symlink_to("real/new\n")
    sandbox.files.write("link", "new")
    sandbox.files.write("dangling", "too")
    assert (sandbox.root / "link").is_symlink()
    assert (sandbox.root / "real/file").read_text() == "new"
    assert (sandbox.root / "real/new\n").read_text() == "too"


# --- What fails.


def failing(sandbox: Sandbox) -> None:
    (sandbox.root / "file").write_text("x")
    (sandbox.root / "directory/inner").mkdir(parents=True)
    os.mkfifo(str(sandbox.root / "fifo"))
    (sandbox.root / "loop").symlink_to("loop")


@pytest.mark.parametrize(
    ("kind", "path", "act"),
    [
        (FileNotFoundError, "no file", lambda files, local: files.read("no file")),
        (FileNotFoundError, "no/file", lambda files, local: files.read_text("no/file")),
        (IsADirectoryError, "directory", lambda files, local: files.read("directory")),
        (NotADirectoryError, "file/below", lambda files, local: files.read("file/below")),
        (OSError, "fifo", lambda files, local: files.read("fifo")),
        (OSError, "loop", lambda files, local: files.read("loop")),
        (IsADirectoryError, "directory", lambda files, local: files.write("directory", "x")),
        (IsADirectoryError, "directory", lambda files, local: files.write("directory", random_bytes(200_000))),
        (NotADirectoryError, "file/below", lambda files, local: files.write("file/below", "x")),
        (OSError, "fifo", lambda files, local: files.write("fifo", "x")),
        (FileNotFoundError, "/proc/none/file", lambda files, local: files.write("/proc/none/file", "x")),
        (OSError, "n" * 300, lambda files, local: files.write("n" * 300, "x")),
        (FileNotFoundError, "none", lambda files, local: files.list("none")),
        (NotADirectoryError, "file", lambda files, local: files.list("file")),
        (FileNotFoundError, "none", lambda files, local: files.remove("none")),
        (IsADirectoryError, "directory", lambda files, local: files.remove("directory")),
        (OSError, ".", lambda files, local: files.remove(".", recursive=True)),
        (OSError, "/", lambda files, local: files.remove("/", recursive=True)),
        (OSError, "directory/..", lambda files, local: files.remove("directory/..", recursive=True)),
        (FileNotFoundError, "none", lambda files, local: files.download("none", local / "copy")),
        (OSError, "fifo", lambda files, local: files.download("fifo", local / "copy")),
        (IsADirectoryError, "directory", lambda files, local: files.upload(local / "file", "directory")),
        (NotADirectoryError, "file", lambda files, local: files.upload(local / "tree", "file")),
        (NotADirectoryError, "file/below", lambda files, local: files.upload(local / "tree", "file/below")),
    ],
)
def test_an_error_names_path_and_reason(
    sandbox: Sandbox, tmp_path: Path, kind: Any, path: str, act: Callable[[Any, Path], Any]
) -> None:
    failing(sandbox)
    local = tmp_path / "local"
    (local / "tree/inner").mkdir(parents=True)
    (local / "file").write_text("x")
    with pytest.raises(kind) as raised:
        act(sandbox.files, local)
    error = raised.value
    assert isinstance(error, FileError)
    assert isinstance(error, RuntimeUseError)
    assert (error.path, error.filename, error.side) == (path, path, "sandbox")
    assert error.reason
    assert error.errno
    assert str(error) == f"{path!r}: {error.reason}"
    assert not (local / "copy").exists()
    assert sandbox.left() == []
    # What was there is as it was, and the next operation works.
    assert sandbox.files.read("file") == b"x"
    assert sorted(os.listdir(sandbox.root)) == ["directory", "fifo", "file", "loop"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_permission_is_denied(sandbox: Sandbox) -> None:
    path = sandbox.root / "file"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(PermissionError):
        sandbox.files.read("file")
    sandbox.root.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            sandbox.files.write("new", "x")
        with pytest.raises(PermissionError):
            sandbox.files.remove("file")
    finally:
        sandbox.root.chmod(0o700)


def test_what_a_utility_says_of_permissions_is_a_permission_error(
    strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path
) -> None:
    """For tests that are run by root, which no permission stops."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "mv").write_text("#!/bin/sh\necho \"mv: cannot move to '$3': Permission denied\" >&2\nexit 1\n")
    (tools / "mv").chmod(0o755)
    strict.env["PATH"] = f"{tools}:{strict.env['PATH']}"
    with pytest.raises(PermissionError, match="cannot move"):
        strict_client.files.write("file", "x")
    assert list(strict.root.iterdir()) == []


# --- Lists, existence, removal.


def test_a_list_says_what_there_is(sandbox: Sandbox) -> None:
    root = sandbox.root
    (root / "file").write_text("12345")
    (root / "empty").touch()
    (root / "directory").mkdir()
    (root / "link").symlink_to("nowhere")
    (root / ".hidden").touch()
    os.mkfifo(str(root / "fifo"))
    os.utime(root / "file", (1_500_000_000, 1_500_000_000))
    found = {entry.name: entry for entry in sandbox.files.list()}
    assert list(found) == sorted([".hidden", "directory", "empty", "fifo", "file", "link"])
    assert found["file"] == FileInfo("file", "file", 5, 1_500_000_000)
    assert {name: entry.kind for name, entry in found.items()} == {
        ".hidden": "file",
        "directory": "directory",
        "empty": "file",
        "fifo": "other",
        "file": "file",
        "link": "symlink",
    }
    assert found["link"].size == len("nowhere")
    for entry in found.values():
        assert entry.mtime == int(os.lstat(root / entry.name).st_mtime)
    assert [entry.name for entry in sandbox.files.list(root / "directory")] == []


def test_a_very_long_list(sandbox: Sandbox) -> None:
    names = [f"{index:05} {'n' * 180}" for index in range(6000)]
    for name in names:
        (sandbox.root / name).touch()
    assert [entry.name for entry in sandbox.files.list(".")] == names
    assert sandbox.left() == []


def test_exists(sandbox: Sandbox) -> None:
    (sandbox.root / "file").touch()
    (sandbox.root / "directory").mkdir()
    (sandbox.root / "dangling").symlink_to("nowhere")
    paths = ("file", "directory", "directory/", "file/", "dangling", "no", "/")
    found = {path: sandbox.files.exists(path) for path in paths}
    assert found == {
        "file": True,
        "directory": True,
        "directory/": True,
        "file/": False,
        "dangling": False,
        "no": False,
        "/": True,
    }


def test_remove(sandbox: Sandbox) -> None:
    root = sandbox.root
    (root / "full/inner").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "link").symlink_to("full")
    (root / "dangling").symlink_to("nowhere")
    sandbox.files.remove("dangling")
    sandbox.files.remove("link", recursive=True)
    sandbox.files.remove("empty/")
    assert os.listdir(root) == ["full"]
    assert (root / "full/inner").is_dir()
    sandbox.files.remove("full", recursive=True)
    assert os.listdir(root) == []
    sandbox.files.remove("full", missing_ok=True)


# --- Progress.


def test_progress_tells_bytes(sandbox: Sandbox) -> None:
    size = 5_000_000
    for name, act in (
        ("write", lambda progress: sandbox.files.write("file", random_bytes(size), progress=progress)),
        ("read", lambda progress: sandbox.files.read("file", progress=progress)),
    ):
        told: List[Tuple[int, Optional[int]]] = []
        act(lambda done, total, told=told: told.append((done, total)))
        assert told[-1] == (size, size), name
        assert told == sorted(told), name
        assert {total for _, total in told} == {size}, name
        assert len(told) > 1, name


def test_progress_of_an_empty_file(sandbox: Sandbox) -> None:
    told: List[Tuple[int, Optional[int]]] = []
    sandbox.files.write("file", b"", progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 0)]
    sandbox.files.read("file", progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 0), (0, 0)]


class Unsized:
    """A file object that does not know its size."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_progress_of_unknown_size(sandbox: Sandbox) -> None:
    told: List[Tuple[int, Optional[int]]] = []
    sandbox.files.write("file", Unsized(b"ab", b"c"), progress=lambda done, total: told.append((done, total)))
    assert told == [(0, None), (3, None), (3, 3)]
    assert sandbox.files.read("file") == b"abc"


# --- Files that change.


def test_a_file_that_changes_while_it_is_read_is_read_again(
    strict: StrictRuntime, strict_client: RuntimeUseClient
) -> None:
    path = strict.root / "file"
    path.write_bytes(random_bytes(3 * PIECE))
    changes = [random_bytes(3 * PIECE + 1), random_bytes(2 * PIECE)]

    def change(command: Any) -> None:
        if "skip=2" in command["command"] and changes:
            path.write_bytes(changes.pop(0))

    strict.before = change
    assert strict_client.files.read("file") == random_bytes(2 * PIECE)


def test_a_file_that_never_stops_changing_is_an_error(
    strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path
) -> None:
    path = strict.root / "file"
    path.write_bytes(random_bytes(2 * PIECE))

    def change(command: Any) -> None:
        if "skip=1" in command["command"]:
            with path.open("r+b") as file:
                byte = file.read(1)[0]
                file.seek(0)
                file.write(bytes([byte ^ 1]))

    strict.before = change
    local = tmp_path / "copy"
    local.write_text("old")
    with pytest.raises(FileChangedError, match="It changed while it was read"):
        strict_client.files.read("file")
    with pytest.raises(FileChangedError):
        strict_client.files.download("file", local)
    assert local.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["copy", "sandbox"]


def test_a_file_that_shrinks_while_it_is_read(strict: StrictRuntime, strict_client: RuntimeUseClient) -> None:
    path = strict.root / "file"
    path.write_bytes(random_bytes(4 * PIECE))

    def change(command: Any) -> None:
        if "skip=2" in command["command"]:
            path.write_bytes(b"short")

    strict.before = change
    assert strict_client.files.read("file") == b"short"
