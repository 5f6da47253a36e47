"""Owns `needs_extra`, which reports that a package of the extra `[runtime]` is not installed.

No module of this package imports a third-party package at its top. Each is imported where it is first needed, inside
`needs_extra`. So importing `runtimeuse_sync.runtime` stays cheap, and the error names the missing package and says how
to install it. `agents/openai.py` and `agents/claude.py` report the packages of their extras themselves.

Threads: no state; any thread may use it.
"""

from contextlib import contextmanager
from typing import Iterator


@contextmanager
def needs_extra() -> Iterator[None]:
    """Wraps imports of the runtime's packages.

    Raises:
        ImportError: a package that the block imports is not installed; the text says how to install the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the embedded runtime needs the package {error.name!r}, which is not installed: "
            'pip install "runtimeuse-sync[runtime]"',
            name=error.name,
        ) from error
