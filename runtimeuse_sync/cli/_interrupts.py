"""What signals do to a run: Ctrl-C cancels it and waits for its end, a second Ctrl-C leaves at once.

While nothing can be cancelled, Ctrl-C is a `KeyboardInterrupt`, as everywhere. SIGTERM and SIGHUP cancel without
waiting: they end the process in order, by `SystemExit` with 128 and their number. A signal that the process was started
to ignore, as by `nohup` or in the background of a script, is still ignored.

Threads: the main thread, between any two steps of it. So the handlers only set flags, and write without locks.
"""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Callable, Dict, Optional, Type

from ._exits import INTERRUPTED


class Interrupts:
    """Handles the signals while its context lasts.

    Args:
        announce: Called at the first Ctrl-C if something is cancelled then.
        leave: Called before the second one ends the process.

    Attributes:
        hit: Whether Ctrl-C has come.
    """

    def __init__(self, announce: Callable[[], None], leave: Callable[[], None]) -> None:
        self.hit = False
        self._announce = announce
        self._leave = leave
        self._cancel: Optional[Callable[[], None]] = None
        self._previous: Dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        # Only the main thread may, and only there do they come.
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                self._handle(signal.SIGINT, self._interrupted)
            for name in ("SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                    self._handle(number, self._terminated)
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def cancels(self, cancel: Optional[Callable[[], None]]) -> None:
        """Sets what the first Ctrl-C does: cancels something, and never blocks; `None` for a `KeyboardInterrupt`."""
        self._cancel = cancel
        if self.hit and cancel is not None:
            cancel()

    def _handle(self, number: int, handler: Callable[[int, Optional[FrameType]], None]) -> None:
        self._previous[number] = signal.getsignal(number)
        signal.signal(number, handler)

    def _interrupted(self, number: int, frame: Optional[FrameType]) -> None:  # noqa: ARG002  # as handlers are called
        if self.hit:
            self._leave()
            os._exit(INTERRUPTED)
        self.hit = True
        if self._cancel is None:
            raise KeyboardInterrupt
        self._announce()
        self._cancel()

    def _terminated(self, number: int, frame: Optional[FrameType]) -> None:  # noqa: ARG002
        # A second one ends the process at once.
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)
