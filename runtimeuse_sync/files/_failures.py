"""Why a file operation failed: from exit codes and messages in the sandbox, and from errors on this machine.

Threads: nothing is shared.
"""

import contextlib
import errno
import os
import re
from typing import Dict, Iterator, Optional, Tuple

from .._interrupts import raised_by_a_signal_handler
from ._arguments import StrPath
from .errors import FileError, changed_error, file_error

#: The exit codes of our scripts. No utility uses them.
MISSING = 80
IS_A_DIRECTORY = 82
NOT_A_DIRECTORY = 83
DIFFERS = 85
NOT_A_FILE = 86
NOT_EMPTY = 87
IS_ROOT = 88
TOOL_MISSING = 90

#: A script that needs a missing program prints this and the program's name to stderr.
NEEDS = "runtimeuse needs: "

_CODES: Dict[int, Tuple[Optional[int], str]] = {
    MISSING: (errno.ENOENT, "No such file or directory"),
    IS_A_DIRECTORY: (errno.EISDIR, "Is a directory"),
    NOT_A_DIRECTORY: (errno.ENOTDIR, "Not a directory"),
    NOT_A_FILE: (errno.EINVAL, "Not a regular file"),
    NOT_EMPTY: (errno.EISDIR, "Is a directory that is not empty; pass recursive=True to remove it"),
    IS_ROOT: (errno.EBUSY, "The root and the current directory cannot be removed"),
    # A process that exceeds the limit on a file's size is ended by SIGXFSZ.
    128 + 25: (errno.EFBIG, "File too large"),
}

#: What the C libraries of Linux and macOS, and some shells, call an error; in lower case.
_TEXTS: Dict[str, int] = {
    "no such file": errno.ENOENT,
    "directory nonexistent": errno.ENOENT,
    "nonexistent directory": errno.ENOENT,
    "permission denied": errno.EACCES,
    "operation not permitted": errno.EPERM,
    "is a directory": errno.EISDIR,
    "not a directory": errno.ENOTDIR,
    "file exists": errno.EEXIST,
    "no space left on device": errno.ENOSPC,
    "quota exceeded": errno.EDQUOT,
    # GNU's `tar`, where a disk is full.
    "wrote only": errno.ENOSPC,
    "read-only file system": errno.EROFS,
    "file too large": errno.EFBIG,
    "file size limit exceeded": errno.EFBIG,
    "file name too long": errno.ENAMETOOLONG,
    "filename too long": errno.ENAMETOOLONG,
    "too many levels of symbolic links": errno.ELOOP,
    "symbolic link loop": errno.ELOOP,
    "input/output error": errno.EIO,
    "i/o error": errno.EIO,
    "directory not empty": errno.ENOTEMPTY,
    "text file busy": errno.ETXTBSY,
    "device or resource busy": errno.EBUSY,
    "resource busy": errno.EBUSY,
    "too many open files": errno.EMFILE,
    "cannot allocate memory": errno.ENOMEM,
    "out of memory": errno.ENOMEM,
}
_KNOWN = re.compile("|".join(map(re.escape, _TEXTS)), re.IGNORECASE)

#: What `tar` says of a file that has changed.
_CHANGED = re.compile("file changed as we read it|file removed before we read it|short read|shrank by", re.IGNORECASE)

#: The most characters of a utility's message in an error.
_SHOWN = 300


def failure(path: str, exit_code: Optional[int], stderr: str) -> FileError:
    """Returns the error for a script that exited non-zero.

    Args:
        path: The path of the operation.
        exit_code: Its exit code; -1 if a signal ended it.
        stderr: The end of what it printed to stderr.
    """
    if exit_code == TOOL_MISSING:
        tool = stderr.rpartition(NEEDS)[2].strip() or "a program that is needed"
        return file_error(None, path, f"The sandbox has no `{tool}`, which file operations need")
    if exit_code == DIFFERS:
        return changed_error(path, "What arrived in the sandbox differs from what was sent")
    said = reason(stderr)
    if said is not None:
        number, text = said
        return file_error(number, path, text)
    changed = _CHANGED.search(stderr)
    if changed is not None:
        return changed_error(path, _line_of(stderr, changed.start()))
    if exit_code in _CODES:
        number_or_none, text = _CODES[exit_code]
        return file_error(number_or_none, path, text)
    if exit_code == -1:
        return file_error(None, path, "The sandbox killed the command that worked on it")
    said_last = "; ".join(stderr.strip().splitlines()[-3:])[-_SHOWN:] or "it printed no reason"
    return file_error(None, path, f"A command in the sandbox failed with exit code {exit_code}: {said_last}")


def reason(stderr: str) -> Optional[Tuple[int, str]]:
    """Returns the first error that utilities have printed to stderr, as a number and its line; `None` for no error."""
    found = _KNOWN.search(stderr)
    if found is None:
        return None
    return _TEXTS[found.group().lower()], _line_of(stderr, found.start())


def _line_of(text: str, at: int) -> str:
    start = text.rfind("\n", 0, at) + 1
    return text[start:].split("\n", 1)[0].strip()[:_SHOWN]


@contextlib.contextmanager
def local_errors(path: StrPath) -> Iterator[None]:
    """Raises errors of this machine's file system as a `FileError`, and all others unchanged.

    Args:
        path: The path that is shown if the error has none.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        # A signal handler may raise an `OSError`, too, such as `TimeoutError`.
        if error.errno is None or raised_by_a_signal_handler(error):
            raise
        shown = error.filename if isinstance(error.filename, (str, bytes)) else path
        raise file_error(
            error.errno, os.fsdecode(shown), error.strerror or os.strerror(error.errno), side="local"
        ) from error
