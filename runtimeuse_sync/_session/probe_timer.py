"""When a runtime that owes something is to be asked whether it still does. No threads run here.

Kept from call to call: calls that each end before the time is up must not put it off for ever.
"""

from typing import Optional

#: Seconds without a terminal after which a connection that is not at rest is asked (again) by the barrier.
PROBE_INTERVAL = 1.0

#: The same after the first refusal of the barrier.
FIRST_PROBE = 0.05


class ProbeTimer:
    """The time until the barrier is due, on the clock of the calls."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The connection is at rest."""
        self._at: Optional[float] = None
        self._after_refusal = FIRST_PROBE
        self._refused = False

    def due_at(self, now: float, *, refused: bool) -> float:
        """Returns when the barrier is due.

        Args:
            now: The time.
            refused: Whether the barrier's last answer was a refusal.
        """
        if self._at is None:
            self._at = now + PROBE_INTERVAL
        if refused and not self._refused:
            # Perhaps only because it came a moment before the runtime counted as idle: so soon, then less often.
            self._refused = True
            self._at = now + self._after_refusal
            self._after_refusal = min(2 * self._after_refusal, PROBE_INTERVAL)
        return self._at

    def passed(self, now: float, *, sent: bool) -> None:
        """The time has come; the barrier was sent, or its answer is still awaited."""
        if sent:
            self._refused = False
        self._at = now + PROBE_INTERVAL
