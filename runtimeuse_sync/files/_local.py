"""Files on this machine: a file, or a tree, that takes its place only when it is complete.

Threads: everything runs in the calling thread.
"""

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import IO, Callable, Dict, Optional, TypeVar

from .._interrupts import undone_on_failure
from ._failures import local_errors
from .errors import file_error

_Result = TypeVar("_Result")


def resolved(path: Path) -> Path:
    """Returns what a path leads to, links followed; the parents of it are made if they are missing."""
    with local_errors(path):
        target = Path(os.path.realpath(path))
        parent = target.parent
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
        parent.mkdir(parents=True, exist_ok=True)
    return target


def write_file(path: Path, name: str, fill: "Callable[[IO[bytes]], Optional[int]]") -> None:
    """Writes a file that takes the place of `path` when it is complete.

    Args:
        path: The target.
        name: The name of the temporary file.
        fill: Writes the contents, and returns the file's permissions; `None` keeps those that the umask allows.
    """
    target = resolved(path)
    with local_errors(path):
        if target.is_dir():
            raise file_error(errno.EISDIR, str(path), os.strerror(errno.EISDIR), side="local")
        if target.exists() and not target.is_file():
            raise file_error(errno.EINVAL, str(path), "Not a regular file", side="local")
    temporary = target.parent / name

    def write() -> None:
        with local_errors(path):
            file = open(temporary, "xb")  # noqa: SIM115  # closed below; opening alone is a local error
        with file:
            mode = fill(file)
            with local_errors(path):
                file.flush()
                if mode is not None:
                    os.chmod(temporary, mode)
        with local_errors(path):
            os.replace(temporary, target)

    undone_on_failure(write, lambda: _unlink(temporary))


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def with_staging(path: Path, name: str, fill: "Callable[[Path], _Result]") -> _Result:
    """Calls `fill` with a new directory beside the target, and removes what is left of it at the end.

    Args:
        path: The target, resolved.
        name: The name of the directory.
        fill: Fills the directory and moves its contents to the target.
    """
    staging = path.parent / name

    def work() -> _Result:
        with local_errors(path):
            staging.mkdir(mode=0o700)
        result = fill(staging)
        remove_tree(staging)
        return result

    return undone_on_failure(work, lambda: remove_tree(staging))


def remove_tree(path: Path) -> None:
    """Removes a directory that we have made; may be repeated."""
    shutil.rmtree(str(path), ignore_errors=True)


def conflict(target: Path, kinds: "Dict[str, str]") -> None:
    """Raises if something in the target is in the way of an entry: a file of a directory, or the other way round.

    Args:
        target: The existing directory.
        kinds: The entries by their paths below it: "directory", or anything else.
    """
    for name, kind in kinds.items():
        place = target / name
        try:
            mode = os.lstat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            # Or what is above it is in the way, and is found by itself.
            continue
        if kind == "directory" and not stat.S_ISDIR(mode):
            raise file_error(errno.ENOTDIR, str(place), os.strerror(errno.ENOTDIR), side="local")
        if kind != "directory" and stat.S_ISDIR(mode):
            raise file_error(errno.EISDIR, str(place), os.strerror(errno.EISDIR), side="local")
