"""What a missing extra says. No threads or tasks run here.

No module of this package imports a third-party package at its top: each is imported where it is first needed, inside
`needs_extra`, so that importing `runtimeuse_sync.runtime` costs nothing and a missing package is named plainly.
"""

from contextlib import contextmanager
from typing import Iterator


@contextmanager
def needs_extra() -> Iterator[None]:
    """Turns the failure to import one of the runtime's packages into one that says how to install them all.

    Raises:
        ImportError: a package that the block imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the embedded runtime needs the package {error.name!r}, which is not installed: "
            'pip install "runtimeuse_sync[runtime]"',
            name=error.name,
        ) from error
