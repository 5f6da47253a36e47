"""The one primitive that threads wait on, and one deadline per call.

`Wakeup` is a binary semaphore on a bare lock. The usual `threading.Event` and `Condition` are unfit here: both hold a
Python-level lock for a moment in `set()` and `wait()`, so a signal handler or finalizer that interrupts `wait()` and
calls `set()` can deadlock on itself. Releasing a bare lock is one C call: safe from any thread, signal handler and
finalizer, and a blocked acquire is left by Ctrl-C.

The rule for its use: state first, then `wake()`; and the waiter looks at the state again after every `wait()`, because
a wake-up is a hint and never carries meaning of its own. Only one thread waits on a `Wakeup`.

No wait may be one long call of C, whichever thread it is in. CPython looks only between two steps for an exception that
another thread has set (`PyThreadState_SetAsyncExc`, by which dramatiq and others set time limits), and for a signal
that came in the moment before the lock was waited for. So every wait of a user's thread is made of slices: those here,
and those for the end of a thread (`_threads.join_thread`); there are no others. Threads of our own, which nobody
interrupts, wait without.
"""

import math
import threading
import time
from typing import Callable, Optional

Clock = Callable[[], float]

#: For how many seconds a signal, or an exception that another thread sets, may go unnoticed by a thread that waits.
SLICE = 0.25


class Wakeup:
    """Wakes one waiting thread; a wake-up that comes before the wait is not lost.

    Args:
        sliced: Whether long waits are made of slices; only a thread of our own can do without, and rest undisturbed.
    """

    __slots__ = ("_lock", "_sliced")

    def __init__(self, *, sliced: bool = True) -> None:
        self._sliced = sliced
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Lets the current or the next `wait` return; never blocks."""
        try:
            self._lock.release()
        except RuntimeError as error:
            # Already released: a wake-up is pending, and one is enough. An interrupt may be of this class, too.
            if "release" not in str(error):
                raise

    def wait(self, seconds: float) -> None:
        """Blocks until woken, or for `seconds` at most (`math.inf`: no limit); it may return earlier."""
        if seconds > 0:
            self._lock.acquire(timeout=min(seconds, SLICE if self._sliced else threading.TIMEOUT_MAX))
        else:
            self._lock.acquire(blocking=False)


class Deadline:
    """A point on the monotonic clock; made once, where a call begins, and handed down.

    Attributes:
        at: The point, in the clock's seconds; `math.inf` for none.
        seconds: The time that it was made with; `None` for no limit.
    """

    __slots__ = ("_clock", "at", "seconds")

    def __init__(self, seconds: Optional[float], clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.seconds = seconds
        self.at = math.inf if seconds is None else clock() + seconds

    def remaining(self) -> float:
        """Returns the seconds left; 0 when it has passed, `math.inf` where there is none."""
        return max(0.0, self.at - self._clock())

    def passed(self) -> bool:
        """Returns whether the time is over."""
        return self._clock() >= self.at
