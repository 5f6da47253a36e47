"""The operations on files, as users call them: `client.files` and `session.files`.

Threads: everything runs in the calling thread. Any number of threads may share the object; on a session, the requests
of their operations take turns.
"""

import codecs
import contextlib
from pathlib import Path
from typing import Callable, List, Optional, Set, TypeVar, Union

from .._call import AskedByMany, shortened
from .._interrupts import cleaned_up
from .._logs import LoggerLike
from .._wire import validation as check
from . import _scripts as scripts
from ._arguments import (
    BinaryReader,
    Progress,
    RemotePath,
    StrPath,
    check_progress,
    checked_mode,
    local_path,
    source_of,
)
from ._copying import download, listed, uploader, write
from ._listing import FileInfo
from ._operation import OpenCommands, Operation
from ._reading import Reader, whole

_Result = TypeVar("_Result")


class Files:
    """Reads and writes files in the sandbox; `files` of a client or a session returns it.

    It needs nothing of the runtime but commands, and of the sandbox a POSIX shell with its utilities, `base64` and
    `tar`; `list` also needs `stat`.

    Paths in the sandbox are strs or paths; relative ones start at the runtime's working directory. Each operation
    raises, besides what its description says:

    - a `FileError` that names the path and the reason, which is also the built-in `FileNotFoundError`,
      `PermissionError`, `IsADirectoryError`, `NotADirectoryError` or `FileExistsError` where that fits;
    - `FileChangedError` if a file changed while it was transferred, or did not arrive intact;
    - `CancelledException` after `abort()` of the client or session, and `RunTimeoutError` once `timeout` has passed;
    - `RuntimeConnectionError`, `AgentRuntimeError` and `SessionStateError` as other calls do;
    - `TypeError` and `ValueError` for invalid arguments, before anything is sent.

    An operation that fails, is aborted, or is interrupted leaves its target as it was, and removes its temporary file
    from the sandbox, for which it may wait up to five seconds.

    `timeout` is the number of seconds for the whole operation, or a `timedelta`; by default the client's `timeout` for
    all calls, or else no limit. Of the client's other defaults, only `logger` applies.
    `progress(done, total)` is called in the calling thread with numbers of bytes; `total` is `None` where it cannot be
    known. Whatever it raises ends the operation.
    """

    def __init__(
        self,
        open_commands: OpenCommands,
        operations: Set[Operation],
        timeout: Optional[float] = None,
        logger: Optional[LoggerLike] = None,
        asked: Optional[AskedByMany] = None,
    ) -> None:
        # open_commands: opens what runs the commands of one operation.
        # operations: the operations in progress, for whoever aborts them.
        # timeout, logger: those of operations that are given none.
        # asked: what their requests ask whether to cancel.
        self._open_commands = open_commands
        self._operations = operations
        self._timeout = timeout
        self._logger = logger
        self._asked = asked

    def read(
        self, path: StrPath, *, progress: Optional[Progress] = None, timeout: Optional[check.Seconds] = None
    ) -> bytes:
        """Returns the contents of a file.

        Args:
            path: The file in the sandbox.
            progress: Called with the bytes read so far, and all. Default: `None`.
            timeout: Seconds for the whole operation. Default: the client's `timeout`; if it has none, no limit.

        Raises:
            FileNotFoundError: There is no such file.
            IsADirectoryError: It is a directory.
            PermissionError: The runtime's user must not read it.
            FileChangedError: It changed each of the three times that it was read.
            FileError: Any other reason, such as a device in place of a file.
            RunTimeoutError: The operation did not end within `timeout`.
            CancelledException: `abort` was called.
            RuntimeUseError: The runtime could not be reached, or answered with an error.
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
        """
        remote = RemotePath("path", path)
        check_progress(progress)
        return self._perform(
            "reading a file",
            remote,
            timeout,
            lambda operation: whole(Reader(operation, remote.raw, remote.shown, progress)),
        )

    def read_text(
        self,
        path: StrPath,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        progress: Optional[Progress] = None,
        timeout: Optional[check.Seconds] = None,
    ) -> str:
        """Returns the contents of a text file. Line breaks stay as they are.

        Args:
            path: The file in the sandbox.
            encoding: Its encoding. Default: `"utf-8"`.
            errors: What to do with bytes that cannot be decoded, as for `bytes.decode`. Default: `"strict"`.
            progress: Called with the bytes read so far, and all. Default: `None`.
            timeout: Seconds for the whole operation. Default: the client's `timeout`; if it has none, no limit.

        Raises:
            UnicodeDecodeError: It cannot be decoded.
            LookupError: There is no such encoding, or no such way to treat errors.
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
            Exception: Whatever else `read` raises.
        """
        check.check_text("encoding", encoding)
        check.check_str("errors", errors)
        codecs.lookup(encoding)
        codecs.lookup_error(errors)
        return self.read(path, progress=progress, timeout=timeout).decode(encoding, errors)

    def write(
        self,
        path: StrPath,
        data: "Union[bytes, bytearray, memoryview, str, BinaryReader]",
        *,
        encoding: str = "utf-8",
        mode: Optional[int] = None,
        progress: Optional[Progress] = None,
        timeout: Optional[check.Seconds] = None,
    ) -> None:
        """Writes a file, replacing one that exists in one step: readers see the old or the new one, and never a part.

        Missing directories above it are made. If `path` is a symbolic link, the file that it leads to is replaced.

        Args:
            path: The file in the sandbox.
            data: The contents: bytes, a str, or a binary file object, which is read to its end.
            encoding: The encoding of a str. Default: `"utf-8"`.
            mode: The file's permissions, such as `0o600`. `None`, the default, keeps those of the file that is
                replaced; a new one gets what the umask of the runtime allows.
            progress: Called with the bytes written so far, and all; for a file object whose size is not known, `None`.
            timeout: Seconds for the whole operation. Default: the client's `timeout`; if it has none, no limit.

        Raises:
            IsADirectoryError: `path` is a directory.
            NotADirectoryError: Something above it is not a directory.
            PermissionError: The runtime's user must not write it.
            FileError: Any other reason, such as a full disk (`errno` is `ENOSPC`).
            RunTimeoutError: The operation did not end within `timeout`.
            CancelledException: `abort` was called.
            RuntimeUseError: The runtime could not be reached, or answered with an error.
            TypeError: An argument has the wrong type, or the file object returned something other than bytes.
            ValueError: An argument has an invalid value.
        """
        remote = RemotePath("path", path)
        remote.must_name_a_file("path")
        permission = checked_mode(mode)
        check_progress(progress)
        check.check_text("encoding", encoding)
        source, total = source_of(data, encoding)
        self._perform(
            "writing a file",
            remote,
            timeout,
            lambda operation: write(operation, remote, source, permission, total, progress),
        )

    def download(
        self,
        remote: StrPath,
        local: StrPath,
        *,
        progress: Optional[Progress] = None,
        timeout: Optional[check.Seconds] = None,
    ) -> Path:
        """Copies a file or a directory with all that is in it from the sandbox to this machine.

        `local` is the path of the copy itself, never of a directory to put it in; missing directories above it are
        made. A file that exists is replaced in one step. A directory appears in one step; if it exists, the tree is
        merged into it: each file replaces the one of its name, in one step, and all others stay. Permissions are kept,
        of a tree also symbolic links and the times of files. What the sandbox sends is not trusted: nothing is written
        outside of `local`, and a link that leads out of it, or a device, is refused.

        Args:
            remote: The file or directory in the sandbox.
            local: The path on this machine.
            progress: Called with the bytes received so far, and all: of a tree, the bytes of its archive.
            timeout: Seconds for the whole operation. Default: the client's `timeout`; if it has none, no limit.

        Returns:
            `local`, as a `Path`.

        Raises:
            FileNotFoundError: There is no such file or directory.
            PermissionError: The runtime's user must not read it, or this process must not write the copy.
            IsADirectoryError: `remote` is a file and `local` a directory, or so for something below them.
            NotADirectoryError: It is the other way round, or a part of a path is not a directory.
            FileChangedError: It changed each of the three times that it was read.
            UnsafeArchiveError: The sandbox sent something that is refused.
            FileError: Any other reason, such as a full disk.
            RunTimeoutError: The operation did not end within `timeout`.
            CancelledException: `abort` was called.
            RuntimeUseError: The runtime could not be reached, or answered with an error.
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
        """
        source = RemotePath("remote", remote)
        target = local_path("local", local)
        check_progress(progress)
        self._perform("downloading", source, timeout, lambda operation: download(operation, source, target, progress))
        return target

    def upload(
        self,
        local: StrPath,
        remote: StrPath,
        *,
        progress: Optional[Progress] = None,
        timeout: Optional[check.Seconds] = None,
    ) -> None:
        """Copies a file or a directory with all that is in it from this machine to the sandbox.

        `remote` is the path of the copy itself, never of a directory to put it in; missing directories above it are
        made. A file that exists is replaced in one step. A directory appears in one step; if it exists, the tree is
        merged into it: each file replaces the one of its name, in one step, and all others stay. Permissions are kept,
        of a tree also symbolic links and the times of files.

        Args:
            local: The file or directory on this machine.
            remote: The path in the sandbox.
            progress: Called with the bytes sent so far, and all: of a tree, the bytes of its archive.
            timeout: Seconds for the whole operation. Default: the client's `timeout`; if it has none, no limit.

        Raises:
            FileNotFoundError: There is no such file or directory on this machine.
            PermissionError: This process must not read it, or the runtime's user must not write the copy.
            IsADirectoryError: `local` is a file and `remote` a directory, or so for something below them.
            NotADirectoryError: It is the other way round, or a part of a path is not a directory.
            FileChangedError: A file on this machine changed while it was read.
            FileError: Any other reason, such as a full disk, or a socket in the tree.
            RunTimeoutError: The operation did not end within `timeout`.
            CancelledException: `abort` was called.
            RuntimeUseError: The runtime could not be reached, or answered with an error.
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
        """
        source = local_path("local", local)
        target = RemotePath("remote", remote)
        check_progress(progress)
        send = uploader(source, target, progress)
        self._perform("uploading", target, timeout, send)

    def list(self, path: StrPath = ".", *, timeout: Optional[check.Seconds] = None) -> List[FileInfo]:
        """Returns what is in a directory, sorted by name.

        Args:
            path: The directory in the sandbox. Default: the runtime's working directory.
            timeout: Seconds for the whole operation. Default: the client's `timeout`; if it has none, no limit.

        Raises:
            FileNotFoundError: There is no such directory.
            NotADirectoryError: It is a file.
            PermissionError: The runtime's user must not read it.
            FileError: Any other reason.
            RunTimeoutError: The operation did not end within `timeout`.
            CancelledException: `abort` was called.
            RuntimeUseError: The runtime could not be reached, or answered with an error.
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
        """
        remote = RemotePath("path", path)
        return self._perform("listing a directory", remote, timeout, lambda operation: listed(operation, remote))

    def exists(self, path: StrPath, *, timeout: Optional[check.Seconds] = None) -> bool:
        """Returns whether there is a file or directory; as in `os.path`, not for a link that leads nowhere.

        Args:
            path: The path in the sandbox.
            timeout: Seconds for the whole operation. Default: the client's `timeout`; if it has none, no limit.

        Raises:
            RunTimeoutError: The operation did not end within `timeout`.
            CancelledException: `abort` was called.
            RuntimeUseError: The runtime could not be reached, or answered with an error.
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
        """
        remote = RemotePath("path", path)
        script = scripts.exists(remote.raw + b"/" * (remote.ends_with_slash and remote.raw != b"/"))
        return self._perform(
            "looking for a file",
            remote,
            timeout,
            lambda operation: operation.request(script).stdout[0].strip() == "yes",
        )

    def remove(
        self,
        path: StrPath,
        *,
        recursive: bool = False,
        missing_ok: bool = False,
        timeout: Optional[check.Seconds] = None,
    ) -> None:
        """Removes a file, a symbolic link (not what it leads to), or an empty directory.

        Args:
            path: The path in the sandbox. The root and the runtime's working directory are refused.
            recursive: Whether to remove a directory with all that is in it. Default: `False`.
            missing_ok: Whether it is fine if there is nothing to remove. Default: `False`.
            timeout: Seconds for the whole operation. Default: the client's `timeout`; if it has none, no limit.

        Raises:
            FileNotFoundError: There is no such file, and `missing_ok` is not set.
            IsADirectoryError: It is a directory that is not empty, and `recursive` is not set.
            PermissionError: The runtime's user must not remove it.
            FileError: Any other reason.
            RunTimeoutError: The operation did not end within `timeout`.
            CancelledException: `abort` was called.
            RuntimeUseError: The runtime could not be reached, or answered with an error.
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
        """
        remote = RemotePath("path", path)
        check.check_type("recursive", recursive, bool, "a bool")
        check.check_type("missing_ok", missing_ok, bool, "a bool")

        def body(operation: Operation) -> None:
            with contextlib.ExitStack() as stack:
                if missing_ok:
                    stack.enter_context(contextlib.suppress(FileNotFoundError))
                operation.request(scripts.remove(remote.raw, recursive=recursive))

        self._perform("removing a file", remote, timeout, body)

    # What they are made of.

    def _perform(
        self, kind: str, path: RemotePath, timeout: Optional[check.Seconds], body: "Callable[[Operation], _Result]"
    ) -> _Result:
        limit = self._timeout if timeout is None else check.seconds(timeout)
        try:
            check.check_seconds("timeout", limit)
        except (TypeError, ValueError) as error:
            raise shortened(error)  # noqa: B904  # the same exception
        operation = Operation(kind, path.shown, limit, self._open_commands, self._logger, self._asked)

        def perform() -> _Result:
            self._operations.add(operation)
            return operation.perform(body)

        try:
            return cleaned_up(perform, lambda: self._operations.discard(operation))
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
