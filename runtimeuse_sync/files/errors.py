"""The errors of file operations. Each is a `RuntimeUseError` and an `OSError`.

The tree::

    FileError                      any other reason: a full disk, a missing program in the sandbox, a device
    ├── FileMissingError           also a `FileNotFoundError`
    ├── FilePermissionError        also a `PermissionError`
    ├── FileIsADirectoryError      also an `IsADirectoryError`
    ├── FileNotADirectoryError     also a `NotADirectoryError`
    ├── FileAlreadyExistsError     also a `FileExistsError`
    ├── FileChangedError           the file changed while it was transferred, or its contents did not arrive intact
    └── UnsafeArchiveError         the sandbox sent an archive that would write outside of the local target

They are used for the files of both sides; `side` says which one. Like all errors of this package, they pickle, copy,
and can be made again from their `args`, which are plain JSON.

Threads: nothing is shared; each function runs in its caller's thread.
"""

import errno as numbers
from typing import Any, ClassVar, Dict, Optional, Tuple, Type

from ..errors import RuntimeUseError


class FileError(RuntimeUseError, OSError):
    """A file operation failed. Also an `OSError`; `str` names the path and the reason.

    Each argument but the first is an attribute of the same name. `filename` is the path, and `strerror` the reason.

    Args:
        message: What happened, for people.
        path: The path, as the caller gave it, or of the file below it that caused the failure.
        reason: Why the operation failed.
        errno: The error's number (`errno.ENOSPC`, say); `None` if it has none.
        side: `"sandbox"`, or `"local"` for a file on this machine.
        source_id: `None`; file operations have no such option.
    """

    _carried: ClassVar[Dict[str, Any]] = {
        "path": None,
        "reason": None,
        "errno": None,
        "side": "sandbox",
        "source_id": None,
    }

    def __init__(
        self,
        message: str = "",
        path: Optional[str] = None,
        reason: Optional[str] = None,
        errno: Optional[int] = None,
        side: str = "sandbox",
        source_id: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason
        self.side = side
        # The attributes of `OSError`. They are not in `__dict__`.
        self.errno = errno
        self.filename = path
        self.strerror = reason
        self._carry(message, source_id=source_id)

    def __reduce__(self) -> Tuple[Any, ...]:
        # All attributes are in `args`. The state adds what is set later, such as notes.
        return type(self), self.args, self.__dict__


class FileMissingError(FileError, FileNotFoundError):
    """There is no such file or directory. Also a `FileNotFoundError`."""


class FilePermissionError(FileError, PermissionError):
    """The runtime's user, or the user of this process, must not do that. Also a `PermissionError`."""


class FileIsADirectoryError(FileError, IsADirectoryError):
    """The path is a directory's, and the operation needs a file. Also an `IsADirectoryError`."""


class FileNotADirectoryError(FileError, NotADirectoryError):
    """The path, or a part of it, is not a directory's, and the operation needs one. Also a `NotADirectoryError`."""


class FileAlreadyExistsError(FileError, FileExistsError):
    """The path is taken. Also a `FileExistsError`."""


class FileChangedError(FileError):
    """The file changed while it was transferred, or its contents did not arrive intact. The target was not touched."""


class UnsafeArchiveError(FileError):
    """The sandbox sent an archive that is refused; nothing of it was put into the local target.

    It has a path or a link that leaves the target, a device, or a damaged entry.
    """


_CLASSES: Dict[int, Type[FileError]] = {
    numbers.ENOENT: FileMissingError,
    numbers.EACCES: FilePermissionError,
    numbers.EPERM: FilePermissionError,
    numbers.EISDIR: FileIsADirectoryError,
    numbers.ENOTDIR: FileNotADirectoryError,
    numbers.EEXIST: FileAlreadyExistsError,
}


def file_error(number: Optional[int], path: str, reason: str, *, side: str = "sandbox") -> FileError:
    """Returns the error for an error number.

    Args:
        number: The number; `None` if there is none.
        path: The path of the file.
        reason: Why the operation failed.
        side: `"sandbox"` or `"local"`.
    """
    kind = FileError if number is None else _CLASSES.get(number, FileError)
    return kind(message(path, reason, side), path, reason, number, side)


def changed_error(path: str, reason: str, *, side: str = "sandbox") -> FileChangedError:
    """Returns the error for a file that changed while it was transferred."""
    return FileChangedError(message(path, reason, side), path, reason, None, side)


def message(path: str, reason: str, side: str) -> str:
    """Returns the text of an error; it shows the path so that any text can contain it."""
    return f"{'local ' if side == 'local' else ''}{path!r}: {reason}"
