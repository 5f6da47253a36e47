"""`UploadDirectory`: receives artifacts into a directory, from a runtime on the same machine.

Threads: the callback runs wherever the client calls it. An HTTP server (`_artifact_server.py`) has one thread that
listens and one for each upload. What both know is in the ledger (`ledger.py`).
"""

import logging
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, List, Optional, Type
from urllib.parse import quote

from .._interrupts import undone_on_failure
from .._wire import validation as check
from .._wire.urls import host_in_url
from ..messages import ArtifactUploadRequestMessageInterface
from ..results import ArtifactUploadResult
from .ledger import Ledger, ReceivedFile
from .names import Names, PathText, content_type
from .outcome import UploadFailure, not_arrived

if TYPE_CHECKING:
    from .._artifact_server import UploadServer

_logger = logging.getLogger("runtimeuse_sync")


class UploadDirectory:
    """Receives artifacts into a directory, from a runtime on the same machine.

    A file is stored below the directory under its path below its artifact directory: `/tmp/out/charts/today.png`
    becomes `artifacts/charts/today.png`. It is stored whole or not at all, and a newer version replaces it. Files of
    the same relative path in different artifact directories do not: the second one is stored under its artifact
    directory and relative path. A file in no directory that the client knows is stored under its whole path. No path
    leads out of the directory.

    A file whose path is already a directory is refused (409), and so is one below a path that is a file. URLs carry a
    random token; requests without it are refused. On leaving the context, uploads have a few seconds to begin and to
    finish; no file is stored after that. If any did not arrive, leaving raises `ArtifactUploadError`, unless the body
    of the context raises.

    Args:
        directory: Where to store the files; created if missing.
        host: The address to listen on, IPv4 or IPv6 (default 127.0.0.1).
        working_dir: The runtime's working directory, an absolute path. Relative artifact directories start there, but
            the client does not know where that is (default `None`): it takes a relative directory to be where its name
            occurs first in a file's path, and does not recognize `.`. With `working_dir` it is certain.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is empty, or `working_dir` is not absolute.
        OSError: Entering the context: the directory cannot be created, or the server cannot listen on the address.
        RuntimeConnectionError: Entering: the system cannot start another thread. It is an `OSError`, too.
        RuntimeError: Entering: the context is entered already.
        ArtifactUploadError: Leaving: files did not arrive. Their upload failed (a full disk, a directory in the way),
            or they were announced and not uploaded. Its text says why, `filepaths` has their paths in the sandbox.

    Examples:
        >>> with UploadDirectory("artifacts") as uploads:
        ...     client.query("…", artifacts_dirs=["/tmp/out"], on_artifact_upload_request=uploads.callback)
        >>> for file in uploads.files:
        ...     print(file.name, file.size, file.path)
    """

    def __init__(
        self,
        directory: PathText,
        host: str = "127.0.0.1",
        *,
        working_dir: Optional[PathText] = None,
    ) -> None:
        check.check_type("directory", directory, (str, os.PathLike), "a path")
        check.check_text("host", host)
        self.directory: Path = Path(directory)
        self._host = host
        self._token = secrets.token_urlsafe(16)
        self._names = Names(working_dir)
        self._ledger = Ledger(self.directory, self._names)
        self._server: Optional[UploadServer] = None

    def __enter__(self) -> "UploadDirectory":
        if self._server is not None:
            raise RuntimeError("this UploadDirectory is already entered")
        from .._artifact_server import UploadServer

        self.directory.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(self.directory, self._names)
        server = UploadServer(self._host, ledger, self._token)
        undone_on_failure(server.start, server.abandon)
        self._ledger = ledger
        self._server = server
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close(wait_for_owed=error is None)
        failures = self._ledger.failures(owed=True)
        if not failures:
            return
        if error is not None:
            _logger.warning("%d artifact(s) did not arrive, after %s", len(failures), type(error).__name__)
            return
        raise not_arrived(str(self.directory), failures, self._ledger.secrets)

    def __repr__(self) -> str:
        state = "closed" if self._server is None else "open"
        return f"<{type(self).__name__} {str(self.directory)!r} {state}>"

    @property
    def files(self) -> List[ReceivedFile]:
        """The files that have arrived since the context was entered, each once, in the order of their announcement."""
        return self._ledger.files

    @property
    def failures(self) -> List[UploadFailure]:
        """The files whose last upload failed and, outside the context, those that were announced and never uploaded.

        A runtime may still repeat a failed upload while the context is entered.
        """
        return self._ledger.failures(owed=self._server is None)

    def callback(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """Returns where the runtime shall upload a file; to be given as `on_artifact_upload_request`.

        Args:
            request: The upload request.

        Raises:
            RuntimeError: The context is not entered.
            ValueError: The announced path names no file.
        """
        server = self._server
        if server is None:
            raise RuntimeError("use UploadDirectory as a context manager: it listens only inside the context")
        name, version = self._ledger.announce(request)
        # Quote the path's bytes: a file's name need not be valid text.
        path = quote(os.fsencode(name))
        url = f"http://{host_in_url(self._host)}:{server.port}/{path}?token={self._token}&version={version}"
        return ArtifactUploadResult(presigned_url=url, content_type=content_type(request.filename))

    def __call__(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """Does, and returns, what `callback` does.

        Args:
            request: The upload request.
        """
        return self.callback(request)
