"""Unpacks an archive that comes from the sandbox, and is not trusted, into a directory of this machine.

`tarfile` reads the archive as a stream; what is done with each entry is decided here, since its own filters exist on
newer Pythons only. It is unpacked into an empty directory beside the target (`_local.py`) and moved from there.

- A path must be relative and have no `..`. Above it must be directories of the archive: never a link, and nothing that
  was in the target before.
- Only files, directories, symbolic links, and hard links to earlier files of the archive are accepted.
- Symbolic links are made last, when all else is in place, so that nothing is ever written through one, also where names
  that look different are the same to the file system. Each must lead to something inside of the target: it is followed
  step by step, through the other links of the archive.
- Permissions are kept, but not set-user-ID and the like; owners are not.

Threads: everything runs in the calling thread.
"""

import contextlib
import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, cast

from ._failures import local_errors
from ._local import conflict
from ._packing import CHUNK
from .errors import UnsafeArchiveError, message

#: The most links that are followed on one path, as in Linux.
_MOST_LINKS = 40

#: What no name may contain: where the system takes more than a slash for a separator, its names are not these.
_FORBIDDEN = ("\0", "\\", ":") if os.name == "nt" else ("\0",)

_DIRECTORY, _FILE, _LINK = "directory", "file", "symlink"


class _Entry(NamedTuple):
    """An entry of the archive: its kind, permissions, time, and for a link what it says."""

    kind: str
    mode: int
    mtime: float
    leads_to: str = ""


