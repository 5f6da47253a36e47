"""An HTTP server for the files that a runtime downloads and uploads."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Type

from runtimeuse_sync import ArtifactUploadRequestMessageInterface, ArtifactUploadResult

from .servers import PATIENCE


class Received(NamedTuple):
    """A request that the storage has received."""

    method: str
    path: str
    headers: Dict[str, str]
    body: bytes


Answer = Callable[[BaseHTTPRequestHandler], None]


class Storage:
    """An HTTP server on loopback that answers GETs from `files` and notes PUTs in `received`.

    Attributes:
        files: Contents, by path.
        handlers: What answers GETs instead, by path.
        answers: Statuses of the next PUTs; then 200.
        redirects: The `Location` of answers to PUTs, by path with query.
        received: The PUTs so far.
        changed: Notified of each PUT.
    """

    def __init__(self) -> None:
        self.files: Dict[str, bytes] = {}
        self.handlers: Dict[str, Answer] = {}
        self.answers: List[int] = []
        self.redirects: Dict[str, str] = {}
        self.received: List[Received] = []
        self.changed = threading.Condition()
        storage = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path in storage.handlers:
                    storage.handlers[path](self)
                    return
                content = storage.files.get(path)
                self.respond(404 if content is None else 200, content or b"no such file")

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with storage.changed:
                    status = storage.answers.pop(0) if storage.answers else 200
                    storage.received.append(Received("PUT", self.path, dict(self.headers.items()), body))
                    storage.changed.notify_all()
                self.respond(status, b"", storage.redirects.get(self.path))

            def respond(self, status: int, content: bytes, location: Optional[str] = None) -> None:
                self.send_response(status)
                if location is not None:
                    self.send_header("Location", location)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing waits for them
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="storage")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def stored(self) -> Dict[str, bytes]:
        """What was put, by path without query."""
        return {put.path.partition("?")[0]: put.body for put in self.received}

    @property
    def content_types(self) -> Dict[str, str]:
        """The types of what was put, by path without query."""
        return {put.path.partition("?")[0]: put.headers["Content-Type"] for put in self.received}

    def upload_result(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """An upload callback that has files put here, under their base names."""
        return ArtifactUploadResult(presigned_url=f"{self.url}/{request.filename}", content_type="text/plain")

    def wait_for(self, count: int) -> List[Received]:
        """Returns what was put, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, PATIENCE), self.received
            return list(self.received)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Storage:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
