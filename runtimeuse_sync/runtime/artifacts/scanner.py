"""Decides which files of the watched directories are to be announced, by looking at them again and again.

No threads or tasks of its own: `watcher.py` calls `scan` in a worker thread, one call at a time, and `announced` on
the event loop between two of them. Looking, rather than being notified, cannot miss anything and works on every file
system.
"""

import errno
import os
import stat
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple

from .ignore import IgnoreRules

#: What says of a directory or file that it is none any more, or is not the runtime's business: all else is a failure.
_IGNORED_ERRNOS = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP))

#: Size, time of the last change in nanoseconds, and inode: what tells one state of a file from another.
Signature = Tuple[int, int, int]


@dataclass(frozen=True)
class Due:
    """A file to announce, and the state in which it was seen."""

    path: str
    signature: Signature


@dataclass
class _Directory:
    root: str
    rules: IgnoreRules
    scanned: bool = False


class Scanner:
    """Knows the watched directories and what has been announced of them.

    Args:
        settle: How long a file must look the same before it is due, in seconds.

    Attributes:
        unreadable: What the last look could not see, though it may be there: the paths, and why.
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
        """Whether there are files that have changed too lately to be announced."""
        return bool(self._waiting)

    def add(self, root: str, ignore_content: Optional[str]) -> None:
        """Watches a directory from now on, made if missing; for one watched already, new ignore rules replace the old.

        Raises:
            OSError: the directory cannot be made.
            ImportError: `pathspec` is not installed.
        """
        os.makedirs(root, exist_ok=True)
        known = self._directories.get(root)
        if known is None:
            self._directories[root] = _Directory(root, IgnoreRules(root, ignore_content))
        elif ignore_content is not None:
            known.rules = IgnoreRules(root, ignore_content)

    def scan(self, now: float, everything: bool = False) -> List[Due]:
        """Looks at all directories; returns the files that are due, each until it is said to be `announced`.

        Args:
            now: The time by a monotonic clock, in seconds.
            everything: Do not wait for changed files to settle.
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
        # A file that has gone is forgotten: should one of its name come again, it is a new one.
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
        """Takes note that a file is being announced."""
        self._announced[file.path] = file.signature
        self._waiting.pop(file.path, None)


def _files(directory: _Directory, unreadable: Dict[str, str]) -> Iterator[Tuple[str, Signature]]:
    """Yields the files of a directory that may be artifacts: regular, not empty, not ignored.

    What cannot be looked at, though it may be there, is noted in `unreadable`.
    """
    pending = [""]
    while pending:
        relative = pending.pop()
        looked_at = os.path.join(directory.root, relative)
        try:
            with os.scandir(looked_at) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            _note_unreadable(looked_at, error, unreadable)
            continue
        for entry in listed:
            path = os.path.join(relative, entry.name)
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not directory.rules.ignores_directory(path):
                        pending.append(path)
                    continue
                # Of a link, what it leads to; never anything that a read could block on.
                status = entry.stat()
            except OSError as error:
                _note_unreadable(entry.path, error, unreadable)
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size and not directory.rules.ignores_file(path):
                yield entry.path, (status.st_size, status.st_mtime_ns, status.st_ino)


def _note_unreadable(path: str, error: OSError, unreadable: Dict[str, str]) -> None:
    # Else it has been removed since, is not ours to read, or is a link that leads nowhere.
    if error.errno not in _IGNORED_ERRNOS:
        unreadable[path] = os.strerror(error.errno or 0)
