"""`cancellable` and `request_cancel`: cancel a run from another request, process or machine, over Django's cache.

Threads: none of its own. A run asks the cache in its caller's thread.
"""

from typing import Any, Callable


def cancellable(
    key: object, owner: Any = None, *, include_earlier: bool = False, cache: str = "default"
) -> Callable[[], bool]:
    """Returns what a call takes as `cancel_when`: it is true once `request_cancel` was called with the same key.

    A request from before this call does not count: what an earlier run with the same key left has no effect.

    Args:
        key: The run's key, such as the primary key of its row: a str, an int or a UUID.
        owner: Whom the run belongs to: a request (its logged-in user, else its session) or a user. Only a cancel
            request with the same owner has an effect. `None`, the default, binds the key to nobody: whoever can make
            your code call `request_cancel` with the key can cancel the run.
        include_earlier: Whether a request from before this call counts, too: for a run that waited in a queue, under a
            key that is never used again. Default: `False`.
        cache: The alias of the cache, in `CACHES`. All processes have to share what is in it.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: `key` is empty, or the owner is a request without a session, or an anonymous user.
        InvalidCacheBackendError: There is no such cache.
    """
    raise NotImplementedError


def request_cancel(key: object, owner: Any = None, *, timeout: float = 3600.0, cache: str = "default") -> None:
    """Asks for the cancelling of the run with this key and owner, wherever it runs.

    The run notices with its next look at the cache, which it takes every `cancel_poll_interval` (0.5 s); its call then
    raises `CancelledException`. If there is no such run, nothing happens.

    Args:
        key: The run's key.
        owner: Whom the run belongs to, as for `cancellable`.
        timeout: Seconds for which the request stays in the cache (default 3600).
        cache: The alias of the cache.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value.
        InvalidCacheBackendError: There is no such cache.
        Exception: What the cache raises if it cannot be reached. The run goes on then.
    """
    raise NotImplementedError
