"""Cleaning up, and starting threads, in spite of interrupts. No threads run here.

A `KeyboardInterrupt` may hit between any two steps, also on the way into a `finally` and inside it. So what gives
something back can be repeated, never blocks for long, and runs by these functions: again if it was interrupted.
"""

import sys
import threading
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


def start_thread(thread: threading.Thread) -> None:
    """Starts a thread; an interrupt comes out as what it is, and the thread may run by then.

    `Thread.start` waits until the thread runs, by a `Condition`. One that is interrupted while it takes its lock back
    releases it all the same, and fails by a `RuntimeError` in the interrupt's place.

    Raises:
        RuntimeError: the system cannot start another thread.
    """
    handled = sys.exc_info()[1]
    try:
        thread.start()
    except RuntimeError as error:
        interrupt = error.__context__
        if interrupt is None or interrupt is handled:
            raise
        raise interrupt from None
