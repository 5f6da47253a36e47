"""Trying again with pauses and jitter, by tenacity, imported when it is needed. No threads run here.

How long a pause is depends on what has failed. A port that refuses is asked often, since that costs one packet and the
runtime is to be noticed when it comes up. A server that answers, be it for the runtime, is asked ever more seldom, and
one that asks for patience gets it. There are never more than ten attempts a second.
"""

import random
from typing import Any, Callable, TypeVar

_T = TypeVar("_T")

#: The first pauses, in seconds, and how many there are of them.
_FIRST_PAUSE = 0.05
_FIRST_PAUSES = 2

#: The shortest pause after them; the longest while nobody listens; and the longest while somebody answers.
_SHORTEST, _LONGEST_UNHEARD, _LONGEST = 0.12, 0.2, 1.0


def pause_after(number: int, failure: BaseException) -> float:
    """Returns for how many seconds to pause.

    Args:
        number: How many pauses there were.
        failure: How the last attempt failed; its `retry_after` and `unheard`, if it has them, count.
    """
    asked_for = getattr(failure, "retry_after", None)
    shortest = _FIRST_PAUSE if number < _FIRST_PAUSES else _SHORTEST
    if asked_for is not None:
        return max(float(asked_for), shortest)
    if number < _FIRST_PAUSES:
        return shortest
    longest = _LONGEST_UNHEARD if getattr(failure, "unheard", False) else _LONGEST
    return random.uniform(shortest, min(longest, _FIRST_PAUSE * 2 ** min(number, 10)))


def try_again(
    failure: BaseException,
    attempt: Callable[[], _T],
    is_worth_it: Callable[[BaseException], bool],
    pause: Callable[[Any], None],
    out_of_time: Callable[[], bool],
) -> _T:
    """Returns what a further attempt comes to, after one has failed.

    Args:
        failure: How it failed.
        attempt: Tries; raises where it fails.
        is_worth_it: Whether to try once more after an exception of it.
        pause: Waits for so many seconds; may raise, to give up.
        out_of_time: Whether there is no time for a further attempt.

    Raises: what the last attempt raised, or `pause`.
    """
    # Not at the top: most connections are there at once, and this import is not cheap. Who calls has it loaded.
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
    pause(pause_after(0, failure))
    result: _T = retrying(attempt)
    return result
