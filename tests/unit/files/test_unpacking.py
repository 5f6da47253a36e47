"""An archive from the sandbox is not trusted: whatever it contains, nothing gets out of the local target."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from runtimeuse_sync.files import FileError, UnsafeArchiveError
from runtimeuse_sync.files._unpacking import Unpacker


def info(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", linkname: str = "", mode: int = 0o644) -> Any:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname, made.mode, made.mtime = kind, len(data), linkname, mode, 1_500_000_000
    return made, data


def directory(name: str, mode: int = 0o755) -> Any:
    return info(name, tarfile.DIRTYPE, mode=mode)


def symlink(name: str, leads_to: str) -> Any:
    return info(name, tarfile.SYMTYPE, linkname=leads_to)


def hard_link(name: str, first: str) -> Any:
    return info(name, tarfile.LNKTYPE, linkname=first)


def archive_of(*members: Any, form: int = tarfile.GNU_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        for made, data in members:
            archive.addfile(made, io.BytesIO(data))
    return target.getvalue()


def in_pieces(data: bytes, size: int = 700) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


class World:
    """A directory with the target in it, and everything that must stay as it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.target = root / "outer" / "target"
        self.target.parent.mkdir()
        self.secret = root / "secret"
        self.secret.write_text("as it was")

    def unpack(self, data: bytes) -> None:
        staging = self.target.parent / ".staging"
        staging.mkdir()
        try:
            unpacker = Unpacker(staging, "remote")
            unpacker.unpack(in_pieces(data))
            unpacker.put(self.target, 0o755)
        finally:
            for path in sorted(staging.rglob("*"), reverse=True) if staging.exists() else []:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            if staging.exists():
                staging.rmdir()

    def outside(self) -> List[str]:
        inside = str(self.target)
        paths = [str(path) for path in self.root.rglob("*") if not str(path).startswith(inside)]
        return sorted(os.path.relpath(path, str(self.root)) for path in paths)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