class Unpacker:
    """Unpacks one archive.

    Args:
        staging: The empty directory to unpack into.
        shown: The path of the tree in the sandbox, for messages.
    """

    def __init__(self, staging: Path, shown: str) -> None:
        self._staging = staging
        self._shown = shown
        self._entries: Dict[str, _Entry] = {}

    def unpack(self, pieces: Iterator[bytes]) -> None:
        """Unpacks everything but symbolic links, and checks them.

        Raises:
            UnsafeArchiveError: An entry is refused.
            FileError: An entry cannot be written on this machine.
        """
        unread = _Unread(pieces)
        stream = io.BufferedReader(unread, CHUNK)
        try:
            archive = tarfile.open(  # noqa: SIM115  # it holds nothing but the stream
                fileobj=cast("IO[bytes]", stream), mode="r|", encoding="utf-8", errors="surrogateescape"
            )
            while True:
                info = archive.next()
                if info is None:
                    break
                # It would keep all of them.
                archive.members = []  # type: ignore[attr-defined]  # the stubs do not have it
                self._add(archive, info)
        except (tarfile.TarError, EOFError, ValueError) as error:
            if error is unread.error:
                raise
            raise self._refused("", f"the archive is damaged ({type(error).__name__})") from None
        # To the end: what follows the last entry counts for the checksum.
        while stream.read(CHUNK):
            pass
        for name, entry in self._entries.items():
            if entry.kind == _LINK:
                self._check_link(name, entry.leads_to)

    def _add(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        parts = self._parts(info)
        if not parts:
            return
        name = "/".join(parts)
        self._check_parents(parts, name)
        entry = self._entry(info, name)
        before = self._entries.get(name)
        if before is not None and (before.kind, entry.kind) != (_DIRECTORY, _DIRECTORY):
            raise self._refused(name, "it comes twice")
        self._entries[name] = entry
        place = self._staging.joinpath(*parts)
        if entry.kind == _DIRECTORY:
            with local_errors(place):
                place.mkdir(mode=0o700, exist_ok=True)
        elif info.islnk():
            first = self._staging.joinpath(*self._parts_of(info.linkname, name))
            with local_errors(place):
                _copy_link(first, place)
        elif entry.kind == _FILE:
            source = archive.extractfile(info)
            assert source is not None
            self._write(source, place, info.size)

    def _entry(self, info: tarfile.TarInfo, name: str) -> _Entry:
        mode, mtime = info.mode & 0o777, float(info.mtime)
        if info.isdir():
            return _Entry(_DIRECTORY, mode, mtime)
        if info.issym():
            if "\0" in info.linkname or not info.linkname:
                raise self._refused(name, "its link leads nowhere")
            return _Entry(_LINK, mode, mtime, info.linkname)
        if info.islnk():
            first = self._entries.get("/".join(self._parts_of(info.linkname, name)))
            if first is None or first.kind != _FILE:
                raise self._refused(name, "it is a hard link to something that is not an earlier file of the archive")
            return first
        if not info.isreg() or info.size < 0:
            raise self._refused(name, "it is neither a file nor a directory nor a link")
        if info.issparse():
            # A few bytes of the archive would become as many as the sandbox likes.
            raise self._refused(name, "it is a sparse file")
        return _Entry(_FILE, mode, mtime)

    def _parts(self, info: tarfile.TarInfo) -> List[str]:
        return self._parts_of(info.name, info.name)

    def _parts_of(self, path: str, name: str) -> List[str]:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if path.startswith("/") or ".." in parts or any(sign in path for sign in _FORBIDDEN):
            raise self._refused(name, "its path leaves the target, or is not one of this system")
        return parts

    def _check_parents(self, parts: List[str], name: str) -> None:
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            entry = self._entries.get(above)
            if entry is None:
                # `tar` writes a directory before what is in it, but other archives may not.
                self._entries[above] = _Entry(_DIRECTORY, 0o755, 0.0)
                with local_errors(above):
                    self._staging.joinpath(*parts[:count]).mkdir(mode=0o700, exist_ok=True)
            elif entry.kind != _DIRECTORY:
                raise self._refused(name, f"what is above it is a {entry.kind}")

    def _write(self, source: "IO[bytes]", place: Path, size: int) -> None:
        with local_errors(place):
            # Exclusively: also a name that is the same to the file system only is refused.
            file = open(place, "xb")  # noqa: SIM115  # closed below; opening alone is a local error
        with file:
            while True:
                data = source.read(CHUNK)
                if not data:
                    break
                size -= len(data)
                with local_errors(place):
                    file.write(data)
            with local_errors(place):
                file.flush()
        if size:
            raise self._refused(place.name, "the archive ends within it")

    # Links.

    def _check_link(self, name: str, leads_to: str) -> None:
        if leads_to.startswith("/") or any(sign in leads_to for sign in _FORBIDDEN):
            raise self._refused(name, f"it is a symbolic link to {leads_to!r}, outside of the target")
        # What is not resolved yet, the next part last; and where it has come to.
        pending = _reversed_parts(leads_to)
        at = name.split("/")[:-1]
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                # Also refused above what the archive does not have: what is there, and whether it is a link, only the
                # file system knows.
                above = self._entries.get("/".join(at))
                if above is None or above.kind != _DIRECTORY:
                    raise self._refused(name, f"it is a symbolic link to {leads_to!r}, outside of the target")
                at.pop()
                continue
            at.append(part)
            entry = self._entries.get("/".join(at))
            if entry is not None and entry.kind == _LINK:
                links += 1
                if links > _MOST_LINKS:
                    # It leads nowhere. As a link to what does not exist, it is harmless.
                    return
                if entry.leads_to.startswith("/"):
                    raise self._refused(name, f"it is a symbolic link to {leads_to!r}, outside of the target")
                at.pop()
                pending += _reversed_parts(entry.leads_to)

    def _refused(self, name: str, why: str) -> UnsafeArchiveError:
        reason = f"The archive of the sandbox is refused: {name!r}: {why}" if name else f"What the sandbox sent: {why}"
        return UnsafeArchiveError(message(self._shown, reason, "sandbox"), self._shown, reason)

    # To its place.

    def put(self, target: Path, mode: Optional[int]) -> None:
        """Moves the tree to its place, or merges it into the directory there.

        Args:
            target: The place.
            mode: The permissions of the tree's directory.

        Raises:
            FileError: Something in the target is in the way; nothing was changed then. Or it cannot be written.
        """
        with local_errors(target):
            if target.is_dir():
                self._merge(target)
                return
            self._make_links(self._staging)
            self._set_attributes(self._staging, [])
            os.replace(self._staging, target)
            # Only now: a directory without the permission to write could not be removed if this failed.
            made = [(name, entry) for name, entry in self._entries.items() if entry.kind == _DIRECTORY]
            self._set_attributes(target, made, files=False)
            os.chmod(target, 0o755 if mode is None else mode)

    def _merge(self, target: Path) -> None:
        conflict(target, {name: entry.kind for name, entry in self._entries.items()})
        self._set_attributes(self._staging, [])
        self._make_links(self._staging)
        made: List[Tuple[str, _Entry]] = []
        # Links last: on the way to another entry's place there must be none.
        for name, entry in sorted(self._entries.items(), key=lambda item: (item[1].kind == _LINK, item[0])):
            place = target / name
            if entry.kind != _DIRECTORY:
                os.replace(self._staging / name, place)
            elif not os.path.lexists(place):
                place.mkdir(mode=0o700)
                made.append((name, entry))
        self._set_attributes(target, made, files=False)

    def _make_links(self, root: Path) -> None:
        for name, entry in self._entries.items():
            if entry.kind == _LINK:
                os.symlink(entry.leads_to, root / name)

    def _set_attributes(self, root: Path, directories: List[Tuple[str, _Entry]], *, files: bool = True) -> None:
        for name, entry in self._entries.items():
            if files and entry.kind == _FILE:
                _set(root / name, entry)
        # Inner ones first: one without the permission to search it hides what is in it.
        for name, entry in sorted(directories, reverse=True):
            _set(root / name, entry)


def _reversed_parts(path: str) -> List[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _set(path: Path, entry: _Entry) -> None:
    # A time that this system cannot store is no reason to lose the file.
    with contextlib.suppress(OverflowError, ValueError, OSError):
        os.utime(path, (entry.mtime, entry.mtime))
    os.chmod(path, entry.mode)


def _copy_link(first: Path, place: Path) -> None:
    try:
        os.link(first, place, follow_symlinks=False)
    except (OSError, NotImplementedError):
        # Not every file system has hard links.
        shutil.copyfile(str(first), str(place), follow_symlinks=False)


class _Unread(io.RawIOBase):
    """A readable stream of bytes that come in pieces.

    Attributes:
        error: What getting the next piece has raised.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self.error: Optional[BaseException] = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                piece = next(self._pieces, None)
            except BaseException as error:
                self.error = error
                raise
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
