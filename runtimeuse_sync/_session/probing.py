"""When to ask a runtime that owes something whether it still does.

Threads: whoever has the session's turn uses the timer (`channel.py`).
"""

import math

from .._call import Call

#: Seconds without a terminal message after which the barrier is sent (again) to an unsettled connection.
PROBE_INTERVAL = 1.0

#: The same, right after the first refusal of the barrier.
FIRST_PROBE = 0.05


class ProbeTimer:
    """When to ask a runtime that owes something whether it still does: `due_at`, on the clock of the calls.

    A new timer is stopped. Only a request that is sent makes a new one: calls that each end before the barrier is due
    must not postpone it forever.
    """

    def __init__(self) -> None:
        self.due_at = math.inf
        self._after_refusal = FIRST_PROBE
        self._refused = False

    def update(self, now: float, *, refused: bool) -> None:
        """Starts the timer if it is stopped; shortens it where the last answer to the barrier was a refusal."""
        if self.due_at == math.inf:
            self.due_at = now + PROBE_INTERVAL
        if refused and not self._refused:
            # The barrier may have come just before the runtime became idle: ask again soon, then less and less often.
            self._refused = True
            self.due_at = now + self._after_refusal
            self._after_refusal = min(2 * self._after_refusal, PROBE_INTERVAL)

    def wait(self, call: Call) -> None:
        """Waits until it is time to ask, or a message has come; raises as `Call.wait`."""
        call.held_up = "the runtime was still busy with an earlier request"
        call.wait(self.due_at)
        call.held_up = ""

    def restart(self, now: float, *, probed: bool) -> None:
        """Starts another interval; `probed` says that the barrier was sent, not that its answer is still awaited."""
        if probed:
            self._refused = False
        self.due_at = now + PROBE_INTERVAL
