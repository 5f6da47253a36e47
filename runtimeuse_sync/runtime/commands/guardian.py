"""Ends a runtime's commands where the runtime itself no longer can: when it was killed by SIGKILL, or crashed.

Owns one child process per runtime that has run commands: a shell that waits at the end of a pipe whose other end only
the runtime holds. When the runtime ends in order, it says so on the pipe. When the pipe ends without a word, the shell
kills every process that carries the runtime's mark. It needs /proc for that; elsewhere there is no guardian.
"""

import contextlib
import logging
import os
import subprocess
from typing import Optional

from .environment import environment_with

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: Ends only by a word on the pipe or by its end: what ends the runtime's commands (in a runtime's command, those of the
#: outer one, too) shall not end it before them. It looks until it has found nothing twice, as a process that is just
#: being started carries no mark yet, and gives up on processes that not even SIGKILL ends.
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
#: How long a guardian may take to end that has been told so, in seconds.
_END_TIMEOUT = 5.0


class Guardian:
    """The guardian of one runtime.

    Args:
        mark: What the environment of each of the runtime's processes has, and no other's.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._started = False

    def start(self) -> None:
        """Starts it, if it has not been started yet; without one, the runtime works all the same."""
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
                # What ends a group or a terminal shall not end it.
                start_new_session=True,
            )
        except OSError as error:
            _logger.warning("Commands would outlive a SIGKILL of the runtime: %s", error.strerror)

    def dismiss(self) -> None:
        """Tells it that nothing is left to do; returns when it has ended. Blocks for some milliseconds."""
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
