"""Extracts zip archives with Unix permissions and symbolic links, never outside their directory, and up to a limit.

Each step is safe by itself, so nothing has to be checked or undone at the end of an extraction:

- A link's target goes up (`..`) only at its beginning, and at most to the extraction's directory; the rest goes down.
  Such links are also safe in combination, in any order and from any archive: along a path through them, each `..`
  starts at the real place of a link.
- Files and links are created in a real directory, opened component by component without following links, under a name
  that did not exist there.
- A real directory is never replaced: a link stays where it was checked.

Threads: runs in the download's worker thread.
"""

import os
import stat
import zipfile
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Tuple

_CHUNK = 256 * 1024
#: The most members of an archive: every member needs an inode, even an empty one.
_MAX_MEMBERS = 1_000_000
#: The longest path that the system accepts, and so the longest target of a link, in bytes.
_MAX_PATH = 4096
#: How many links the system follows in a path.
_MAX_LINKS = 40
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class ArchiveError(Exception):
    """The archive cannot be extracted."""


def extract(archive: str, directory: str, check: Callable[[], None], max_size: int) -> None:
    """Extracts a zip archive into a directory.

    Args:
        archive: The archive's path.
        directory: The directory to extract it to, created if missing.
        check: Called often; may raise to end the extraction.
        max_size: The largest total size of the files, in bytes.

    Raises:
        ArchiveError: the file is not a zip archive, is damaged or encrypted, exceeds a limit, or has a path that leads
            outside.
        OSError: a file cannot be written.
    """
    os.makedirs(directory, exist_ok=True)
    root = os.path.realpath(directory)
    with _reading():
        opened = zipfile.ZipFile(archive)
    with opened:
        listed = opened.infolist()
        # The archive's own numbers first, so that most archives beyond the limits leave no files behind.
        if len(listed) > _MAX_MEMBERS or sum(info.file_size for info in listed) > max_size:
            raise _too_large_error(max_size)
        members = [(info, _target(root, info.filename)) for info in listed]
        _Extraction(opened, root, check, max_size).run(members)


@contextmanager
def _reading() -> Iterator[None]:
    """Turns errors on reading the archive into `ArchiveError`s; must wrap nothing else."""
    try:
        yield
    except Exception as error:
        # `zipfile` and its libraries raise a dozen kinds of exceptions for damaged, encrypted and unsupported archives.
        raise ArchiveError(f"the archive cannot be extracted ({error})") from error


def _real_path(path: str, name: str) -> str:
    """Returns the real path of an absolute one, as `os.path.realpath` does, but with a limit on links."""
    real, links = "/", 0
    waiting = path.split("/")[::-1]
    while waiting:
        part = waiting.pop()
        if part == "..":
            real = os.path.dirname(real)
        if part in ("", ".", ".."):
            continue
        beyond = os.path.join(real, part)
        try:
            destination = os.readlink(beyond)
        except OSError:
            real = beyond  # not a link, or does not exist yet
            continue
        links += 1
        if links > _MAX_LINKS:
            raise ArchiveError(f"the archive has a path with too many links: {name!r}")
        if destination.startswith("/"):
            real = "/"
        waiting += destination.split("/")[::-1]
    return real


