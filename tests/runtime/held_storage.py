"""A storage for uploads that does what a test says: takes one, holds its answer back, or does not even read it."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Iterator, List, Tuple

from ..support.servers import PATIENCE


class HeldStorage:
    """Receives uploads by PUT.

    Attributes:
        log: What happened: `("begun", path)` when an upload has come, `("stored", body)` when it is in its place, and
            `("broken off", path)` when it has not come to its end.
        most: The most uploads that were there at once.
        unread: The paths of uploads that are not read until `release`.
        held: The paths of uploads that are read, and stored and answered only after `release`; `None` for all.
    """

    def __init__(self) -> None:
        self.log: List[Tuple[str, str]] = []
        self.most = 0
        self.unread: List[str] = []
        self.held: List[str] | None = []
        self._there = 0
        self._released = threading.Event()
        self._changed = threading.Condition()
        storage = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                path = self.path.partition("?")[0]
                storage._begin(path)
                if path in storage.unread:
                    storage._wait_for_release()
                size = int(self.headers["Content-Length"])
                body = b""
                # One that is broken off ends early, or by a reset.
                with contextlib.suppress(ConnectionError):
                    body = self.rfile.read(size)
                if storage.held is None or path in storage.held:
                    storage._wait_for_release()
                whole = len(body) == size
                storage._end("stored" if whole else "broken off", body[:10].decode() if whole else path)
                if not whole:
                    return
                with contextlib.suppress(ConnectionError):
                    self.send_response(200)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            # Whoever closes the server waits for them.
            daemon_threads = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="held-storage")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def release(self) -> None:
        """Goes on with what was held."""
        self._released.set()

    def wait_for(self, kind: str, count: int = 1, seconds: float = PATIENCE) -> bool:
        """Waits until something has happened so many times; returns whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count(kind) >= count, seconds)

    def count(self, kind: str) -> int:
        return len(self.all(kind))

    def all(self, kind: str) -> List[str]:
        return [what for each, what in self.log if each == kind]

    def _wait_for_release(self) -> None:
        assert self._released.wait(PATIENCE), "nobody released it"

    def _begin(self, path: str) -> None:
        with self._changed:
            self._there += 1
            self.most = max(self.most, self._there)
            self.log.append(("begun", path))
            self._changed.notify_all()

    def _end(self, kind: str, what: str) -> None:
        with self._changed:
            self._there -= 1
            self.log.append((kind, what))
            self._changed.notify_all()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def held_storage() -> Iterator[HeldStorage]:
    storage = HeldStorage()
    try:
        yield storage
    finally:
        storage.close()
