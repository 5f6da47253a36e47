"""Trying again with growing pauses and jitter, by tenacity, imported when it is needed. No threads run here."""

from typing import Any, Callable, TypeVar

_T = TypeVar("_T")

#: The pause before the second attempt, from which the others grow, and the longest, in seconds.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


def try_again(
    attempt: Callable[[], _T],
    is_worth_it: Callable[[BaseException], bool],
    pause: Callable[[Any], None],
    out_of_time: Callable[[], bool],
) -> _T:
    """Returns what a further attempt comes to, after one has failed.

    Args:
        attempt: Tries; raises where it fails.
        is_worth_it: Whether to try once more after an exception of it.
        pause: Waits for so many seconds; may raise, to give up.
        out_of_time: Whether there is no time for a further attempt.

    Raises: what the last attempt raised, or `pause`.
    """
    # Not at the top: most connections are there at once, and this import is not cheap. Who calls has it loaded.
    from tenacity import Retrying, retry_if_exception, wait_random_exponential

    retrying = Retrying(
        retry=retry_if_exception(is_worth_it),
        wait=wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
        stop=lambda _: out_of_time(),
        sleep=pause,
        reraise=True,
    )
    pause(_FIRST_PAUSE)
    result: _T = retrying(attempt)
    return result
