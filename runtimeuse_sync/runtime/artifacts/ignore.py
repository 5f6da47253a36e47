"""Owns the ignore rules of a watched directory: reads and compiles them, and applies them to the paths of a scan.

`.artifactignore` itself and unfinished downloads are always ignored. Invalid patterns have no effect.

Threads: an `IgnoreRules` is made on the event loop, between two scans. It is used in the worker thread of a scan
(`runtimeuse-scan`), one at a time.
"""

import os
import re
import stat
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from ..downloads.download import PARTIAL_PREFIX, PARTIAL_SUFFIX
from ..extras import needs_extra

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".artifactignore"

#: How many matches are cached. Directories are scanned again and again, and matching is most of a scan's work.
_MAX_KNOWN = 100_000

#: The rules if neither the request nor the directory has any.
BUILT_IN: Tuple[str, ...] = (
    "node_modules/",
    ".venv/",
    ".env/",
    "env/",
    "venv/",
    "dist/",
    "__pycache__/",
    "__pytest_cache__/",
    ".pytest_cache/",
)


class IgnoreRules:
    """The ignore rules of one directory, in gitignore's syntax.

    Args:
        root: The directory.
        content: The request's rules; if `None`, those of the directory's `.artifactignore`, which is read again when it
            changes; without such a file, the built-in ones.

    Raises:
        ImportError: `pathspec` is not installed.
    """

    def __init__(self, root: str, content: Optional[str]) -> None:
        self._file = os.path.join(root, IGNORE_FILE)
        self._content = content
        self._read_as: Optional[Tuple[int, int, int]] = None
        self._use(list(BUILT_IN) if content is None else content.splitlines())

    def refresh(self) -> None:
        """Reads `.artifactignore` again if it has changed; to be called before each scan of the directory."""
        if self._content is not None:
            return
        try:
            status = os.stat(self._file)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError  # opening a pipe would block for ever
            read_as = (status.st_mtime_ns, status.st_size, status.st_ino)
            if read_as == self._read_as:
                return
            with open(self._file, encoding="utf-8", errors="replace") as file:
                self._use(file.read().splitlines())
            self._read_as = read_as
        except OSError:
            if self._read_as is not None:
                self._read_as = None
                self._use(list(BUILT_IN))

    def ignores_directory(self, path: str) -> bool:
        """Returns whether everything below a directory, given relative to the root, is ignored."""
        return self._ignores(path + "/")

    def ignores_file(self, path: str) -> bool:
        """Returns whether a file, given relative to the root, is ignored."""
        name = os.path.basename(path)
        if name == IGNORE_FILE or (name.startswith(PARTIAL_PREFIX) and name.endswith(PARTIAL_SUFFIX)):
            return True
        return self._ignores(path)

    def _use(self, lines: List[str]) -> None:
        self._rules = _compile(lines)
        self._known: Dict[str, bool] = {}

    def _ignores(self, path: str) -> bool:
        known = self._known.get(path)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[path] = self._rules.match_file(path)
        return known


def _compile(lines: List[str]) -> "GitIgnoreSpec":
    with needs_extra():
        from pathspec import GitIgnoreSpec

    usable = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error):
            continue  # as git does with an invalid pattern
        usable.append(line)
    return GitIgnoreSpec.from_lines(usable)