REFUSED = {
    "absolute": [info("/tmp/runtimeuse-escaped", data=b"x")],
    "above": [info("../escaped", data=b"x")],
    "above, further in": [directory("a"), info("a/../../escaped", data=b"x")],
    "inside by a detour": [directory("a"), info("a/../b", data=b"x")],
    "above, only": [directory("..")],
    "through a link to outside": [symlink("a", "../.."), info("a/escaped", data=b"x")],
    "through a link to inside": [directory("d"), symlink("a", "d"), info("a/file", data=b"x")],
    "through a link, as a directory": [symlink("a", "../.."), directory("a"), info("a/escaped", data=b"x")],
    "over a link": [symlink("a", "../../secret"), info("a", data=b"x")],
    "below a file": [info("a", data=b"x"), info("a/b", data=b"x")],
    "a directory over a file": [info("a", data=b"x"), directory("a")],
    "twice": [info("a", data=b"x"), info("a", data=b"y")],
    "link to an absolute path": [symlink("a", "/etc/passwd")],
    "link to above": [symlink("a", "..")],
    "link to above, further in": [directory("d"), symlink("d/a", "../..")],
    "link that comes back": [symlink("a", "../target/b")],
    "link through links": [directory("s"), symlink("s/d", ".."), symlink("s/e", "d/../x")],
    "link through a later link": [directory("s"), symlink("s/e", "d/../x"), symlink("s/d", "..")],
    "link through what is not there": [symlink("e", "none/../x")],
    "link through two": [directory("a"), symlink("b", "a"), symlink("c", "b/../../x")],
    "link that leads nowhere": [symlink("a", "")],
    "hard link to an absolute path": [hard_link("a", "/etc/passwd")],
    "hard link to above": [hard_link("a", "../../secret")],
    "hard link to nothing": [hard_link("a", "b")],
    "hard link to a symbolic one": [info("f", data=b"x"), symlink("s", "f"), hard_link("a", "s")],
    "hard link to a directory": [directory("d"), hard_link("a", "d")],
    "hard link through a link": [directory("d"), info("d/f", data=b"x"), symlink("s", "d"), hard_link("a", "s/f")],
    "a character device": [info("a", tarfile.CHRTYPE)],
    "a block device": [info("a", tarfile.BLKTYPE)],
    "a fifo": [info("a", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@pytest.mark.parametrize("exists", [False, True])
def test_what_would_get_out_is_refused(world: World, name: str, form: int, exists: bool) -> None:
    if exists:
        world.target.mkdir()
    data = archive_of(info("good", data=b"x"), *REFUSED[name], form=form)
    with pytest.raises(UnsafeArchiveError, match="'remote': The archive of the sandbox is refused"):
        world.unpack(data)
    assert world.outside() == ["outer", "secret"]
    assert world.secret.read_text() == "as it was"
    assert not Path("/tmp/runtimeuse-escaped").exists()
    # Nothing of it was put into the target, not even what is good.
    assert not world.target.exists() or list(world.target.iterdir()) == []


def test_a_name_with_a_nul_is_refused(world: World) -> None:
    made, data = info("a")
    made.pax_headers = {"path": "a\0b"}
    with pytest.raises(UnsafeArchiveError):
        world.unpack(archive_of((made, data), form=tarfile.PAX_FORMAT))


@pytest.mark.parametrize(
    "data",
    [
        b"not an archive" * 100,
        archive_of(info("a", data=b"x" * 5000))[:3000],
        archive_of(info("a", data=b"x" * 5000))[:700],
        b"\xff" * 10240,
    ],
    ids=["text", "cut in a file", "cut in a header", "ones"],
)
def test_what_is_no_archive_is_refused(world: World, data: bytes) -> None:
    with pytest.raises(UnsafeArchiveError):
        world.unpack(data)
    assert world.outside() == ["outer", "secret"]


def test_a_sparse_file_is_refused(world: World) -> None:
    made, data = info("sparse", data=b"x")
    made.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**12)}
    with pytest.raises(UnsafeArchiveError, match="sparse file"):
        world.unpack(archive_of((made, data), form=tarfile.PAX_FORMAT))
    assert world.outside() == ["outer", "secret"]


def test_a_good_archive(world: World) -> None:
    long = "n" * 150
    world.unpack(
        archive_of(
            directory("."),
            info("./file", data=b"abc", mode=0o4755),
            directory("./d", mode=0o555),
            info("./d/" + long, data=b"x" * 100_000, mode=0o400),
            directory("./d/e"),
            symlink("./d/e/up", "../../file"),
            symlink("./d/e/dangling", "none/at/all"),
            symlink("./loop", "loop"),
            hard_link("./again", "./file"),
            info("./no/parents/of/it", data=b"y"),
        )
    )
    target = world.target
    assert (target / "file").read_bytes() == (target / "again").read_bytes() == b"abc"
    assert stat.S_IMODE((target / "file").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o555
    assert stat.S_IMODE((target / "d" / long).stat().st_mode) == 0o400
    assert (target / "file").stat().st_mtime == 1_500_000_000
    assert os.readlink(str(target / "d/e/up")) == "../../file"
    assert (target / "d/e/up").read_bytes() == b"abc"
    assert (target / "d/e/dangling").is_symlink()
    assert (target / "loop").is_symlink()
    assert (target / "no/parents/of/it").read_bytes() == b"y"
    (target / "d").chmod(0o755)


def test_a_tree_is_merged_into_a_directory(world: World) -> None:
    target = world.target
    (target / "d").mkdir(parents=True)
    (target / "d/kept").write_text("kept")
    (target / "d/old").write_text("old")
    (target / "link").symlink_to("../../secret")
    world.unpack(
        archive_of(directory("d"), info("d/old", data=b"new"), info("link", data=b"no link"), symlink("new", "d/old"))
    )
    assert (target / "d/kept").read_text() == "kept"
    assert (target / "d/old").read_text() == "new"
    assert (target / "link").read_text() == "no link"
    assert not (target / "link").is_symlink()
    assert (target / "new").read_text() == "new"
    assert world.secret.read_text() == "as it was"


def test_nothing_is_written_through_a_link_of_the_target(world: World) -> None:
    world.target.mkdir()
    (world.target / "d").symlink_to("../..")
    with pytest.raises(NotADirectoryError) as raised:
        world.unpack(archive_of(directory("d"), info("d/secret", data=b"x"), info("first", data=b"x")))
    assert isinstance(raised.value, FileError)
    assert raised.value.side == "local"
    assert world.secret.read_text() == "as it was"
    assert os.listdir(world.target) == ["d"]


@pytest.mark.parametrize(("member", "kind"), [(info("a"), IsADirectoryError), (symlink("a", "b"), IsADirectoryError)])
def test_a_directory_is_not_replaced_by_a_file(world: World, member: Any, kind: Any) -> None:
    (world.target / "a").mkdir(parents=True)
    with pytest.raises(kind):
        world.unpack(archive_of(info("0", data=b"x"), member))
    assert os.listdir(world.target) == ["a"]


def test_what_getting_a_piece_raises_comes_out_unchanged(world: World) -> None:
    problem = ValueError("of the caller")

    def pieces() -> Iterator[bytes]:
        yield archive_of(info("a", data=b"x" * 100_000))[:5000]
        raise problem

    staging = world.root / "staging"
    staging.mkdir()
    with pytest.raises(ValueError, match="of the caller") as raised:
        Unpacker(staging, "remote").unpack(pieces())
    assert raised.value is problem
