"""Ends a sandbox in any event: on leaving a block however that is left, on SIGTERM, at the end of the program.

What is paid for by the second must not outlive its program. Python's `finally` is not enough for that: SIGTERM, which
`docker stop`, systemd and CI send, ends a program without running it; Ctrl-C may come while it runs; and a forked child
that leaves the block would end its parent's sandbox. SIGKILL and a power cut cannot be caught: for these, set the time
limit that each provider takes when it creates a sandbox.

Threads: all runs in the thread of the block, but for the end of the program, which is the main thread's: it ends the
sandboxes of blocks in daemon threads, which are never left. A lock lets only one thread end a sandbox at a time; it is
reentrant, since a signal handler may run on the way.
"""

import atexit
import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Callable, Dict, Optional, Set, Type

from .._interrupts import raised_by_a_signal_handler, surely
from .._wire import validation as check

_logger = logging.getLogger("runtimeuse_sync.sandboxes")

#: The signals that end a program without unwinding it, unless it handles them.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: How many blocks of the main thread rely on the handler of a signal. The last one gives it back.
_blocks: Dict[int, int] = {}

#: How often ending a sandbox is tried.
_TRIES = 3


class ensure_killed:  # noqa: N801  # used like a function
    """A context manager that ends a sandbox whatever happens. Enter it right after the sandbox was created.

    It calls `kill` when the block is left: normally, by an exception, by Ctrl-C, which also cannot interrupt the ending
    itself for good; on SIGTERM and SIGHUP, if the program does not handle them, which then exit it by `SystemExit` (the
    exit code is 128 and the signal's number); and when the program ends while the block still runs, in a daemon thread,
    say. It tries three times if `kill` raises. A forked child does not end its parent's sandbox.

    Entering returns a function that ends the sandbox now. Once the sandbox was ended, nothing ends it again.

    Signals are handled only in blocks of the main thread, where Python allows it, and only while the block runs. Python
    handles them between two steps of its own: native code of an SDK that blocks delays them. Give its calls timeouts.

    Args:
        kill: Ends the sandbox. It should have a time limit, as the methods of SDKs do.

    Raises:
        TypeError: `kill` is not callable, or is a coroutine function.
        RuntimeError: Entering: it was entered before.
        Exception: Leaving the block raises what `kill` raised at last, if nothing else was raised in the block. If
            something was, that is what comes out, and a log record of the level ERROR says that the sandbox may still
            run.

    Examples:
        >>> box = e2b.Sandbox.create()
        >>> with ensure_killed(box.kill) as kill:
        ...     use(box)
    """

    def __init__(self, kill: Callable[[], object]) -> None:
        check.check_callback("kill", kill)
        self._kill = kill
        self._lock = threading.RLock()
        self._killed = False
        #: How the last of all tries failed; `None` if there are tries left.
        self._failure: Optional[Exception] = None
        self._pid = 0
        self._handled: Set[int] = set()

    def __enter__(self) -> Callable[[], None]:
        if self._pid:
            raise RuntimeError("ensure_killed(...) can be entered once only: make another one for another sandbox")
        self._pid = os.getpid()
        atexit.register(self._now)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, _exit_by):
                    self._handled.add(number)
                    _blocks[number] = _blocks.get(number, 0) + 1
                    signal.signal(number, _exit_by)
        return self._now

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self._now()
        except Exception as failure:
            if error is None or failure is not self._failure:
                raise
            _logger.exception("A sandbox could not be ended, and may still run")
        finally:
            surely(self._let_go)

    def _now(self) -> None:
        self._failure = None
        surely(self._end)

    def _end(self) -> None:
        # A forked child first of all: another thread may have held the lock at the fork.
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._failure is not None:
                raise self._failure
            for left in reversed(range(_TRIES)):
                if self._killed:
                    return
                try:
                    self._kill()
                    self._killed = True
                except Exception as error:
                    if raised_by_a_signal_handler(error):
                        raise
                    if not left:
                        self._failure = error
                        raise

    def _let_go(self) -> None:
        atexit.unregister(self._now)
        if threading.current_thread() is threading.main_thread() and os.getpid() == self._pid:
            for number in list(self._handled):
                self._handled.discard(number)
                _blocks[number] -= 1
                if not _blocks[number] and signal.getsignal(number) is _exit_by:
                    signal.signal(number, signal.SIG_DFL)


def _exit_by(number: int, frame: Optional[FrameType]) -> None:  # noqa: ARG001  # the signature of signal handlers
    raise SystemExit(128 + number)
