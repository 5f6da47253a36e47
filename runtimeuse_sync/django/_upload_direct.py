"""An upload callback whose files come through this site, to any storage.

It gives each file its name and signs a URL for it (`_upload_tickets.py`). The view (`_upload_view.py`) receives it,
maybe in another process. What arrived is asked of the cache, where the view has recorded it. If that knows nothing,
since each process has a cache of its own, say, the storage is asked: a file there counts if it is not older than its
announcement.

Threads: the callback runs wherever the client calls it, so a lock guards the entries.
"""

import logging
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple
from urllib.parse import urlencode

from .._interrupts import raised_by_a_signal_handler
from ..artifacts import UploadFailure, content_type
from ..artifacts.names import Names
from ..artifacts.outcome import GRACE, not_arrived, wait_until_arrived
from ..messages import ArtifactUploadRequestMessageInterface, directories_of
from ..results import ArtifactUploadResult
from ._upload_base import StorageUploads, StoredFile
from ._upload_storages import publish
from ._upload_tickets import PARAMETER, Failed, Records, Stored, Ticket

#: Seconds by which a stored file may seem older than it is: clocks differ, and file systems cut times.
_CLOCK_SLACK = 2.0

_logger = logging.getLogger("runtimeuse_sync")


@dataclass
class _Entry:
    name: str
    key: str
    filepath: str
    secrets: Sequence[str]
    announced: int = 0
    announced_at: float = 0.0


class DirectUploads(StorageUploads):
    """Uploads through this site.

    Args:
        url: Where the view is.
        storage: The storage.
        alias: Its alias; empty if it has none.
        prefix: The folder in the storage, empty or with a slash at its end.
        max_size: The largest file, in bytes.
        expires: Seconds for which a URL can be used.
        cache: The alias of the cache.
        names: The names of the files.

    Raises:
        ValueError: Another process could not make this storage.
    """

    def __init__(
        self, url: str, storage: Any, alias: str, prefix: str, max_size: int, expires: float, cache: str, names: Names
    ) -> None:
        self.storage = storage
        self.prefix = prefix
        self._url = url
        self._alias = alias
        self._max_size = max_size
        self._expires = expires
        self._cache = cache
        self._names = names
        self._id = secrets.token_urlsafe(12)
        self._records = Records(cache, self._id, expires)
        self._entries: Dict[str, _Entry] = {}
        # Reentrant, because a signal handler may look at the files while its thread is in here.
        self._lock = threading.RLock()
        if not alias:
            publish(storage, self._id, self._records)

    def __call__(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        # A storage takes a backslash for a separator, or refuses it. In a sandbox it may be part of a name.
        name = self._names.name_of(request, request.filepath.replace("\\", "_"))
        now = time.time()
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                entry = self._entries[name] = _Entry(name, self.prefix + name, request.filepath, ())
            entry.secrets = directories_of(request).secrets
            entry.announced += 1
            entry.announced_at = now
            version = entry.announced
        until = now + self._expires
        ticket = Ticket(self._alias, entry.key, self._max_size, until, self._id, version, self._cache)
        url = f"{self._url}?{urlencode({PARAMETER: ticket.signed()})}"
        return ArtifactUploadResult(presigned_url=url, content_type=content_type(request.filename))

    @property
    def files(self) -> List[StoredFile]:
        """The files that have arrived."""
        return self._look()[0]

    @property
    def failures(self) -> List[UploadFailure]:
        """The files that have not arrived."""
        return self._look()[1]

    def check(self, timeout: float = GRACE) -> List[StoredFile]:
        """Checks that every announced file is in the storage, and returns them."""
        return wait_until_arrived(self._look, self._not_arrived, timeout)

    def session_ended(self, requests: Sequence[ArtifactUploadRequestMessageInterface]) -> None:
        """Looks for the files of a session that has ended."""
        paths = {request.filepath for request in requests}
        with self._lock:
            entries = [entry for entry in self._entries.values() if entry.filepath in paths]
        try:
            failures = self._look(entries)[1]
        except Exception as error:
            if raised_by_a_signal_handler(error):
                raise
            _logger.warning("whether %d artifact(s) arrived is not known: %s", len(entries), type(error).__name__)
            return
        if failures:
            raise self._not_arrived(failures)

    def _not_arrived(self, failures: Sequence[UploadFailure]) -> Exception:
        with self._lock:
            hidden = {secret for entry in self._entries.values() for secret in entry.secrets}
        return not_arrived(f"the storage, in {self.prefix or '/'!r}", failures, hidden)

    def _look(self, entries: Optional[Sequence[_Entry]] = None) -> Tuple[List[StoredFile], List[UploadFailure]]:
        """Returns what arrived and what did not; of all announced files by default."""
        if entries is None:
            with self._lock:
                entries = list(self._entries.values())
        outcomes = self._records.outcomes(entry.key for entry in entries) if entries else {}
        files: List[StoredFile] = []
        failures: List[UploadFailure] = []
        for entry in entries:
            stored, failed = outcomes[entry.key]
            if stored is None and failed is None:
                stored = self._found(entry)
            if stored is not None:
                files.append(StoredFile(entry.name, stored.size, stored.key, entry.filepath))
            reason = _missing(entry, stored, failed)
            if reason:
                failures.append(UploadFailure(entry.name, reason, entry.filepath))
        return files, failures

    def _found(self, entry: _Entry) -> Optional[Stored]:
        """Returns a file that the cache knows nothing of, if it is in the storage and not older than announced."""
        if not self.storage.exists(entry.key):
            return None
        try:
            modified = self.storage.get_modified_time(entry.key).timestamp()
        except NotImplementedError:
            modified = entry.announced_at
        if modified < entry.announced_at - _CLOCK_SLACK:
            return None
        return Stored(entry.announced, entry.key, self.storage.size(entry.key))


def _missing(entry: _Entry, stored: Optional[Stored], failed: Optional[Failed]) -> str:
    """Returns why the newest version of a file is not there; an empty text if it is."""
    version = stored.version if stored is not None else 0
    if version >= entry.announced:
        return ""
    if failed is not None and failed.version > version:
        return failed.reason
    return "only an older version arrived" if version else "it was announced, and never uploaded"
