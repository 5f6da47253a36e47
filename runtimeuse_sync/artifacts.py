"""Ready-made upload callbacks, for `on_artifact_upload_request`.

`s3_uploads` signs URLs with a boto3 client of yours. `UploadDirectory` receives the files itself, over HTTP on the
loopback interface, for a runtime on the same machine. Both name a file by its whole path inside the sandbox, so that
two files of one name in different directories do not overwrite each other.

Threads: `UploadDirectory` runs an HTTP server (`_artifact_server.py`) with one thread that listens and one for each
upload; the callbacks themselves run where the client calls them.
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
    """Returns the MIME type that a file's name suggests; `application/octet-stream` where it suggests none."""
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def relative_path(filepath: str) -> str:
    """Returns a sandbox path as a relative one that leads nowhere else (no root, no `.`, no `..`).

    Backslashes separate nothing in a sandbox: they may be part of a name there.
    """
    parts = [part for part in filepath.split("/") if part not in ("", ".", "..")]
    if not parts:
        raise ValueError("the artifact's path names no file")
    return "/".join(parts)


def s3_uploads(client: Any, bucket: str, prefix: str = "", expires: int = 3600) -> OnArtifactUploadRequestCallback:
    """Returns a callback that has artifacts uploaded to S3, or whatever speaks its protocol.

    Args:
        client: A boto3 S3 client, or anything with its `generate_presigned_url`.
        bucket: The bucket.
        prefix: Put before the path inside the sandbox; the two together are the key.
        expires: Seconds that an upload URL is good for (default 3600).
    """

    def on_artifact_upload_request(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        kind = content_type(request.filename)
        parameters = {"Bucket": bucket, "Key": prefix + relative_path(request.filepath), "ContentType": kind}
        url = client.generate_presigned_url("put_object", Params=parameters, ExpiresIn=expires)
        return ArtifactUploadResult(presigned_url=url, content_type=kind)

    return on_artifact_upload_request


class UploadDirectory:
    """Receives artifacts into a directory, for a runtime on the same machine.

        with UploadDirectory("artifacts") as uploads:
            client.query("…", artifacts_dirs=["/tmp/out"], on_artifact_upload_request=uploads.callback)

    A file arrives under its sandbox path below the directory, whole or not at all; one whose place is taken by a
    directory, or the other way round, is refused (409). URLs carry a random token; whoever does not know it is refused.
    Leaving the context gives uploads that are under way a few seconds to end; nothing arrives after it has been left.

    Args:
        directory: Where files are put; created if missing.
        host: The address to listen on, IPv4 or IPv6 (default 127.0.0.1).

    Raises:
        OSError: the directory cannot be made, or the address cannot be listened on (a `RuntimeConnectionError` where
            the system cannot start another thread).
    """

    def __init__(self, directory: Union[str, Path], host: str = "127.0.0.1") -> None:
        self.directory = Path(directory)
        self._host = host
        self._token = secrets.token_urlsafe(16)
        self._server: Optional[UploadServer] = None

    def __enter__(self) -> "UploadDirectory":
        if self._server is not None:
            raise RuntimeError("this UploadDirectory has been entered already, and listens")
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
        """The upload callback, for `on_artifact_upload_request`.

        Raises:
            RuntimeError: the context has not been entered.
        """
        if self._server is None:
            raise RuntimeError("use UploadDirectory as a context manager: it listens only inside")
        # By its bytes: a file's name need not be text.
        path = quote(os.fsencode(relative_path(announced_as(request)[1])))
        url = f"http://{host_in_url(self._host)}:{self._server.port}/{path}?token={self._token}"
        return ArtifactUploadResult(presigned_url=url, content_type=content_type(request.filename))
