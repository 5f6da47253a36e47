"""What an `UploadDirectory` has announced to it, what of it arrived, and what did not.

Each announcement of a file is a version of it, by number, and its URL has that number. So a slow upload of an old
version does not replace a newer one, and a lost new version is noticed even if an old one arrives late. A version is
announced, then begun, then stored or failed; a runtime may try again after a failure. A file is owed while its newest
version is neither stored nor failed.

Threads: the callers' threads announce, the server's threads (`_artifact_server.py`) begin, store and fail, and the
thread that leaves the context waits. One condition guards everything. It is reentrant, because a signal handler may
look at the files while its thread is in here.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

from .._call import monotonic
from .._wire.artifact_paths import relative_path
from .._wire.surrogates import mended
from ..messages import ArtifactUploadRequestMessageInterface, announced_as, directories_of
from .names import Names
from .outcome import UploadFailure

#: The longest slice of a wait, in seconds: an interrupt that another thread sets is noticed between two slices.
_SLICE = 0.1


@dataclass(frozen=True)
class ReceivedFile:
    """A file that arrived in an `UploadDirectory`.

    Args:
        name: Its path below its artifact directory, such as `charts/today.png`. If another file had that name already:
            the artifact directory and the path below it, or a name with a number.
        size: Its size in bytes.
        path: Where it is stored.
        filepath: Its path in the sandbox.
    """

    name: str
    size: int
    path: Path
    filepath: str


@dataclass
class _Entry:
    filepath: str
    secrets: Sequence[str]
    announced: int = 0
    begun: int = 0
    stored: int = 0
    failed: int = 0
    reason: str = ""
    file: Optional[ReceivedFile] = None

    @property
    def is_owed(self) -> bool:
        return max(self.stored, self.failed) < self.announced


class Ledger:
    """The uploads of one use of an `UploadDirectory`.

    Args:
        directory: Where the files are stored.
        names: Their names, also of earlier uses.
    """

    def __init__(self, directory: Path, names: Names) -> None:
        self._directory = directory
        self._names = names
        self._entries: Dict[str, _Entry] = {}
        self._changed = threading.Condition()

    def announce(self, request: ArtifactUploadRequestMessageInterface) -> Tuple[str, int]:
        """Returns the name of the announced file and the number of its new version.

        Raises:
            ValueError: The path names no file.
        """
        # By the bytes of the path: a file's name need not be valid text.
        name = self._names.name_of(request, announced_as(request)[1])
        with self._changed:
            entry = self._entries.get(name)
            if entry is None:
                entry = self._entries[name] = _Entry(request.filepath, ())
            entry.secrets = directories_of(request).secrets
            entry.announced += 1
            return name, entry.announced

    # For the server.

    def begin(self, name: str, version: int) -> Path:
        """Returns where to store a version whose upload begins.

        Raises:
            ValueError: No such version was announced.
        """
        with self._changed:
            entry = self._entries.get(name)
            if entry is None or not 1 <= version <= entry.announced:
                raise ValueError("no such file was announced")
            entry.begun = max(entry.begun, version)
            self._changed.notify_all()
        return self._directory / (name if os.sep == "/" else _elsewhere(name))

    def store(self, name: str, version: int, partial: Path, path: Path) -> bool:
        """Moves a complete upload to its place; returns whether it did, and not a newer version came before.

        Raises:
            OSError: It cannot be moved.
        """
        with self._changed:
            entry = self._entries[name]
            if version < entry.stored:
                return False
            size = partial.stat().st_size
            os.replace(partial, path)
            entry.stored = version
            entry.file = ReceivedFile(mended(name), size, path, entry.filepath)
            self._changed.notify_all()
            return True

    def fail(self, name: str, version: int, reason: str) -> None:
        """Records why an upload failed."""
        with self._changed:
            entry = self._entries[name]
            if version >= entry.failed:
                entry.failed = version
                entry.reason = reason
            self._changed.notify_all()

    # For whoever uses the directory.

    def wait_until_begun(self, seconds: float) -> None:
        """Waits until the upload of every announced version has begun, but at most so many seconds."""
        until = monotonic() + seconds
        with self._changed:
            while any(entry.begun < entry.announced for entry in self._entries.values()):
                left = until - monotonic()
                if left <= 0:
                    return
                self._changed.wait(min(left, _SLICE))

    @property
    def files(self) -> List[ReceivedFile]:
        """The files that arrived, in the order in which they were first announced."""
        with self._changed:
            return [entry.file for entry in self._entries.values() if entry.file is not None]

    def failures(self, *, owed: bool) -> List[UploadFailure]:
        """Returns the files whose last upload failed, and, with `owed`, those whose newest version did not come."""
        with self._changed:
            found = []
            for name, entry in self._entries.items():
                if entry.failed > entry.stored:
                    found.append(UploadFailure(mended(name), entry.reason, entry.filepath))
                elif owed and entry.is_owed:
                    found.append(UploadFailure(mended(name), "it was announced, and never uploaded", entry.filepath))
            return found

    @property
    def secrets(self) -> Set[str]:
        """What must not appear in the text of an exception about these files."""
        with self._changed:
            return {secret for entry in self._entries.values() for secret in entry.secrets}


def _elsewhere(name: str) -> str:
    """Returns the name for a file system of Windows, where a backslash separates and a colon names a drive."""
    return relative_path(name.replace(os.sep, "/").replace(":", "_"))
