"""The list that the sandbox prints is read without doubt, whatever the names contain."""

from __future__ import annotations

import pytest

from runtimeuse_sync.files import FileInfo
from runtimeuse_sync.files._listing import parsed


def entry(name: bytes, mode: bytes = b"81a4", size: bytes = b"3", mtime: bytes = b"17") -> bytes:
    return b"%b %b %b ./%b/\n" % (mode, size, mtime, name)


def test_kinds_and_order() -> None:
    listing = entry(b"z") + entry(b"d", b"41ed") + entry(b"l", b"a1ff", b"5", b"-1") + entry(b"p", b"11b6")
    assert parsed(listing) == [
        FileInfo("d", "directory", 3, 17.0),
        FileInfo("l", "symlink", 5, -1.0),
        FileInfo("p", "other", 3, 17.0),
        FileInfo("z", "file", 3, 17.0),
    ]
    assert parsed(b"") == []


@pytest.mark.parametrize(
    "name",
    [b"\n", b"a\nb", b"a\n", b"\n81a4 3 17 .", b"a b", b" ", b"\xff\xfe", b".", b"\n\n81a4 1 1 .\n"],
)
def test_odd_names(name: bytes) -> None:
    found = parsed(entry(b"before") + entry(name) + entry(b"zz"))
    shown = name.decode("utf-8", "surrogateescape")
    assert [each.name for each in found] == sorted(["before", shown, "zz"])


@pytest.mark.parametrize("listing", [b"x", b"81a4 3 17 ./a", b"81a4 3 ./a/\n", b"81a4 3 17 .//\n", entry(b"a") + b"\n"])
def test_what_is_no_list_is_refused(listing: bytes) -> None:
    with pytest.raises(ValueError, match="not a list"):
        parsed(listing)


def test_entries_are_json() -> None:
    info = FileInfo("a", "file", 3, 1.5)
    assert FileInfo.from_json(info.to_json()) == info
