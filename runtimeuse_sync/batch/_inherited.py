"""What a forked process must not keep: descriptors whose last copy means something to others.

A lock on a journal is held, and a connection is open, until the last process that has it lets go. So a child that is
forked, such as a worker of a process pool, closes its copies at once.

Threads: any thread may `keep` and `let_go`, each of which is one atomic operation. The forked child has one thread.
"""

import os
from typing import Callable, Dict

_closers: Dict[object, Callable[[], None]] = {}


def keep(owner: object, close: Callable[[], None]) -> None:
    """Has `close` called in each process that is forked from now on, until `let_go(owner)`."""
    _closers[owner] = close


def let_go(owner: object) -> None:
    """Forgets what `keep` was told; may be repeated."""
    _closers.pop(owner, None)


def _close_all() -> None:
    for close in list(_closers.values()):
        close()
    _closers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
