"""Puts announced files where the client said: one HTTP PUT each, with retries.

Each upload is a task on the event loop and one worker thread (`runtimeuse-upload`), a few at a time.
"""

import asyncio
import os
import stat
from typing import IO, Iterator, Set

from .._redaction import mask_url
from ._extras import needs_extra
from .http_transfer import Transfer, TransferAbortedError
from .messages import UploadResponse
from .redaction import RedactingLogger
from .settings import RuntimeSettings
from .workers import Workers

_AT_ONCE = 4
_TRIES = 4
_RETRIED_STATUS = frozenset((408, 429))
#: How much of a file is read at a time where nothing else says so, in bytes.
_PIECE = 64 * 1024


class Uploads:
    """The uploads of one connection."""

    def __init__(self, settings: RuntimeSettings, workers: Workers, log: RedactingLogger) -> None:
        self._settings = settings
        self._workers = workers
        self._log = log
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._running: Set[asyncio.Task[None]] = set()

    def start(self, path: str, response: UploadResponse) -> None:
        """Begins to upload a file; what goes wrong is logged."""
        task = asyncio.ensure_future(self._upload(path, response))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finish(self, timeout: float) -> None:
        """Waits up to `timeout` seconds for all uploads; those that take longer are aborted."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout)
        await self.abort()

    async def abort(self) -> None:
        """Ends all uploads at once; returns when their threads have ended."""
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _upload(self, path: str, response: UploadResponse) -> None:
        transfer = Transfer()
        url = mask_url(response.presigned_url)
        try:
            async with self._slots:
                await self._workers.run(
                    "runtimeuse-upload", _put, path, response, transfer, self._settings, on_cancel=transfer.abort
                )
        except asyncio.CancelledError:
            self._log.warning("Upload of %s to %s was given up: it took too long, or the runtime stops", path, url)
            raise
        except (_UploadError, OSError, ValueError, ImportError, TransferAbortedError) as error:
            # By type: the texts of other errors may have the signed URL.
            reason = str(error) if isinstance(error, _UploadError) else type(error).__name__
            self._log.error("Upload of %s to %s failed: %s", path, url, reason)
        else:
            self._log.info("Uploaded %s to %s", path, url)


class _UploadError(Exception):
    """An upload failed for good, and why."""


class _Body:
    """A file's content, of the size that was promised, given up when the transfer is aborted.

    It has what `requests` wants of a body to send it anew after a redirect.
    """

    def __init__(self, file: "IO[bytes]", transfer: Transfer) -> None:
        self._file = file
        self._transfer = transfer
        self._left = os.fstat(file.fileno()).st_size
        self._size = self._left

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        self._transfer.check()
        # The file may grow or shrink under the upload, but the Content-Length has been said.
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        if not data and self._left:
            raise OSError("the file became shorter while it was uploaded")
        self._left -= len(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(_PIECE), b"")

    def tell(self) -> int:
        return self._size - self._left

    def seek(self, position: int) -> None:
        self._file.seek(position)
        self._left = self._size - position


def _open(path: str) -> "IO[bytes]":
    """Opens a file that may have been replaced by anything since it was announced; a pipe is not waited on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _UploadError("it is no file any more")
    return os.fdopen(descriptor, "rb")


def _put(path: str, response: UploadResponse, transfer: Transfer, settings: RuntimeSettings) -> None:
    with needs_extra():
        import requests

    delay = settings.upload_retry_delay
    with transfer.open_session() as session:
        for tries_left in reversed(range(_TRIES)):
            try:
                with _open(path) as file:
                    body = _Body(file, transfer)
                    with session.put(
                        response.presigned_url,
                        # An empty body with a `read` would be sent in chunks, which storages refuse.
                        data=body if len(body) else b"",
                        headers={"Content-Type": response.content_type},
                        timeout=settings.http_timeout,
                    ) as answer:
                        status = answer.status_code
                failure = "" if 200 <= status < 300 else f"HTTP status {status}"
                final = not failure or (status < 500 and status not in _RETRIED_STATUS)
            except (requests.ConnectionError, requests.Timeout) as error:
                transfer.check()
                failure, final = type(error).__name__, False
            if final or not tries_left:
                break
            transfer.pause(delay)
            delay *= 2
    if failure:
        raise _UploadError(failure)
