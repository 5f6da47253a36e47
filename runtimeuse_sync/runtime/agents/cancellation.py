"""Owns the cancel flag of one request.

Threads: set on the event loop, read in any thread.
"""

import threading
from typing import Optional


class Cancelled:
    """The cancel flag of a run, which its agent gets as `invocation.cancelled`.

    It is set when the client cancels the run or leaves, and when the runtime stops.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def is_set(self) -> bool:
        """Returns whether the run was cancelled."""
        return self._event.is_set()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Blocks until the run is cancelled; returns whether it was.

        For plain agents. An `async` agent must not block its event loop: its task is cancelled instead.

        Args:
            timeout: The longest wait in seconds; `None`, the default, is no limit.
        """
        return self._event.wait(timeout)

    def set(self) -> None:
        """Marks the run as cancelled."""
        self._event.set()
