"""Packs a tree of this machine into an archive, as a stream.

The format is GNU's: all kinds of `tar` read it, and names in it have any length and any bytes. Each link is packed as a
link, and each hard link as a file of its own. Nothing of the owners goes along.

Threads: everything runs in the calling thread.
"""

import errno
import os
import stat
import tarfile
from pathlib import Path
from typing import IO, Dict, Iterator, List, NamedTuple, Tuple

from ._failures import local_errors
from .errors import changed_error, file_error

_BLOCK = tarfile.BLOCKSIZE

#: How much of a file is read at once.
CHUNK = 1024 * 1024


class Tree(NamedTuple):
    """A tree that will be packed.

    Attributes:
        root: Its directory.
        entries: What is in it, each by its path below the root, with what `lstat` said; directories come before what is
            in them.
        mode: The permissions of the root.
    """

    root: Path
    entries: Dict[str, os.stat_result]
    mode: int

    @property
    def size(self) -> int:
        """The size of the archive."""
        size = 0
        for name, status in self.entries.items():
            info = _info(self.root, name, status)
            size += len(_header(info)) + -(-info.size // _BLOCK) * _BLOCK
        return -(-(size + 2 * _BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE

    @property
    def unwritable(self) -> List[Tuple[int, bytes]]:
        """The directories without the permissions that unpacking needs, inner ones first: permissions and path."""
        return [
            (stat.S_IMODE(status.st_mode), name.encode("utf-8", "surrogateescape"))
            for name, status in reversed(list(self.entries.items()))
            if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o700 != 0o700
        ]


def find_tree(root: Path) -> Tree:
    """Finds what is in a directory.

    Raises:
        FileError: It cannot be read, or contains something other than files, directories and symbolic links.
    """
    entries: Dict[str, os.stat_result] = {}
    pending = [""]
    while pending:
        above = pending.pop()
        directory = root / above
        with local_errors(directory):
            with os.scandir(directory) as scan:
                found = sorted(scan, key=lambda entry: entry.name)
            for entry in found:
                name = f"{above}/{entry.name}" if above else entry.name
                status = entry.stat(follow_symlinks=False)
                mode = status.st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                    text = "Neither a file nor a directory nor a symbolic link, so it cannot be transferred"
                    raise file_error(errno.EINVAL, entry.path, text, side="local")
                entries[name] = status
                if stat.S_ISDIR(mode):
                    pending.append(name)
    with local_errors(root):
        mode = stat.S_IMODE(os.stat(root).st_mode)
    return Tree(root, entries, mode)


def pack(tree: Tree) -> Iterator[bytes]:
    """Yields the archive of a tree.

    Raises:
        FileChangedError: A file has changed since the tree was found.
        FileError: A file cannot be read.
    """
    size = 0
    for name, status in tree.entries.items():
        info = _info(tree.root, name, status)
        header = _header(info)
        size += len(header)
        yield header
        if info.isreg():
            path = tree.root / name
            for piece in unchanged(path, status):
                size += len(piece)
                yield piece
            padding = -info.size % _BLOCK
            size += padding
            yield bytes(padding)
    end = 2 * _BLOCK
    yield bytes(end + -(size + end) % tarfile.RECORDSIZE)


def unchanged(path: Path, status: os.stat_result) -> Iterator[bytes]:
    """Yields a file's bytes, and checks that it is still what `lstat` said before.

    Raises:
        FileChangedError: It has changed.
        FileError: It cannot be read.
    """
    with local_errors(path):
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  # closed below; opening alone is a local error
    with file:
        done = 0
        for piece in chunks(file, path):
            done += len(piece)
            if done > status.st_size:
                raise changed_error(str(path), "It grew while it was read", side="local")
            yield piece
        with local_errors(path):
            now = os.fstat(file.fileno())
        if done != status.st_size or (now.st_ino, now.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):
            raise changed_error(str(path), "It changed while it was read", side="local")


def chunks(file: "IO[bytes]", path: Path) -> Iterator[bytes]:
    """Yields what is left of a file of this machine."""
    while True:
        with local_errors(path):
            data = file.read(CHUNK)
        if not data:
            return
        yield data


def _without_waiting(path: str, flags: int) -> int:
    # A FIFO that has taken the file's place must not block.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _info(root: Path, name: str, status: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(status.st_mode)
    info.mtime = int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        info.mode |= 0o700
    elif stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        with local_errors(root / name):
            info.linkname = os.readlink(root / name)
    else:
        info.size = status.st_size
    return info


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
