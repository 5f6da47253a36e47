"""The cancel flag of one request. Set on the event loop, read from any thread; no threads or tasks run here."""

import threading
from typing import Optional


class Cancelled:
    """Tells an agent whether its run was cancelled: by the client, by its leaving, or by the runtime's stop."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def is_set(self) -> bool:
        """Returns whether the run was cancelled."""
        return self._event.is_set()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Blocks until the run is cancelled, at most `timeout` seconds; returns whether it was.

        For plain agents. An `async` agent shall not block its loop: its task is cancelled instead.
        """
        return self._event.wait(timeout)

    def set(self) -> None:
        """Marks the run as cancelled."""
        self._event.set()
