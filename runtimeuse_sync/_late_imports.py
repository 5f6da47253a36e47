"""Imports in a connection's thread, of what only some connections need; the interpreter's end waits for them.

That thread is a daemon, which the interpreter freezes at its end wherever it is. Frozen inside an import it would keep
the import's lock, and the main thread would hang at the first import that a finalizer makes, be it only to show a
warning. So the end waits until the import is done: `atexit` comes while daemons still run.
"""

import atexit
import importlib
import os
import threading
from typing import Set

#: Seconds for which the interpreter's end waits for an import at most.
_LONGEST = 10.0

_loaded: Set[str] = set()


def load(*names: str) -> None:
    """Imports modules, so that a later `import` of them is at once."""
    missing = [name for name in names if name not in _loaded]
    if not missing:
        return
    done = threading.Event()
    process = os.getpid()

    def wait() -> None:
        # A child forked meanwhile has this function, but not the thread.
        if os.getpid() == process:
            done.wait(_LONGEST)

    atexit.register(wait)
    try:
        for name in missing:
            importlib.import_module(name)
            _loaded.add(name)
    finally:
        done.set()
        atexit.unregister(wait)
