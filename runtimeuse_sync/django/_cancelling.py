"""`cancellable` and `request_cancel`: cancel a run from another request, process or machine, over Django's cache.

Each request to cancel is a mark of its own, a random text, under a key that is made of the owner and the run's key. A
run remembers the mark that was there when it began, and is cancelled by any other one. So what an earlier run with the
same key left there has no effect, several runs with one key are all cancelled, and nobody has to clear anything: marks
expire.

A run asks the cache in its caller's thread, by `cancel_when`. It goes on if the cache cannot be reached: an outage of
the cache must not end all runs. The first failure of an outage is logged.

Threads: none of its own.
"""

import hashlib
import json
import logging
import math
import secrets
import uuid
from typing import Any, List, Optional, Union

from django.core.cache import caches

from .._interrupts import raised_by_a_signal_handler
from .._wire import validation as check

_logger = logging.getLogger("runtimeuse_sync")

#: What can be a run's key.
Key = Union[str, int, uuid.UUID]

#: What names an anonymous owner, in its session.
_IN_SESSION = "_runtimeuse_owner"


class Cancellable:
    """Tells a run whether to cancel it: to be given as `cancel_when`. `cancellable` makes it.

    It can be pickled; a copy remembers the same mark.
    """

    def __init__(self, entry: str, cache: str, mark: Optional[str]) -> None:
        self._entry = entry
        self._cache = cache
        self._before = mark
        self._is_out = False

    def __call__(self) -> bool:
        """Returns whether `request_cancel` was called. If the cache cannot be reached, that is not known: `False`."""
        try:
            mark = caches[self._cache].get(self._entry)
        except Exception as error:
            if raised_by_a_signal_handler(error):
                raise
            if not self._is_out:
                self._is_out = True
                _logger.warning(
                    "the cache %r cannot be reached (%s): a run cannot be cancelled over it now",
                    self._cache,
                    type(error).__name__,
                )
            return False
        self._is_out = False
        return mark is not None and mark != self._before

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over the cache {self._cache!r}>"


def cancellable(key: Key, owner: Any = None, *, include_earlier: bool = False, cache: str = "default") -> Cancellable:
    """Returns what a call takes as `cancel_when`: it is true once `request_cancel` was called with the same key.

    If the cache cannot be reached while the call is in progress, the call goes on, and a warning is logged.

    Args:
        key: The run's key, such as the primary key of its row: a str, an int or a UUID.
        owner: Whom the run belongs to: a request (its logged-in user, or else its session, which is made if there is
            none, and which the browser knows by the response) or a user. Only `request_cancel` with the same owner has
            an effect. With `None`, the default, the key is bound to nobody: your own code has to check who may cancel
            the run.
        include_earlier: Whether a request to cancel from before this call counts, too (default: `False`). For a run
            that waited in a queue, under a key that is never used again.
        cache: The alias of the cache, in `CACHES` (default `"default"`). All processes have to share what is in it: a
            cache in memory serves one process only.

    Raises:
        TypeError: An argument has the wrong type, or the owner is neither a request nor a user.
        ValueError: `key` is empty, or the owner is a user who is not saved or not logged in.
        InvalidCacheBackendError: There is no such cache.
        Exception: What the cache raises if it cannot be reached.

    Examples:
        >>> get_client().query(prompt, cancel_when=cancellable(run.pk, request))
    """
    check.check_type("include_earlier", include_earlier, bool, "a bool")
    check.check_text("cache", cache)
    found = caches[cache]
    entry = _entry(key, owner, creates=True)
    # Now, so that a request from here on counts, however long the call takes to begin.
    return Cancellable(str(entry), cache, None if include_earlier else found.get(entry))


def request_cancel(key: Key, owner: Any = None, *, timeout: float = 3600.0, cache: str = "default") -> None:
    """Asks for the end of the run with this key and owner, in whichever process or machine it is.

    The run looks every `cancel_poll_interval` (0.5 s by default), and its call then raises `CancelledException`. If no
    run has this key and owner, nothing happens.

    Args:
        key: The run's key.
        owner: Whom the run belongs to, as for `cancellable`. Default: `None`.
        timeout: Seconds for which the request stays in the cache (default 3600): longer than a run can be in a
            callback of yours, where it does not look, or, with `include_earlier`, in a queue.
        cache: The alias of the cache (default `"default"`).

    Raises:
        TypeError: An argument has the wrong type, or the owner is neither a request nor a user.
        ValueError: An argument has an invalid value, or the owner is a user who is not saved or not logged in.
        InvalidCacheBackendError: There is no such cache.
        Exception: What the cache raises if it cannot be reached. The run goes on then.
    """
    check.check_interval("timeout", timeout)
    check.check_text("cache", cache)
    found = caches[cache]
    entry = _entry(key, owner, creates=False)
    if entry is not None:
        found.set(entry, secrets.token_urlsafe(12), math.ceil(timeout))


def _entry(key: Key, owner: Any, *, creates: bool) -> Optional[str]:
    """Returns the cache's key for a run; `None` if the owner, a session that has no run, cannot have this one."""
    if isinstance(key, bool) or not isinstance(key, (str, int, uuid.UUID)):
        raise TypeError(f"key must be a str, an int or a UUID, not {type(key).__name__}")
    # A primary key is an int in one view and a text from the URL in another.
    text = str(key)
    check.check_text("key", text)
    bound_to = _bound_to(owner, creates=creates)
    if bound_to is None:
        return None
    # A hash: caches limit the length and the characters of keys, and no key may look like another owner's.
    return "runtimeuse:cancel:" + hashlib.sha256(json.dumps([*bound_to, text]).encode()).hexdigest()


def _bound_to(owner: Any, *, creates: bool) -> Optional[List[str]]:
    if owner is None:
        return []
    if hasattr(owner, "META"):
        user = getattr(owner, "user", None)
        if user is not None and user.is_authenticated:
            return _user(user)
        session = getattr(owner, "session", None)
        if session is None:
            raise ValueError("owner is a request with neither a logged-in user nor a session")
        return _session(session, creates=creates)
    if hasattr(owner, "is_authenticated") and hasattr(owner, "pk"):
        return _user(owner)
    raise TypeError(f"owner must be a request or a user, not {type(owner).__name__}")


def _user(user: Any) -> List[str]:
    if not user.is_authenticated or user.pk is None:
        raise ValueError("owner must be a user who is logged in and saved, not an anonymous one")
    return ["user", str(user.pk)]


def _session(session: Any, *, creates: bool) -> Optional[List[str]]:
    # Not the session's key: that changes with each login and, where sessions are in cookies, with the contents.
    name = session.get(_IN_SESSION)
    if name is None:
        if not creates:
            return None
        name = session[_IN_SESSION] = secrets.token_urlsafe(16)
        # Now, as another request may ask for the cancelling before the response to this one is sent.
        session.save()
    return ["session", name]
