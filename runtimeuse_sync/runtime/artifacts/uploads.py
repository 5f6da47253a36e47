"""Schedules the uploads of one connection: limits their number, keeps those of one file in order, records failures.

An upload that makes progress is never aborted for its duration. A try without progress for `upload_timeout` is aborted.

Threads: each upload has a task on the event loop, which watches its progress, and a worker thread (`upload.py`).
"""

import asyncio
from typing import Dict, Optional, Set

from ..._wire.urls import mask_url
from ..http_transfer import TransferAbortedError
from ..masking import RedactingLogger
from ..parsing import UploadResponse
from ..settings import RuntimeSettings
from ..workers import Workers
from .upload import FileGoneError, Upload, UploadError

_MAX_CONCURRENT = 32
#: The time between two checks of an upload's progress, in seconds; less if `upload_timeout` is short.
_CHECK_INTERVAL = 1.0


class Uploads:
    """The uploads of one connection.

    Attributes:
        failed: By path, the reason why the file's last upload failed. Files that are gone are not in it.
    """

    def __init__(self, settings: RuntimeSettings, workers: Workers, log: RedactingLogger) -> None:
        self.failed: Dict[str, str] = {}
        self._settings = settings
        self._workers = workers
        self._log = log
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._running: Set[asyncio.Task[None]] = set()
        # The newest unfinished upload of each path, and the tasks of all unfinished uploads.
        self._newest: Dict[str, Upload] = {}
        self._tasks: Dict[Upload, asyncio.Task[None]] = {}

    def start(self, path: str, response: UploadResponse) -> None:
        """Starts the upload of a file. It supersedes an unfinished upload of the same file and waits for its end."""
        upload = Upload(path, response)
        older = self._newest.get(path)
        before = None
        if older is not None:
            older.supersede()
            before = self._tasks[older]
        self._newest[path] = upload
        task = self._tasks[upload] = asyncio.ensure_future(self._upload(upload, before))
        self._running.add(task)
        task.add_done_callback(lambda task: self._ended(upload, task))

    def _ended(self, upload: Upload, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        del self._tasks[upload]
        if self._newest.get(upload.path) is upload:
            del self._newest[upload.path]

    async def finish(self) -> None:
        """Waits for all uploads, including those that start during the wait."""
        while self._running:
            await asyncio.wait(set(self._running))

    async def abort(self) -> None:
        """Aborts all uploads; returns when their threads have ended."""
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _upload(self, upload: Upload, before: "Optional[asyncio.Task[None]]") -> None:
        path, url = upload.path, mask_url(upload.response.presigned_url)
        try:
            if before is not None:
                await asyncio.wait({before})
            async with self._slots:
                if upload.superseded:
                    raise TransferAbortedError
                await self._put(upload)
        except asyncio.CancelledError:
            self.failed[path] = "given up"
            self._log.warning("Upload of %s to %s was given up: the runtime stops", path, url)
            raise
        except FileGoneError as error:
            self.failed.pop(path, None)
            self._log.error("Upload of %s to %s failed: %s", path, url, error)
        except Exception as error:
            if upload.superseded:
                self._log.info("Upload of %s to %s was given up for a newer version of the file", path, url)
                return
            # Other errors only by type: their texts may contain the signed URL.
            reason = str(error) if isinstance(error, UploadError) else type(error).__name__
            self.failed[path] = reason
            self._log.error("Upload of %s to %s failed: %s", path, url, reason)
        else:
            self.failed.pop(path, None)
            self._log.info("Uploaded %s to %s", path, url)

    async def _put(self, upload: Upload) -> None:
        """Runs `Upload.put` in a worker thread and aborts a try without progress.

        Raises:
            UploadError: the upload failed.
            FileGoneError: the file is gone.
            TransferAbortedError: the upload was aborted, or superseded by a newer version.
            Exception: whatever else `Upload.put` raised.
        """
        putting = asyncio.ensure_future(
            self._workers.run("runtimeuse-upload", upload.put, self._settings, on_cancel=upload.abort)
        )
        loop = asyncio.get_running_loop()
        limit = self._settings.upload_timeout
        progress, since = upload.progress, loop.time()
        try:
            while not putting.done():
                await asyncio.wait({putting}, timeout=min(_CHECK_INTERVAL, limit / 4))
                now = upload.progress
                if now != progress:
                    progress, since = now, loop.time()
                elif loop.time() - since >= limit:
                    upload.break_off(progress)
        except asyncio.CancelledError:
            putting.cancel()
            await asyncio.wait({putting})
            raise
        putting.result()
