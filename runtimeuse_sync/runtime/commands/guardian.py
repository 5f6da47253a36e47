"""Ends a runtime's commands after the runtime was killed by SIGKILL, or crashed.

Owns one child process per runtime that has run commands: a shell that reads from a pipe whose other end only the
runtime holds. A runtime that stops in order writes to the pipe. If the pipe closes without that, the shell kills every
process that has the runtime's mark in its environment. That needs /proc; elsewhere there is no guardian.

Threads: called on the runtime's event loop; starts no thread. `dismiss` blocks the loop, usually for milliseconds, and
for about 5 s at most.
"""

import contextlib
import logging
import os
import subprocess
from typing import Optional

from .environment import environment_with

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: It ignores SIGHUP, SIGINT and SIGTERM, because a signal that ends the runtime's commands must not end it before them.
#: (If the runtime runs in a command of an outer runtime, that includes the signals for the outer runtime's commands.)
#: It ends only after the pipe has closed or the runtime has written to it. It scans until two scans in a row find
#: nothing, as a process that is just being started has no mark yet. After 100 scans it gives up, because not even
#: SIGKILL ends some processes.
_SCRIPT = """\
trap '' HUP INT TERM
read -r word && exit
looks=0 empty=0
while [ $empty -lt 2 ] && [ $looks -lt 100 ]; do
    looks=$((looks + 1)) empty=$((empty + 1))
    for found in $(grep -lsF -e "$1" /proc/[0-9]*/environ); do
        found=${found#/proc/}
        kill -9 "${found%/environ}" && empty=0
    done
    sleep .1
done
"""
#: How long a dismissed guardian may take to end, in seconds.
_END_TIMEOUT = 5.0


class Guardian:
    """The guardian of one runtime.

    Args:
        mark: The runtime's mark. Only the environments of its own processes contain it.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._started = False

    def start(self) -> None:
        """Starts the guardian unless it was started. The runtime also works without it."""
        if self._started:
            return
        self._started = True
        if not os.path.isdir("/proc/self"):
            return
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "runtimeuse-guardian", self._mark],
                cwd="/",
                env=environment_with({}),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Signals for a group or a terminal must not reach it.
                start_new_session=True,
            )
        except OSError as error:
            _logger.warning(
                "Commands would survive a SIGKILL of the runtime, because their guardian cannot be started: %s",
                error.strerror,
            )

    def dismiss(self) -> None:
        """Ends the guardian, because the runtime has ended its commands itself.

        Blocks until the guardian has ended, usually for milliseconds. After 5 s, it is killed.
        """
        process, self._process, self._started = self._process, None, False
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(b"done\n")
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
