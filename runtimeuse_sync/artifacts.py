"""Ready-made upload callbacks, for `on_artifact_upload_request`.

`s3_uploads` signs URLs with a boto3 client of yours. `UploadDirectory` receives the files itself, over HTTP on the
loopback interface, for a runtime on the same machine. Both name a file by its whole path inside the sandbox, so that
two files of one name in different directories do not overwrite each other.

Threads: `UploadDirectory` runs an HTTP server with one thread that listens and one for each upload; the callbacks
themselves run where the client calls them.
"""

import mimetypes
import os
import secrets
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Type, Union
from urllib.parse import quote, unquote_to_bytes, urlsplit

from ._validation import host_in_url
from .messages import ArtifactUploadRequestMessageInterface
from .options import OnArtifactUploadRequestCallback
from .results import ArtifactUploadResult

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

_CHUNK = 64 * 1024


def content_type(filename: str) -> str:
    """Returns the MIME type that a file's name suggests; `application/octet-stream` where it suggests none."""
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def relative_path(filepath: str) -> str:
    """Returns a sandbox path as a relative one that leads nowhere else (no root, no `.`, no `..`)."""
    parts = [part for part in filepath.replace("\\", "/").split("/") if part not in ("", ".", "..")]
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

    A file arrives under its sandbox path below the directory, whole or not at all. URLs carry a random token; whoever
    does not know it is refused.

    Args:
        directory: Where files are put; created if missing.
        host: The address to listen on, IPv4 or IPv6 (default 127.0.0.1).

    Raises:
        OSError: the directory cannot be made, or the address cannot be listened on.
    """

    def __init__(self, directory: Union[str, Path], host: str = "127.0.0.1") -> None:
        self.directory = Path(directory)
        self._host = host
        self._token = secrets.token_urlsafe(16)
        self._server: Optional[ThreadingHTTPServer] = None
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> "UploadDirectory":
        self.directory.mkdir(parents=True, exist_ok=True)
        self._server = _make_server(self._host, self.directory, self._token)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="runtimeuse-uploads", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        assert self._server is not None
        assert self._thread is not None
        server, self._server = self._server, None
        server.shutdown()
        server.server_close()
        self._thread.join()

    def callback(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """The upload callback, for `on_artifact_upload_request`.

        Raises:
            RuntimeError: the context has not been entered.
        """
        if self._server is None:
            raise RuntimeError("use UploadDirectory as a context manager: it listens only inside")
        port = self._server.server_address[1]
        # By its bytes: a file's name need not be text.
        path = quote(os.fsencode(relative_path(request.filepath)))
        url = f"http://{host_in_url(self._host)}:{port}/{path}?token={self._token}"
        return ArtifactUploadResult(presigned_url=url, content_type=content_type(request.filename))


def _make_server(host: str, directory: Path, token: str) -> "ThreadingHTTPServer":
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            parts = urlsplit(self.path)
            length = self.headers.get("Content-Length", "")
            if not secrets.compare_digest(parts.query.encode(), f"token={token}".encode()):
                self._answer(403)
            elif not length.isdigit():
                self._answer(411)
            else:
                self._receive(directory / relative_path(os.fsdecode(unquote_to_bytes(parts.path))), int(length))

        def _receive(self, path: Path, length: int) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            try:
                with partial.open("wb") as file:
                    while length > 0:
                        data = self.rfile.read(min(length, _CHUNK))
                        if not data:
                            break
                        file.write(data)
                        length -= len(data)
                if length == 0:
                    os.replace(partial, path)
                    self._answer(200)
            finally:
                if partial.exists():
                    partial.unlink()

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing is logged: the request line holds the token."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    return Server((host, 0), Handler)
