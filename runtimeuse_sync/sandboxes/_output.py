"""What the process of a local runtime prints: its URL, its log records, why it could not start.

Threads: `runtimeuse-local-output`, one for each process, reads until the process has closed its output. It writes the
fields before it sets the event that announces them; the thread that starts the process waits for that event.
"""

import logging
import re
import threading
from typing import IO, Deque, Optional

from .._threads import join_thread, new_thread, start_thread

_logger = logging.getLogger("runtimeuse_sync.sandboxes")

_ANNOUNCEMENT = re.compile(r"Runtime is listening on (ws://\S+)$")

#: A record as the process logs it: its time, its level, its logger, its text.
_RECORD = re.compile(r"[0-9-]+ [0-9:,]+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) ([\w.]+): (.*)")

#: How many lines are kept for the error that says why the process has ended.
_KEPT_LINES = 20

#: How many characters of a line are read at once. Nothing limits the lines that an agent prints.
_LINE = 8192


class Output:
    """Reads what a process prints, so that it never waits for a reader, and passes it on to `logging`.

    Log records keep their logger and level. All else, such as what an agent prints, is logged by the logger
    `runtimeuse_sync.sandboxes` at INFO.

    Args:
        stream: The output of the process, stdout and stderr in one.

    Attributes:
        url: The URL that the runtime listens on; `None` until it says so.
        announced: Set when there is a URL, or will be none.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.url: Optional[str] = None
        self.announced = threading.Event()
        self._stream = stream
        self._last: Deque[str] = Deque(maxlen=_KEPT_LINES)
        self._thread = new_thread(self._read, "runtimeuse-local-output")

    def start(self) -> None:
        """Starts to read.

        Raises:
            RuntimeError: No thread can be started.
        """
        start_thread(self._thread)

    def join(self, seconds: float) -> None:
        """Waits until everything was read, for a number of seconds at most."""
        join_thread(self._thread, seconds)

    def last_lines(self) -> str:
        """Returns the last lines that the process has printed, as one line; of wrong usage, only what is wrong."""
        lines = " ".join(" ".join(self._last).split())
        usage, _, wrong = lines.partition(": error: ")
        return wrong if wrong and usage.startswith("usage: ") else lines

    def _read(self) -> None:
        try:
            with self._stream:
                for line in iter(lambda: self._stream.readline(_LINE), ""):
                    self._take(line.rstrip("\n"))
        finally:
            self.announced.set()

    def _take(self, line: str) -> None:
        announcement = _ANNOUNCEMENT.match(line) if self.url is None else None
        if announcement is not None:
            self.url = announcement.group(1)
            self.announced.set()
            return
        self._last.append(line)
        record = _RECORD.match(line)
        if record is None:
            _logger.info("%s", line)
        else:
            level, name, text = record.groups()
            logging.getLogger(name).log(getattr(logging, level), "%s", text)
