"""What a list of a directory consists of.

Threads: pure functions.
"""

import re
import stat
from dataclasses import dataclass
from typing import List, Literal

from .._wire.dataclass_json import JsonMixin

FileKind = Literal["file", "directory", "symlink", "other"]
"""The kinds of what is in a directory."""

#: Only the slashes around the name are ours: names contain none, but anything else.
_ENTRY = re.compile(rb"([0-9a-f]+) (\d+) (-?\d+) \./([^/]+)/\n", re.IGNORECASE)


@dataclass
class FileInfo(JsonMixin):
    """One entry of a directory in the sandbox.

    Args:
        name: Its name, without the directory. Bytes that are not UTF-8 are lone surrogates, as in `os.fsdecode`.
        kind: `"file"`, `"directory"`, `"symlink"` (whatever it leads to), or `"other"`: a device, a socket, a pipe.
        size: Its size in bytes; of a link, the length of what it says.
        mtime: When it was last changed, in seconds since 1970 (UTC).
    """

    name: str
    kind: FileKind
    size: int
    mtime: float


def parsed(listing: bytes) -> List[FileInfo]:
    """Returns the entries of a list as the script `entries` prints it, sorted by name.

    Raises:
        ValueError: It is not such a list.
    """
    found = []
    at = 0
    while at < len(listing):
        entry = _ENTRY.match(listing, at)
        if entry is None:
            raise ValueError("not a list of files")
        mode, size, mtime, name = entry.groups()
        at = entry.end()
        found.append(FileInfo(name.decode("utf-8", "surrogateescape"), _kind(int(mode, 16)), int(size), float(mtime)))
    return sorted(found, key=lambda entry: entry.name)


def _kind(mode: int) -> FileKind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"
