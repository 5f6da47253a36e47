"""Ready-made upload callbacks for `on_artifact_upload_request`.

`s3_uploads` signs URLs with the user's boto3 client. `UploadDirectory` receives the files itself, over HTTP on the
loopback interface, from a runtime on the same machine. Both use a file's whole path inside the sandbox, so files of the
same name in different directories do not overwrite each other.

Threads: the callbacks run wherever the client calls them. `UploadDirectory` runs an HTTP server
(`_artifact_server.py`), with one thread that listens and one for each upload.
"""

import mimetypes
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Type, Union
from urllib.parse import quote

from ._interrupts import undone_on_failure
from ._wire.urls import host_in_url
from .messages import ArtifactUploadRequestMessageInterface, announced_as
from .options import OnArtifactUploadRequestCallback
from .results import ArtifactUploadResult

if TYPE_CHECKING:
    from ._artifact_server import UploadServer


def content_type(filename: str) -> str:
    """Returns the MIME type for a file's name; `application/octet-stream` if it is unknown."""
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def relative_path(filepath: str) -> str:
    """Returns a path in the sandbox as a relative path that cannot leave its directory (no root, no `.`, no `..`).

    A backslash separates nothing in a sandbox: it may be part of a name.

    Raises:
        ValueError: The path names no file.
    """
    parts = [part for part in filepath.split("/") if part not in ("", ".", "..")]
    if not parts:
        raise ValueError("the artifact's path names no file")
    return "/".join(parts)


def s3_uploads(client: Any, bucket: str, prefix: str = "", expires: int = 3600) -> OnArtifactUploadRequestCallback:
    """Returns a callback that lets the runtime upload artifacts to S3, or to a service with the same API.

    Args:
        client: A boto3 S3 client, or any object with its `generate_presigned_url`.
        bucket: The bucket.
        prefix: The prefix of each key; the path inside the sandbox follows it.
        expires: The number of seconds for which an upload URL is valid (default 3600).
    """

    def on_artifact_upload_request(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        kind = content_type(request.filename)
        parameters = {"Bucket": bucket, "Key": prefix + relative_path(request.filepath), "ContentType": kind}
        url = client.generate_presigned_url("put_object", Params=parameters, ExpiresIn=expires)
        return ArtifactUploadResult(presigned_url=url, content_type=kind)

    return on_artifact_upload_request


class UploadDirectory:
    """Receives artifacts into a directory, from a runtime on the same machine.

        with UploadDirectory("artifacts") as uploads:
            client.query("…", artifacts_dirs=["/tmp/out"], on_artifact_upload_request=uploads.callback)

    A file is stored under its path in the sandbox, below the directory, whole or not at all. A file whose path is
    already a directory is refused (409), and so is one below a path that is a file. URLs carry a random token; requests
    without it are refused. On leaving the context, uploads under way have a few seconds to finish; no file is stored
    after that.

    Args:
        directory: Where to store the files; created if missing.
        host: The address to listen on, IPv4 or IPv6 (default 127.0.0.1).

    Entering the context raises:
        OSError: The directory cannot be created, or the server cannot listen on the address.
        RuntimeConnectionError: The system cannot start another thread. It is an `OSError`, too.
        RuntimeError: The context is entered already.
    """

    def __init__(self, directory: Union[str, Path], host: str = "127.0.0.1") -> None:
        self.directory = Path(directory)
        self._host = host
        self._token = secrets.token_urlsafe(16)
        self._server: Optional[UploadServer] = None

    def __enter__(self) -> "UploadDirectory":
        if self._server is not None:
            raise RuntimeError("this UploadDirectory is already entered")
        from ._artifact_server import UploadServer

        self.directory.mkdir(parents=True, exist_ok=True)
        directory = self.directory
        server = UploadServer(self._host, lambda filepath: directory / relative_path(filepath), self._token)
        undone_on_failure(server.start, server.abandon)
        self._server = server
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def callback(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """Returns where the runtime shall upload a file; to be given as `on_artifact_upload_request`.

        Args:
            request: The upload request.

        Raises:
            RuntimeError: The context is not entered.
            ValueError: The announced path names no file.
        """
        if self._server is None:
            raise RuntimeError("use UploadDirectory as a context manager: it listens only inside the context")
        # Quote the path's bytes: a file's name need not be valid text.
        path = quote(os.fsencode(relative_path(announced_as(request)[1])))
        url = f"http://{host_in_url(self._host)}:{self._server.port}/{path}?token={self._token}"
        return ArtifactUploadResult(presigned_url=url, content_type=content_type(request.filename))
