"""Imports in a connection's thread, of what only some connections need; the interpreter's end waits for them.

That thread is a daemon, which the interpreter freezes at its end wherever it is. Frozen inside an import it would keep
the import lock, and the main thread would hang at the first import that a finalizer makes, be it only to show a
warning. So the end, at `atexit`, waits for imports that are under way, and lets none begin any more.

Threads: any thread loads; the main thread ends. Each says what it does before it looks at the other: a load that begins
as the end does is either waited for or refused. No locks, which a forked child could inherit held.
"""

import atexit
import importlib
import os
import threading
from typing import List, Set, Tuple

#: Seconds for which the interpreter's end waits for an import at most.
_LONGEST = 10.0

_loaded: Set[str] = set()
_under_way: List[Tuple[int, threading.Event]] = []
_ending = False


def load(name: str) -> bool:
    """Imports a module, so that a later `import` of it is at once; returns `False` if the interpreter is ending."""
    if name in _loaded:
        return True
    this = (os.getpid(), threading.Event())
    _under_way.append(this)
    try:
        if _ending:
            return False
        importlib.import_module(name)
        _loaded.add(name)
        return True
    finally:
        this[1].set()
        _under_way.remove(this)


def _end() -> None:
    global _ending
    _ending = True
    for process, done in _under_way.copy():
        # A child that was forked meanwhile has the list, but not the thread.
        if process == os.getpid():
            done.wait(_LONGEST)


# Early, and therefore run late: after what users register, which may still connect.
atexit.register(_end)
