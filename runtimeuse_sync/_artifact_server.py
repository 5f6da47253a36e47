"""The HTTP server of `UploadDirectory`: receives files by PUT, and stores each whole or not at all.

A module of its own because it imports `http.server`, which only `UploadDirectory` needs.

Threads: one that listens, and one for each upload. The thread that closes the server waits for the uploads that are
under way, or aborts them; once `close` has returned, none stores a file any more.
"""

import errno
import logging
import os
import secrets
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Tuple
from urllib.parse import unquote_to_bytes, urlsplit

from ._call import monotonic
from ._interrupts import cleaned_up
from ._threads import join_thread, new_thread, start_thread
from .artifacts.ledger import Ledger

_CHUNK = 64 * 1024

#: How many seconds the uploads under way may still take when the server is closed. Those that were announced and have
#: not begun may take as long to begin.
_GRACE = 5.0

#: The HTTP status for an error of the file system. A file and a directory of the same name are a conflict (409).
_REFUSALS = {
    errno.EEXIST: 409,
    errno.ENOTDIR: 409,
    errno.EISDIR: 409,
    errno.ENAMETOOLONG: 400,
    errno.ENOSPC: 507,
}

#: The reason for the status 409, in place of what the system says.
_CONFLICT = "a file or directory of that name is in the way"

_logger = logging.getLogger("runtimeuse_sync")


class UploadServer(ThreadingHTTPServer):
    """Receives uploads and stores them as files.

    Args:
        host: The address to listen on, IPv4 or IPv6; the port is any free one.
        ledger: Knows what was announced, and where to store it; is told what becomes of it.
        token: The token that the query string of each upload must contain.

    Raises:
        OSError: The server cannot listen on the address.
    """

    daemon_threads = True
    #: A runtime opens 32 connections at once, or more; one that does not fit in the queue waits for a second or longer.
    request_queue_size = 256

    def __init__(self, host: str, ledger: Ledger, token: str) -> None:
        self.ledger = ledger
        self.token = token
        self._uploads: Dict[threading.Thread, socket.socket] = {}
        self._closing = False
        self._listener = new_thread(self._listen, "runtimeuse-uploads")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Upload)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Starts the thread that listens.

        Raises:
            RuntimeConnectionError: The system cannot start another thread.
        """
        start_thread(self._listener)

    def _listen(self) -> None:
        try:
            self.serve_forever(0.05)
        except (OSError, ValueError):
            # The server was closed before it listened: the thread that started this one was interrupted.
            if not self._closing:
                raise

    def close(self, *, wait_for_owed: bool = False) -> None:
        """Stops the server. Uploads under way have `_GRACE` seconds to finish, unless this call is interrupted.

        Args:
            wait_for_owed: Whether announced uploads first have as long to begin.
        """
        cleaned_up(lambda: self._close(_GRACE if wait_for_owed else 0.0), self.abandon)

    def abandon(self) -> None:
        """Stops the server and aborts the uploads under way; does not wait, and may be repeated."""
        self._closing = True
        if self._listener.is_alive():
            self.shutdown()
        self.server_close()
        for thread, connection in self._uploads.copy().items():
            if thread.is_alive():
                _abort(connection)

    def _close(self, seconds_for_owed: float) -> None:
        self.ledger.wait_until_begun(seconds_for_owed)
        self._closing = True
        self.shutdown()
        self.server_close()
        join_thread(self._listener, _GRACE)
        until = monotonic() + _GRACE
        uploads = self._uploads.copy()
        for thread in uploads:
            join_thread(thread, until - monotonic())
        self.abandon()
        for thread in uploads:
            join_thread(thread, _GRACE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread that receives the upload; called by the thread that listens."""
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
        """Receives one upload, in a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._uploads[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # as the base class calls it
        """Logs that an upload failed, because its sender is gone, say. The base class prints a traceback."""
        _logger.warning("an upload was broken off", exc_info=_logger.isEnabledFor(logging.DEBUG))


def _abort(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # The upload has ended meanwhile.


class _Upload(BaseHTTPRequestHandler):
    server: UploadServer

    def do_PUT(self) -> None:
        ledger = self.server.ledger
        parts = urlsplit(self.path)
        token, _, number = parts.query.partition("&version=")
        if not secrets.compare_digest(token.encode(), f"token={self.server.token}".encode()):
            self._respond(403)
            return
        length = self.headers.get("Content-Length", "")
        has_length = length.isascii() and length.isdigit()
        self._left = int(length) if has_length else 0
        name = os.fsdecode(unquote_to_bytes(parts.path))[1:]
        version = int(number) if number.isascii() and number.isdigit() else 0
        try:
            path = ledger.begin(name, version)
        except ValueError:
            self._answer(400)
            return
        status, reason = 411, "the upload had no Content-Length"
        if has_length:
            # What it stays if an exception ends the upload.
            reason = "the upload was broken off"
            try:
                status, reason = self._receive(name, version, path)
            finally:
                if reason:
                    ledger.fail(name, version, reason)
        else:
            ledger.fail(name, version, reason)
        self._answer(status)

    def _receive(self, name: str, version: int, path: Path) -> Tuple[int, str]:
        """Stores the upload if it is complete; returns the HTTP status of the response, and why it failed, if so."""
        size = self._left
        partial = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not derived from the file's name, which may already have the greatest length.
            partial = path.with_name(f".{secrets.token_hex(8)}.part")
            with partial.open("wb") as file:
                data = self._next_chunk()
                while data:
                    file.write(data)
                    data = self._next_chunk()
            if self._left:
                return 400, f"the upload was broken off after {size - self._left} of {size} bytes"
            if self.server.ledger.store(name, version, partial, path):
                partial = None
        except ConnectionError:
            raise
        except ValueError:
            return 400, "no file can have this path"
        except OSError as error:
            status = _REFUSALS.get(error.errno or 0, 500)
            return status, _CONFLICT if status == 409 else error.strerror or type(error).__name__
        finally:
            if partial is not None and partial.exists():
                partial.unlink()
        return 200, ""

    def _answer(self, status: int) -> None:
        # Read all of a refused upload, too: closing earlier would reset the connection, and lose the response.
        while self._next_chunk():
            pass
        if self._left == 0:
            self._respond(status)

    def _next_chunk(self) -> bytes:
        data = self.rfile.read(min(self._left, _CHUNK)) if self._left else b""
        self._left -= len(data)
        return data

    def _respond(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Logs nothing: the request line contains the token."""
