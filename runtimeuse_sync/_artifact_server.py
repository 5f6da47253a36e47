"""The HTTP server of `UploadDirectory`: takes files by PUT, each under its path, whole or not at all.

A module of its own because it imports `http.server`, which only `UploadDirectory` needs.

Threads: one that listens, and one for each upload. Whoever closes the server waits for the uploads that are under way,
or ends them; none puts a file into place any more once `close` has returned.
"""

import errno
import logging
import os
import secrets
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict
from urllib.parse import unquote_to_bytes, urlsplit

from ._interrupts import cleaned_up
from ._threads import join_thread, new_thread, start_thread

_CHUNK = 64 * 1024

#: Seconds that uploads which are under way may still take when the server is closed.
_GRACE = 5.0

#: What an upload is answered that the file system refuses. A file and a directory of one name are a conflict.
_REFUSALS = {
    errno.EEXIST: 409,
    errno.ENOTDIR: 409,
    errno.EISDIR: 409,
    errno.ENAMETOOLONG: 400,
    errno.ENOSPC: 507,
}

_logger = logging.getLogger("runtimeuse_sync")


class UploadServer(ThreadingHTTPServer):
    """Receives files into a directory.

    Args:
        host: The address to listen on, IPv4 or IPv6, at a port that is free.
        place: Returns where a file goes, given its path as announced; raises `ValueError` for an invalid path.
        token: What the query string of each upload must hold.

    Raises:
        OSError: the address cannot be listened on.
    """

    daemon_threads = True
    #: A runtime has 32 connections opened at once, or more: who finds no place waits for a second or longer.
    request_queue_size = 256

    def __init__(self, host: str, place: Callable[[str], Path], token: str) -> None:
        self.place = place
        self.token = token
        self._uploads: Dict[threading.Thread, socket.socket] = {}
        self._closing = False
        self._listener = new_thread(self._listen, "runtimeuse-uploads")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Upload)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Starts the thread that listens.

        Raises:
            RuntimeConnectionError: the system cannot start another thread.
        """
        start_thread(self._listener)

    def _listen(self) -> None:
        try:
            self.serve_forever(0.05)
        except (OSError, ValueError):
            # Closed before it came so far: whoever started this thread was interrupted.
            if not self._closing:
                raise

    def close(self) -> None:
        """Ends the server; uploads under way have `_GRACE` seconds to end by themselves, unless this is interrupted."""
        cleaned_up(self._close, self.abandon)

    def abandon(self) -> None:
        """Ends the server, and uploads under way; may be repeated, and waits for nothing."""
        self._closing = True
        if self._listener.is_alive():
            self.shutdown()
        self.server_close()
        for thread, connection in self._uploads.copy().items():
            if thread.is_alive():
                _end(connection)

    def _close(self) -> None:
        self._closing = True
        self.shutdown()
        self.server_close()
        join_thread(self._listener, _GRACE)
        until = time.monotonic() + _GRACE
        uploads = self._uploads.copy()
        for thread in uploads:
            join_thread(thread, until - time.monotonic())
        self.abandon()
        for thread in uploads:
            join_thread(thread, _GRACE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Has a thread take the upload; called by the thread that listens."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="runtimeuse-upload", daemon=True
        )
        self._uploads[thread] = request
        try:
            thread.start()
        except BaseException:
            del self._uploads[thread]
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Takes one upload, in a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._uploads[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # as the base class calls it
        """Logs that an upload came to nothing: its sender is gone, say. The base class prints a traceback."""
        _logger.warning("an upload was broken off", exc_info=_logger.isEnabledFor(logging.DEBUG))


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It has ended by itself meanwhile.


class _Upload(BaseHTTPRequestHandler):
    server: UploadServer

    def do_PUT(self) -> None:
        parts = urlsplit(self.path)
        length = self.headers.get("Content-Length", "")
        if not secrets.compare_digest(parts.query.encode(), f"token={self.server.token}".encode()):
            self._answer(403)
        elif not (length.isascii() and length.isdigit()):
            self._answer(411)
        else:
            self._left = int(length)
            status = self._receive(os.fsdecode(unquote_to_bytes(parts.path)))
            # All of it is read even if it is refused: closed before, the connection would be reset, the answer lost.
            while self._next_chunk():
                pass
            if self._left == 0:
                self._answer(status)

    def _receive(self, filepath: str) -> int:
        """Puts what is uploaded into its place, if that can be and it comes to its end; returns the answer's status."""
        if os.sep != "/":
            filepath = filepath.replace(os.sep, "/")
        partial = None
        try:
            path = self.server.place(filepath)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not made of the file's own name, which may be as long as names can be.
            partial = path.with_name(f".{secrets.token_hex(8)}.part")
            with partial.open("wb") as file:
                data = self._next_chunk()
                while data:
                    file.write(data)
                    data = self._next_chunk()
            if self._left == 0:
                os.replace(partial, path)
                partial = None
        except ConnectionError:
            raise
        except ValueError:
            return 400
        except OSError as error:
            return _REFUSALS.get(error.errno or 0, 500)
        finally:
            if partial is not None and partial.exists():
                partial.unlink()
        return 200

    def _next_chunk(self) -> bytes:
        data = self.rfile.read(min(self._left, _CHUNK)) if self._left else b""
        self._left -= len(data)
        return data

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing is logged: the request line holds the token."""
