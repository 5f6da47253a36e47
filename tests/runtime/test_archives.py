"""What an archive may do, whatever it holds and however its extraction ends: nothing outside of its directory."""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtimeuse_sync.runtime.downloads.archives import ArchiveError, extract

FILE, LINK, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755
#: Name, content and Unix mode.
Member = Tuple[str, bytes, int]

#: A refused one that left a link which led outside.
REFUSED = [("A", b"d/e/..", LINK), ("d/e", b"..", LINK), ("d", b"x", FILE)]


class Interrupted(Exception):
    """What ends an extraction in its midst."""


def write(path: Path, members: List[Member]) -> None:
    with zipfile.ZipFile(path, "w") as opened, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content, mode in members:
            info = zipfile.ZipInfo()
            info.filename = name  # as it is, where the constructor would make it a usual one
            info.external_attr = mode << 16
            with opened.open(info, "w") as member:
                member.write(content)


def state(directory: Path, left_out: Path) -> Dict[str, Any]:
    """Returns what is in a directory, but for one below it."""
    seen: Dict[str, Any] = {}
    for path in [directory, *directory.rglob("*")]:
        if left_out in (path, *path.parents):
            continue
        found = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        seen[str(path)] = (found.st_mode, content)
    return seen


def links(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        yield from (path for name in directories + files for path in [Path(parent, name)] if path.is_symlink())


def assert_all_lead_inside(directory: Path) -> None:
    for link in links(directory):
        real = os.path.realpath(link)
        assert real == str(directory) or real.startswith(f"{directory}/"), (link, os.readlink(link))


_PARTS = st.sampled_from(["a", "b", "d", "e", "A", ".", "..", ""])
_PATHS = st.builds(
    lambda start, parts, between: start + between.join(parts),
    st.sampled_from(["", "", "", "/", "../"]),
    st.lists(_PARTS, min_size=1, max_size=4),
    st.sampled_from(["/", "/", "/", "\\"]),
)
_FILES = st.tuples(_PATHS, st.just(b"x"), st.sampled_from([FILE, 0o4777, 0]))
_DIRECTORIES = st.tuples(_PATHS.map(lambda path: path + "/"), st.just(b""), st.sampled_from([DIRECTORY, 0o500, 0]))
_LINKS = st.tuples(
    _PATHS, st.one_of(_PATHS, st.sampled_from(["HERE/a", "HERE/../own", "/etc"])).map(str.encode), st.just(LINK)
)
_ARCHIVES = st.lists(st.one_of(_FILES, _DIRECTORIES, _LINKS, _LINKS), max_size=8)


@given(archives=st.lists(_ARCHIVES, min_size=1, max_size=3), steps=st.integers(1, 40))
@example(archives=[REFUSED], steps=40)
# The first one is harmless until the second one comes.
@example(archives=[[("A", b"d/e/..", LINK)], [("d/e", b"..", LINK)]], steps=40)
@example(archives=[[("a", b"b/..", LINK), ("b", b".", LINK), ("a/own", b"x", FILE)]], steps=40)
def test_whatever_it_holds_it_stays_inside(archives: List[List[Member]], steps: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        around = Path(os.path.realpath(name))
        directory = around / "deep" / "in"
        directory.mkdir(parents=True)
        (around / "deep" / "own").write_bytes(b"somebody's own")
        (around / "own").write_bytes(b"somebody's own")
        zipped = around / "archive"
        left = steps

        def check() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Interrupted

        for members in archives:
            here = str(directory).encode()
            write(zipped, [(path, content.replace(b"HERE", here), mode) for path, content, mode in members])
            before = state(around, directory)
            try:
                extract(str(zipped), str(directory), check, 1_000_000)
            except (ArchiveError, OSError, Interrupted):
                pass  # whether it takes it is not asked here
            assert state(around, directory) == before
            assert_all_lead_inside(directory)


def test_a_refused_one_leaves_no_link_to_the_outside(tmp_path: Path) -> None:
    write(tmp_path / "archive", REFUSED)
    directory = tmp_path / "in"
    with pytest.raises(ArchiveError):
        extract(str(tmp_path / "archive"), str(directory), lambda: None, 1000)
    assert_all_lead_inside(directory)


def test_usual_links_work(tmp_path: Path) -> None:
    members = [
        ("lib/tool/run", b"ran", FILE),
        ("bin/tool", b"../lib/tool/run", LINK),
        ("current", b"./lib", LINK),
        ("current/more", b"below a link", FILE),
        ("self", b".", LINK),
        ("dangling", b"not/there", LINK),
        ("dangling/", b"", DIRECTORY),
        ("of windows\\", b"", 0),
        ("of windows\\file", b"x", 0),
    ]
    write(tmp_path / "archive", members)
    directory = tmp_path / "in"
    for _ in range(2):  # the second one over the first
        extract(str(tmp_path / "archive"), str(directory), lambda: None, 1000)
        assert (directory / "bin" / "tool").read_bytes() == b"ran"
        assert (directory / "lib" / "more").read_bytes() == b"below a link"
        assert (directory / "not" / "there").is_dir()


def test_a_file_that_was_there_is_replaced_and_not_written(tmp_path: Path) -> None:
    directory = tmp_path / "in"
    directory.mkdir()
    own = tmp_path / "own"
    own.write_bytes(b"somebody's own")
    os.link(own, directory / "a")
    (directory / "b").symlink_to(own)
    write(tmp_path / "archive", [("a", b"x", FILE), ("b", b"x", 0o600)])
    extract(str(tmp_path / "archive"), str(directory), lambda: None, 1000)
    assert own.read_bytes() == b"somebody's own"
    assert [(directory / name).read_bytes() for name in "ab"] == [b"x", b"x"]
    assert stat.S_IMODE((directory / "b").lstat().st_mode) == 0o600


def test_a_link_of_somebodys_own_is_not_followed_to_the_outside(tmp_path: Path) -> None:
    directory = tmp_path / "in"
    directory.mkdir()
    (directory / "own").symlink_to(tmp_path)
    for member in [("own/evil", b"x", FILE), ("evil", b"own/archive", LINK), ("own/evil/", b"", DIRECTORY)]:
        write(tmp_path / "archive", [member])
        with pytest.raises(ArchiveError, match="leads outside"):
            extract(str(tmp_path / "archive"), str(directory), lambda: None, 1000)
    assert sorted(os.listdir(tmp_path)) == ["archive", "in"]
    assert os.listdir(directory) == ["own"]


@pytest.mark.parametrize(
    "members",
    [
        [("a", b"b", LINK), ("b", b"a", LINK), ("a/c", b"x", FILE)],
        [("d/" * 3000 + "f", b"x", FILE)],
        [("a", b"", LINK)],
    ],
)
def test_what_is_too_much_for_the_system_is_refused(tmp_path: Path, members: List[Member]) -> None:
    write(tmp_path / "archive", members)
    with pytest.raises(ArchiveError):
        extract(str(tmp_path / "archive"), str(tmp_path / "in"), lambda: None, 1000)
    assert_all_lead_inside(tmp_path / "in")


def test_a_chain_of_links_that_no_system_follows_to_its_end(tmp_path: Path) -> None:
    chain = [(str(number), str(number - 1).encode(), LINK) for number in range(1, 3000)]
    write(tmp_path / "archive", [("0", b"x", FILE), *chain])
    with pytest.raises(ArchiveError, match="too many links"):
        extract(str(tmp_path / "archive"), str(tmp_path / "in"), lambda: None, 1_000_000)
    assert os.readlink(tmp_path / "in" / "1") == "0"


def test_the_directorys_own_permissions_stay(tmp_path: Path) -> None:
    directory = tmp_path / "in"
    directory.mkdir(mode=0o750)
    write(tmp_path / "archive", [("./", b"", stat.S_IFDIR | 0o777), ("d/", b"", stat.S_IFDIR | 0o710)])
    extract(str(tmp_path / "archive"), str(directory), lambda: None, 1000)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (directory, directory / "d")] == [0o750, 0o710]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ArchiveError, match="cannot be extracted"):
        extract(str(tmp_path / "archive"), str(tmp_path / "in"), lambda: None, 1000)
