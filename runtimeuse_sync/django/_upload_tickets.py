"""What an upload URL says, signed, and what is known in all processes of the uploads: by Django's cache.

A URL has a ticket: where its file goes, how large it may be and until when. It is signed with the `SECRET_KEY`, not
encrypted. The view that receives the file may run in another process than the callback that made the URL. So what the
view did is in the cache: which tickets were used, which version of a file was stored last, and why an upload failed.

Threads: none of its own. The cache is shared by callbacks and views.
"""

import hashlib
import json
from typing import Any, Dict, Iterable, NamedTuple, Optional, Tuple

from django.core import signing
from django.core.cache import caches

#: The query parameter that has the ticket.
PARAMETER = "token"

_SALT = "runtimeuse_sync.django.uploads"

#: Seconds for which at least it is kept what became of an upload: a run's files are asked for when it has ended.
_KEPT = 24 * 60 * 60


class Ticket(NamedTuple):
    """The right to upload one version of one file, once.

    Attributes:
        storage: The alias of the storage; empty if it has none.
        key: The file's name in the storage.
        max_size: The largest file, in bytes.
        until: Until when it can be used, in seconds since the epoch.
        uploads: Which callback made it: a random text.
        version: How often the file was announced before, and now.
        cache: The alias of the cache.
    """

    storage: str
    key: str
    max_size: int
    until: float
    uploads: str
    version: int
    cache: str

    def signed(self) -> str:
        """Returns the ticket as text for a URL."""
        token: str = signing.dumps(list(self), salt=_SALT, compress=True)
        return token

    @staticmethod
    def read(token: str) -> "Ticket":
        """Returns the ticket that was signed.

        Raises:
            BadSignature: It was not signed here.
        """
        return Ticket(*signing.loads(token, salt=_SALT))


class Stored(NamedTuple):
    """The version of a file that was stored last."""

    version: int
    key: str
    size: int


class Failed(NamedTuple):
    """The version of a file whose upload failed last."""

    version: int
    reason: str


class Records:
    """What became of the uploads of one callback, in the cache.

    Args:
        cache: The alias of the cache.
        uploads: Which callback.
        seconds: For how long its tickets can be used.
    """

    def __init__(self, cache: str, uploads: str, seconds: float) -> None:
        self._cache = caches[cache]
        self._uploads = uploads
        self._seconds = int(max(seconds, 0) + _KEPT)

    def _entry(self, kind: str, key: str = "") -> str:
        # A hash: caches limit the length and the characters of keys.
        digest = hashlib.sha256(json.dumps([self._uploads, key]).encode()).hexdigest()
        return f"runtimeuse:upload:{kind}:{digest}"

    # For the view.

    def is_used(self, ticket: Ticket) -> bool:
        """Returns whether a ticket was used."""
        return self._cache.get(self._entry(f"used-{ticket.version}", ticket.key)) is not None

    def use(self, ticket: Ticket) -> bool:
        """Uses a ticket; returns whether it was not used before. Of several at once, one succeeds."""
        return bool(self._cache.add(self._entry(f"used-{ticket.version}", ticket.key), 1, self._seconds))

    def give_back(self, ticket: Ticket) -> None:
        """Makes a ticket as if it was not used."""
        self._cache.delete(self._entry(f"used-{ticket.version}", ticket.key))

    def is_replaced(self, ticket: Ticket) -> bool:
        """Returns whether a newer version of the file is stored."""
        stored = self._cache.get(self._entry("stored", ticket.key))
        return stored is not None and stored[0] > ticket.version

    def stored(self, ticket: Ticket, key: str, size: int) -> None:
        """Records that a file was stored."""
        self._cache.set(self._entry("stored", ticket.key), (ticket.version, key, size), self._seconds)

    def failed(self, ticket: Ticket, reason: str) -> None:
        """Records why an upload failed."""
        self._cache.set(self._entry("failed", ticket.key), (ticket.version, reason), self._seconds)

    def storage(self) -> Optional[Tuple[str, Tuple[Any, ...], Dict[str, Any]]]:
        """Returns how to make the storage that has no alias; `None` if that is not known."""
        found: Optional[Tuple[str, Tuple[Any, ...], Dict[str, Any]]] = self._cache.get(self._entry("storage"))
        return found

    # For the callback.

    def set_storage(self, made_by: Tuple[str, Tuple[Any, ...], Dict[str, Any]]) -> None:
        """Records how to make a storage that has no alias."""
        self._cache.set(self._entry("storage"), made_by, self._seconds)

    def outcomes(self, keys: Iterable[str]) -> Dict[str, Tuple[Optional[Stored], Optional[Failed]]]:
        """Returns for each file what was stored and what failed last."""
        keys = list(keys)
        entries = [self._entry(kind, key) for key in keys for kind in ("stored", "failed")]
        found = self._cache.get_many(entries)
        outcomes: Dict[str, Tuple[Optional[Stored], Optional[Failed]]] = {}
        for key in keys:
            stored, failed = found.get(self._entry("stored", key)), found.get(self._entry("failed", key))
            outcomes[key] = Stored(*stored) if stored else None, Failed(*failed) if failed else None
        return outcomes
