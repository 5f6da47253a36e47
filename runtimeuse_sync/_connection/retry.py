"""Trying again, with pauses that grow and have jitter.

The length of a pause depends on what failed. A port that refuses is tried often: that costs one packet, and so the
runtime is noticed soon when it comes up. A server that answers, even if only a proxy, is tried less and less often. If
it is on this machine, it is tried often, too, unless it says that this is too often (429): what forwards a port to a
container here answers before the runtime does, and serves nobody else. A server that asks for a pause (`Retry-After`)
gets it. There are never more than ten attempts a second.

Threads: all runs in the thread that calls.
"""

import random
from typing import Any, Callable, TypeVar

from .._websocket.http import TOO_MANY_REQUESTS
from .._websocket.late_imports import load

_T = TypeVar("_T")

#: The length of the first pauses, in seconds, and their number.
_FIRST_PAUSE = 0.05
_FIRST_PAUSES = 2

#: After them, in seconds: the shortest pause, the longest while nobody listens or somebody on this machine answers, and
#: the longest while somebody else answers.
_SHORTEST, _LONGEST_IF_CHEAP, _LONGEST = 0.12, 0.2, 1.0


def pause_after(number: int, failure: BaseException) -> float:
    """Returns for how many seconds to pause before the next attempt.

    Args:
        number: How many pauses there were before.
        failure: How the last attempt failed. If it has `retry_after`, that many seconds are the pause; if it has a true
            `not_accepted`, nobody listened; if it has a true `on_loopback`, nobody but this machine was asked.
    """
    asked_for = getattr(failure, "retry_after", None)
    shortest = _FIRST_PAUSE if number < _FIRST_PAUSES else _SHORTEST
    if asked_for is not None:
        return max(float(asked_for), shortest)
    if number < _FIRST_PAUSES:
        return shortest
    too_often = getattr(failure, "status", None) == TOO_MANY_REQUESTS
    here = getattr(failure, "on_loopback", False) and not too_often
    is_cheap = here or getattr(failure, "not_accepted", False)
    longest = _LONGEST_IF_CHEAP if is_cheap else _LONGEST
    return random.uniform(shortest, min(longest, _FIRST_PAUSE * 2 ** min(number, 10)))


def keep_trying(
    attempt: Callable[[], _T],
    is_worth_it: Callable[[BaseException], bool],
    pause: Callable[[float], None],
    out_of_time: Callable[[], bool],
) -> _T:
    """Makes attempts until one succeeds, or it is not worth it to try again.

    Args:
        attempt: Makes an attempt; raises if that fails.
        is_worth_it: Returns whether to try again after this exception.
        pause: Waits for that many seconds; may raise, to give up.
        out_of_time: Returns whether no time is left for another attempt.

    Returns:
        What the attempt returned.

    Raises:
        BaseException: what the last attempt raised, or `pause`.
    """
    try:
        return attempt()
    except Exception as failure:
        # At the interpreter's end nothing can be loaded any more, and nothing is tried again.
        if not is_worth_it(failure) or not load("tenacity"):
            raise
        first_pause = pause_after(0, failure)
    # Not at the top: the import takes long, and most first attempts succeed.
    from tenacity import Retrying, retry_if_exception

    def wait(state: Any) -> float:
        return pause_after(state.attempt_number, state.outcome.exception())

    retrying = Retrying(
        retry=retry_if_exception(is_worth_it),
        wait=wait,
        stop=lambda _: out_of_time(),
        sleep=pause,
        reraise=True,
    )
    pause(first_pause)
    result: _T = retrying(attempt)
    return result
