"""Scans the watched directories and decides which files to announce.

Scans, unlike the kernel's notifications, miss nothing and work on every file system.

Threads: `watcher.py` calls `scan` in a worker thread (`runtimeuse-scan`), one call at a time, and `add` and `announced`
on the event loop, between two scans. The event loop may read the attributes and properties at any time.
"""

import errno
import os
import stat
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple

from .ignore import IgnoreRules

#: These errors mean that a file is gone, or that the runtime has no access to it. Any other error is a failure.
_IGNORED_ERRNOS = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP))

#: The state of a file: its size, its time of modification in nanoseconds, and its inode.
Signature = Tuple[int, int, int]


@dataclass(frozen=True)
class Due:
    """A file to announce, and its state at the scan."""

    path: str
    signature: Signature


@dataclass
class _Directory:
    root: str
    rules: IgnoreRules
    scanned: bool = False


class Scanner:
    """The watched directories and their announced files.

    Args:
        settle: How long a file must stay unchanged before it is due, in seconds.

    Attributes:
        unreadable: The paths that the last scan could not read although they may exist, each with the reason.
    """

    def __init__(self, settle: float) -> None:
        self.unreadable: Dict[str, str] = {}
        self._settle = settle
        self._directories: Dict[str, _Directory] = {}
        self._announced: Dict[str, Signature] = {}
        self._waiting: Dict[str, Tuple[Signature, float]] = {}

    @property
    def watches(self) -> bool:
        """Whether any directory is watched."""
        return bool(self._directories)

    @property
    def unsettled(self) -> bool:
        """Whether there are files that changed too recently to be announced."""
        return bool(self._waiting)

    def add(self, root: str, ignore_content: Optional[str]) -> None:
        """Watches a directory from now on; creates it if missing. New ignore rules replace those of an earlier call.

        Raises:
            OSError: the directory cannot be created.
            ImportError: `pathspec` is not installed.
        """
        os.makedirs(root, exist_ok=True)
        known = self._directories.get(root)
        if known is None:
            self._directories[root] = _Directory(root, IgnoreRules(root, ignore_content))
        elif ignore_content is not None:
            known.rules = IgnoreRules(root, ignore_content)

    def scan(self, now: float, everything: bool = False) -> List[Due]:
        """Scans all directories; returns the files that are due, each until `announced` is called for it.

        Args:
            now: The time of a monotonic clock, in seconds.
            everything: Whether changed files are due at once, before they have settled.
        """
        due: Dict[str, Due] = {}
        found: Dict[str, Signature] = {}
        unreadable: Dict[str, str] = {}
        for directory in list(self._directories.values()):
            directory.rules.refresh()
            for path, signature in _files(directory, unreadable):
                found[path] = signature
                if not directory.scanned and self._announced.get(path) != signature:
                    due[path] = Due(path, signature)
            directory.scanned = True
        self.unreadable = unreadable
        # Forget a file that is gone: a later file of the same name is a new one.
        if not unreadable:
            self._announced = {path: signature for path, signature in self._announced.items() if path in found}
        waiting: Dict[str, Tuple[Signature, float]] = {}
        for path, signature in found.items():
            if path in due or self._announced.get(path) == signature:
                continue
            before = self._waiting.get(path)
            since = before[1] if before is not None and before[0] == signature else now
            waiting[path] = (signature, since)
            if everything or now - since >= self._settle:
                due[path] = Due(path, signature)
        self._waiting = waiting
        return list(due.values())

    def announced(self, file: Due) -> None:
        """Records that a file is being announced."""
        self._announced[file.path] = file.signature
        self._waiting.pop(file.path, None)


def _files(directory: _Directory, unreadable: Dict[str, str]) -> Iterator[Tuple[str, Signature]]:
    """Yields the files of a directory that may be artifacts: regular, not empty, not ignored.

    Paths that cannot be read although they may exist are added to `unreadable`.
    """
    pending = [""]
    while pending:
        relative = pending.pop()
        scanned = os.path.join(directory.root, relative)
        try:
            with os.scandir(scanned) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            _note_unreadable(scanned, error, unreadable)
            continue
        for entry in listed:
            path = os.path.join(relative, entry.name)
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not directory.rules.ignores_directory(path):
                        pending.append(path)
                    continue
                # Follows a link, and does not open anything that could block.
                status = entry.stat()
            except OSError as error:
                _note_unreadable(entry.path, error, unreadable)
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size and not directory.rules.ignores_file(path):
                yield entry.path, (status.st_size, status.st_mtime_ns, status.st_ino)


def _note_unreadable(path: str, error: OSError, unreadable: Dict[str, str]) -> None:
    # An ignored error means: removed since, not readable for the runtime, or a dangling link.
    if error.errno not in _IGNORED_ERRNOS:
        unreadable[path] = os.strerror(error.errno or 0)
