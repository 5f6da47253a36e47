"""Imports in a connection's thread, of modules that only some connections need.

That thread is a daemon, and the interpreter freezes daemons wherever they are when it shuts down. A thread that was
frozen inside an import would hold the import lock, and the main thread would hang at the next import that a finalizer
makes, even if only to show a warning. So at `atexit` the interpreter waits for the imports that are under way, and no
more imports begin after that.

Threads: any thread may `load`; the main thread runs `_end` at `atexit`. Each notes what it does before it looks at the
other, so a load that begins at the same time as the end is either waited for or refused. There are no locks, because a
forked child could inherit a held one.
"""

import atexit
import importlib
import os
import threading
from typing import List, Set, Tuple

#: For how many seconds at most the interpreter's end waits for an import.
_LONGEST = 10.0

_loaded: Set[str] = set()
_under_way: List[Tuple[int, threading.Event]] = []
_ending = False


def load(name: str) -> bool:
    """Imports a module, so that a later `import` statement finds it loaded.

    Returns:
        Whether it is loaded; `False` if the interpreter is shutting down.

    Raises:
        ImportError: it cannot be imported.
    """
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
        # A child that was forked during an import has the list, but not the thread.
        if process == os.getpid():
            done.wait(_LONGEST)


# Registered early and therefore run late: after what users register, which may still connect.
atexit.register(_end)
