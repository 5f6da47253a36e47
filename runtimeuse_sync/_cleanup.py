"""Cleaning up in spite of interrupts. No threads run here.

An interrupt is what a signal handler raises, or another thread sets (`PyThreadState_SetAsyncExc`): of any class, and
between any two steps, also on the way into a `finally` and inside it. So what gives something back can be repeated,
never blocks for long, and runs by these functions: again if it was interrupted.
"""

from typing import Callable, TypeVar

_T = TypeVar("_T")


def surely(clean_up: Callable[[], None]) -> None:
    """Cleans up; again where that is interrupted, or fails."""
    try:
        try:
            clean_up()
        except BaseException:
            clean_up()
            raise
    except BaseException:
        clean_up()
        raise


def cleaned_up(body: Callable[[], _T], clean_up: Callable[[], None]) -> _T:
    """Returns what `body` returns, and raises what it raises; whatever happens, `clean_up` has run to its end."""
    try:
        try:
            try:
                return body()
            finally:
                clean_up()
        except BaseException:
            # The interrupt may have come before the first line of `clean_up`, so even that is not enough to know.
            clean_up()
            raise
    except BaseException:
        # Two signals at once are two interrupts in a row: the second hits the very first step after the first.
        surely(clean_up)
        raise


def undone_on_failure(body: Callable[[], _T], undo: Callable[[], None]) -> _T:
    """Returns what `body` returns, and raises what it raises; if it raises, `undo` has run to its end."""
    try:
        try:
            return body()
        except BaseException:
            undo()
            raise
    except BaseException:
        surely(undo)
        raise
