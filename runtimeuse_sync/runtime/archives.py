"""Extracts zip archives: with Unix permissions and symbolic links, never to the outside, and never more than a limit.

Runs in the download's worker thread.
"""

import os
import stat
import zipfile
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Tuple

_CHUNK = 256 * 1024
#: Every member costs an inode, also an empty one.
_MAX_MEMBERS = 1_000_000
#: A link's target is a path.
_MAX_LINK = 4096


class ArchiveError(Exception):
    """The file is no archive that can be extracted."""


def extract(archive: str, directory: str, check: Callable[[], None], max_size: int) -> None:
    """Extracts a zip archive into a directory.

    Args:
        archive: The archive's path.
        directory: Where to.
        check: Called often; may raise to end it.
        max_size: The most that all files together may have, in bytes.

    Raises:
        ArchiveError: it is no zip archive, is damaged or encrypted, holds a path that leads outside, or too much.
        OSError: a file cannot be written.
    """
    root = os.path.realpath(directory)
    with _reading():
        opened = zipfile.ZipFile(archive)
    with opened:
        listed = opened.infolist()
        # What it says of itself first, so that most archives that hold too much leave nothing behind.
        if len(listed) > _MAX_MEMBERS or sum(info.file_size for info in listed) > max_size:
            raise _too_large(max_size)
        members = [(info, _target(root, info.filename)) for info in listed]
        _Extraction(opened, root, check, max_size).run(members)


@contextmanager
def _reading() -> Iterator[None]:
    """Around whatever reads the archive, and does nothing else."""
    try:
        yield
    except Exception as error:
        # zipfile, and the libraries that it stands on, have a dozen kinds of exceptions for what is damaged, encrypted
        # or unknown to them.
        raise ArchiveError(f"the archive cannot be extracted ({error})") from error


class _Extraction:
    def __init__(self, opened: zipfile.ZipFile, root: str, check: Callable[[], None], max_size: int) -> None:
        self._opened = opened
        self._root = root
        self._check = check
        self._max_size = max_size
        self._size = 0
        self._links: List[Tuple[zipfile.ZipInfo, str]] = []

    def run(self, members: List[Tuple[zipfile.ZipInfo, str]]) -> None:
        directory_modes: Dict[str, int] = {}
        for info, target in members:
            self._check()
            mode = info.external_attr >> 16
            # Archives may hold links: what is written below one must still be inside.
            parent = target if info.is_dir() else os.path.dirname(target)
            _check_inside(self._root, os.path.realpath(parent), info.filename)
            os.makedirs(parent, exist_ok=True)
            if info.is_dir():
                if stat.S_IMODE(mode) & 0o777:
                    directory_modes[target] = stat.S_IMODE(mode) & 0o777
            elif stat.S_ISLNK(mode):
                self._link(info, target)
            else:
                self._file(info, target)
                if stat.S_IMODE(mode) & 0o777:
                    os.chmod(target, stat.S_IMODE(mode) & 0o777)
        # A link may lead elsewhere by way of one that came after it.
        outside = [
            (info, target) for info, target in self._links if not _is_inside(self._root, os.path.realpath(target))
        ]
        for _, target in outside:
            os.unlink(target)
        if outside:
            raise _leads_outside(outside[0][0].filename)
        # Last, as a directory may be one that nothing can be written into; its owner can still look into it.
        for target, permissions in directory_modes.items():
            os.chmod(target, permissions | stat.S_IRWXU)

    def _link(self, info: zipfile.ZipInfo, target: str) -> None:
        if info.file_size > _MAX_LINK:
            raise ArchiveError(f"the archive holds a link that is no path: {info.filename!r}")
        with _reading():
            destination = os.fsdecode(self._opened.read(info))
        if "\0" in destination:
            raise ArchiveError(f"the archive holds a link that is no path: {info.filename!r}")
        resolved = os.path.realpath(os.path.join(os.path.dirname(target), destination))
        _check_inside(self._root, resolved, info.filename)
        _make_way(info, target)
        os.symlink(destination, target)
        self._links.append((info, target))

    def _file(self, info: zipfile.ZipInfo, target: str) -> None:
        with _reading():
            source = self._opened.open(info)
        with source:
            _make_way(info, target)
            with open(target, "wb") as file:
                while True:
                    self._check()
                    with _reading():
                        data = source.read(_CHUNK)
                    if not data:
                        break
                    self._size += len(data)
                    if self._size > self._max_size:
                        raise _too_large(self._max_size)
                    file.write(data)


def _too_large(max_size: int) -> ArchiveError:
    return ArchiveError(f"the archive holds more than the limit of {max_size} bytes, or than {_MAX_MEMBERS} files")


def _make_way(info: zipfile.ZipInfo, target: str) -> None:
    """Removes a file or link in the target's place: writing through a link would write what it leads to."""
    if os.path.isdir(target) and not os.path.islink(target):
        raise ArchiveError(f"the archive holds a file in the place of a directory: {info.filename!r}")
    if os.path.lexists(target):
        os.unlink(target)


def _target(root: str, name: str) -> str:
    # Archives from Windows may have backslashes, and zipfile leaves them as they are on other systems.
    path = os.path.normpath(os.path.join(root, name.replace("\\", "/")))
    _check_inside(root, path, name)
    return path


def _check_inside(root: str, path: str, name: str) -> None:
    if not _is_inside(root, path):
        raise _leads_outside(name)


def _is_inside(root: str, path: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _leads_outside(name: str) -> ArchiveError:
    return ArchiveError(f"the archive holds a path that leads outside of its directory: {name!r}")