class _Extraction:
    def __init__(self, opened: zipfile.ZipFile, root: str, check: Callable[[], None], max_size: int) -> None:
        self._opened = opened
        self._root = root
        self._check = check
        self._max_size = max_size
        self._size = 0

    def run(self, members: List[Tuple[zipfile.ZipInfo, str]]) -> None:
        # Keyed by real path, because a member's name may lead through a link.
        directory_modes: Dict[str, int] = {}
        for info, target in members:
            self._check()
            mode = info.external_attr >> 16
            is_directory = info.filename.endswith(("/", "\\"))
            parent = self._real(target if is_directory else os.path.dirname(target), info.filename)
            with self._directory(parent, info.filename) as directory:
                if is_directory:
                    # The extraction's own directory keeps its permissions.
                    if stat.S_IMODE(mode) & 0o777 and parent != self._root:
                        directory_modes[parent] = stat.S_IMODE(mode) & 0o777
                elif stat.S_ISLNK(mode):
                    self._link(info, directory, parent, os.path.basename(target))
                else:
                    self._file(info, directory, os.path.basename(target))
        # Last, as a directory may become read-only; its owner keeps access.
        for path, permissions in directory_modes.items():
            with self._directory(path, path) as directory:
                os.fchmod(directory, permissions | stat.S_IRWXU)

    def _real(self, path: str, name: str) -> str:
        """Returns the real path; the links in the path may come from this archive, or be older."""
        real = _real_path(path, name)
        _check_inside(self._root, real, name)
        return real

    @contextmanager
    def _directory(self, path: str, name: str) -> Iterator[int]:
        """Opens a directory below the root, created if missing; no component may be a link."""
        opened = os.open(self._root, _OPEN_DIRECTORY)
        try:
            for part in os.path.relpath(path, self._root).split("/"):
                below = self._step(opened, part, name)
                os.close(opened)
                opened = below
            yield opened
        finally:
            os.close(opened)

    def _step(self, directory: int, part: str, name: str) -> int:
        try:
            os.mkdir(part, dir_fd=directory)
        except FileExistsError:
            pass
        try:
            return os.open(part, _OPEN_DIRECTORY, dir_fd=directory)
        except OSError as error:
            if not stat.S_ISDIR(os.stat(part, dir_fd=directory, follow_symlinks=False).st_mode):
                raise ArchiveError(f"the archive has a path below a file: {name!r}") from error
            raise

    def _link(self, info: zipfile.ZipInfo, directory: int, parent: str, name: str) -> None:
        if info.file_size > _MAX_PATH:
            raise ArchiveError(f"the archive has a link with an invalid target: {info.filename!r}")
        with _reading():
            destination = os.fsdecode(self._opened.read(info))
        if not destination or "\0" in destination:
            raise ArchiveError(f"the archive has a link with an invalid target: {info.filename!r}")
        depth = 0 if parent == self._root else os.path.relpath(parent, self._root).count("/") + 1
        if not _goes_up_only_first(destination, depth):
            raise _outside_error(info.filename)
        # The target may also lead through a link that was there before.
        self._real(os.path.join(parent, destination), info.filename)
        _remove_existing(info, directory, name)
        os.symlink(destination, name, dir_fd=directory)

    def _file(self, info: zipfile.ZipInfo, directory: int, name: str) -> None:
        with _reading():
            source = self._opened.open(info)
        with source:
            _remove_existing(info, directory, name)
            with open(os.open(name, _CREATE_FILE, 0o666, dir_fd=directory), "wb") as file:
                while True:
                    self._check()
                    with _reading():
                        data = source.read(_CHUNK)
                    if not data:
                        break
                    self._size += len(data)
                    if self._size > self._max_size:
                        raise _too_large_error(self._max_size)
                    file.write(data)
                permissions = stat.S_IMODE(info.external_attr >> 16) & 0o777
                if permissions:
                    os.fchmod(file.fileno(), permissions)


def _goes_up_only_first(destination: str, depth: int) -> bool:
    """Returns whether a link's target goes up at its beginning only, and by at most `depth` directories."""
    if destination.startswith("/"):
        return False
    parts = [part for part in destination.split("/") if part not in ("", ".")]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    return ups <= depth and ".." not in parts[ups:]


def _too_large_error(max_size: int) -> ArchiveError:
    return ArchiveError(f"the archive exceeds the limit of {max_size} bytes or {_MAX_MEMBERS} files")


def _remove_existing(info: zipfile.ZipInfo, directory: int, name: str) -> None:
    """Removes a file or link in a member's place, as writing through a link would change the link's target."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise ArchiveError(f"the archive has a file in place of a directory: {info.filename!r}")
    os.unlink(name, dir_fd=directory)


def _target(root: str, name: str) -> str:
    # Archives from Windows may have backslashes, which zipfile does not convert on other systems.
    path = os.path.normpath(os.path.join(root, name.replace("\\", "/")))
    _check_inside(root, path, name)
    if len(os.fsencode(path)) >= _MAX_PATH:
        raise ArchiveError(f"the archive has a path that is too long: {name[:80]!r}")
    return path


def _check_inside(root: str, path: str, name: str) -> None:
    if path != root and not path.startswith(root.rstrip("/") + "/"):
        raise _outside_error(name)


def _outside_error(name: str) -> ArchiveError:
    return ArchiveError(f"the archive has a path that leads outside its directory: {name!r}")
