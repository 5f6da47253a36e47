"""Copying files and trees, both ways: permissions, links, names, empty ones; merging; what fails."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.files import FileChangedError, FileError, FileNotADirectoryError, UnsafeArchiveError

from ..support.strict_runtime import StrictRuntime
from .conftest import Sandbox
from .test_files import NAMES, random_bytes


def make_tree(root: Path) -> None:
    root.mkdir()
    (root / "file").write_bytes(random_bytes(2_000_000))
    (root / "empty").touch()
    (root / "empty directory").mkdir()
    (root / "secret").write_text("x")
    (root / "secret").chmod(0o600)
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o755)
    (root / "private").mkdir(mode=0o700)
    (root / "private/inner").mkdir()
    (root / "private/inner/file").write_text("inner")
    (root / "read only").mkdir()
    (root / "read only/file").write_text("r")
    (root / "read only").chmod(0o555)
    (root / "link").symlink_to("private/inner/file")
    (root / "link to directory").symlink_to("private")
    (root / "private/up").symlink_to("../file")
    (root / "dangling").symlink_to("nowhere")
    (root / "d" / ("n" * 200) / ("m" * 200)).mkdir(parents=True)
    (root / "d" / ("n" * 200) / ("m" * 200) / "file").write_text("far down")
    (root / "names").mkdir()
    for name in NAMES:
        (root / "names" / name).write_bytes(os.fsencode(name))
        (root / "names" / (name + " d")).mkdir()
        (root / "names" / (name + " l")).symlink_to(name)
    for index, path in enumerate(sorted(root.rglob("*"))):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1_400_000_000 + index, 1_400_000_000 + index))
    root.chmod(0o750)


def tree(root: Path) -> Dict[str, Tuple[Any, ...]]:
    """Returns all that matters of a tree."""
    found: Dict[str, Tuple[Any, ...]] = {".": (stat.S_IMODE(root.stat().st_mode),)}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            found[name] = ("link", os.readlink(path))
        elif stat.S_ISDIR(status.st_mode):
            found[name] = ("directory", stat.S_IMODE(status.st_mode))
        else:
            found[name] = ("file", stat.S_IMODE(status.st_mode), int(status.st_mtime), path.read_bytes())
    return found


def test_a_tree_goes_there_and_back(sandbox: Sandbox, tmp_path: Path) -> None:
    make_tree(tmp_path / "local")
    told: List[Tuple[int, Optional[int]]] = []
    sandbox.files.upload(tmp_path / "local", "made/remote", progress=lambda done, total: told.append((done, total)))
    assert tree(sandbox.root / "made/remote") == tree(tmp_path / "local")
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] == told[0][1]
    told.clear()
    copy = sandbox.files.download(
        "made/remote", tmp_path / "above" / "copy", progress=lambda done, total: told.append((done, total))
    )
    assert copy == tmp_path / "above" / "copy"
    assert tree(copy) == tree(tmp_path / "local")
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)
    assert os.listdir(tmp_path / "above") == ["copy"]
    assert sandbox.left() == []


def test_an_empty_tree(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    sandbox.files.upload(tmp_path / "local", "remote")
    assert list((sandbox.root / "remote").iterdir()) == []
    sandbox.files.download("remote/", tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755])
def test_a_file_goes_there_and_back(sandbox: Sandbox, tmp_path: Path, size: int, mode: int) -> None:
    local = tmp_path / "local"
    local.write_bytes(random_bytes(size))
    local.chmod(mode)
    sandbox.files.upload(str(local), "made/file")
    remote = sandbox.root / "made/file"
    assert (remote.read_bytes(), stat.S_IMODE(remote.stat().st_mode)) == (local.read_bytes(), mode)
    copy = tmp_path / "copy"
    copy.write_text("old")
    sandbox.files.download("made/file", copy)
    assert (copy.read_bytes(), stat.S_IMODE(copy.stat().st_mode)) == (local.read_bytes(), mode)
    assert sorted(os.listdir(tmp_path)) == ["copy", "local", "sandbox"]


def test_many_directories_that_cannot_be_written(sandbox: Sandbox, tmp_path: Path) -> None:
    """Their permissions take more than one command."""
    for index in range(400):
        (tmp_path / "local" / f"{index} {'n' * 200}").mkdir(parents=True)
        (tmp_path / "local" / f"{index} {'n' * 200}").chmod(0o555)
    sandbox.files.upload(tmp_path / "local", "remote")
    assert tree(sandbox.root / "remote") == tree(tmp_path / "local")


def test_hard_links_become_files(sandbox: Sandbox, tmp_path: Path) -> None:
    root = sandbox.root / "remote"
    root.mkdir()
    (root / "a").write_text("same")
    os.link(root / "a", root / "b")
    sandbox.files.download("remote", tmp_path / "copy")
    assert (tmp_path / "copy/a").read_text() == (tmp_path / "copy/b").read_text() == "same"
    sandbox.files.upload(tmp_path / "copy", "again")
    assert (sandbox.root / "again/a").read_text() == (sandbox.root / "again/b").read_text() == "same"


def test_a_tree_is_merged_into_an_existing_one(sandbox: Sandbox, tmp_path: Path) -> None:
    local, remote = tmp_path / "local", sandbox.root / "remote"
    (local / "d/new").mkdir(parents=True)
    (local / "d/file").write_text("new")
    (local / "d/new/file").write_text("new")
    (local / "link").symlink_to("d")
    (local / "was a link").write_text("file")
    (remote / "d").mkdir(parents=True)
    (remote / "d").chmod(0o700)
    (remote / "d/file").write_text("old")
    (remote / "d/kept").write_text("kept")
    (remote / "link").symlink_to("elsewhere")
    (remote / "elsewhere").mkdir()
    (remote / "was a link").symlink_to("d")
    sandbox.files.upload(local, "remote")
    assert (remote / "d/file").read_text() == "new"
    assert (remote / "d/new/file").read_text() == "new"
    assert (remote / "d/kept").read_text() == "kept"
    assert os.readlink(remote / "link") == "d"
    assert (remote / "was a link").read_text() == "file"
    assert list((remote / "elsewhere").iterdir()) == []
    assert sandbox.left() == []
    # And back, into the tree that was sent.
    (remote / "d/new/file").write_text("newer")
    sandbox.files.download("remote", local)
    assert (local / "d/new/file").read_text() == "newer"
    assert (local / "d/kept").read_text() == "kept"


def test_what_is_in_the_way_in_the_sandbox(sandbox: Sandbox, tmp_path: Path) -> None:
    local, remote = tmp_path / "local", sandbox.root / "remote"
    (local / "d").mkdir(parents=True)
    (local / "a").write_text("new")
    (local / "d/file").write_text("new")
    remote.mkdir()
    (remote / "d").write_text("a file")
    with pytest.raises(NotADirectoryError):
        sandbox.files.upload(local, "remote")
    assert os.listdir(remote) == ["d"]
    (remote / "d").unlink()
    (remote / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        sandbox.files.upload(local, "remote")
    assert os.listdir(remote) == ["a"]
    assert sandbox.left() == []


def test_what_is_in_the_way_here(sandbox: Sandbox, tmp_path: Path) -> None:
    (sandbox.root / "file").write_text("x")
    (sandbox.root / "tree").mkdir()
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("as it was")
    with pytest.raises(IsADirectoryError) as raised:
        sandbox.files.download("file", tmp_path / "directory")
    assert isinstance(raised.value, FileError)
    assert (raised.value.side, raised.value.path) == ("local", str(tmp_path / "directory"))
    with pytest.raises(FileNotADirectoryError) as other:
        sandbox.files.download("tree", tmp_path / "file")
    assert other.value.path == str(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        sandbox.files.download("file", tmp_path / "file/below")
    assert (tmp_path / "file").read_text() == "as it was"
    assert sorted(os.listdir(tmp_path)) == ["directory", "file", "sandbox"]
    assert sandbox.left() == []


def test_a_download_goes_through_a_local_link(sandbox: Sandbox, tmp_path: Path) -> None:
    (sandbox.root / "file").write_text("new")
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    sandbox.files.download("file", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("leads_to", ["/etc/passwd", "..", "../sibling", "d/../../x"])
def test_a_link_to_outside_is_refused(sandbox: Sandbox, tmp_path: Path, leads_to: str) -> None:
    (sandbox.root / "tree/d").mkdir(parents=True)
    (sandbox.root / "tree/file").write_text("x")
    (sandbox.root / "tree/link").symlink_to(leads_to)
    with pytest.raises(UnsafeArchiveError, match="'link'"):
        sandbox.files.download("tree", tmp_path / "copy")
    assert os.listdir(tmp_path) == ["sandbox"]
    assert sandbox.left() == []


def test_a_device_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    (sandbox.root / "tree").mkdir()
    os.mkfifo(str(sandbox.root / "tree/fifo"))
    with pytest.raises(UnsafeArchiveError, match="'fifo'"):
        sandbox.files.download("tree", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_cannot_be_uploaded(strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(local)
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        with pytest.raises(FileError, match="Neither a file nor a directory") as raised:
            strict_client.files.upload(local, "remote")
        assert (raised.value.side, raised.value.path) == ("local", str(local / "socket"))
    with pytest.raises(FileNotFoundError):
        strict_client.files.upload(tmp_path / "none", "remote")
    with pytest.raises(FileError):
        strict_client.files.upload("/dev/null", "remote")
    assert strict.requests == [], "found before anything was sent"


def test_a_local_file_that_changes_while_it_is_read(
    strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    path = local / "file"
    path.write_bytes(random_bytes(12_000_000))

    def grow(command: Any) -> None:
        with path.open("ab") as file:
            file.write(b"x")

    strict.before = grow
    for source in (path, local):
        with pytest.raises(FileChangedError, match=r"grew|changed") as raised:
            strict_client.files.upload(source, "remote")
        assert raised.value.side == "local"
        assert list(strict.root.iterdir()) == []


def test_a_tree_that_changes_while_it_is_packed(
    strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path
) -> None:
    """By a `tar` that says so, as GNU's does."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tar").write_text("#!/bin/sh\necho 'tar: ./log: file changed as we read it' >&2\nexit 1\n")
    (tools / "tar").chmod(0o755)
    strict.env["PATH"] = f"{tools}:{strict.env['PATH']}"
    (strict.root / "tree").mkdir()
    with pytest.raises(FileChangedError, match="file changed as we read it"):
        strict_client.files.download("tree", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
