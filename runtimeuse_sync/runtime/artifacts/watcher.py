"""Owns the artifacts of one connection: watches directories, announces files, and matches the upload responses to them.

Threads: a task on the event loop schedules the scans, which run in a worker thread (`runtimeuse-scan`), one at a time.
Uploads have tasks and threads of their own (`uploads.py`).
"""

import asyncio
import os
from typing import Any, Dict, List, Optional, Set, Tuple

from ..._call import monotonic
from ..._wire.redaction import MASK
from ..masking import RedactingLogger
from ..outbox import ClientGoneError, Outbox, encode
from ..parsing import UploadResponse
from ..settings import RuntimeSettings
from ..workers import Workers
from .scanner import Scanner
from .uploads import Uploads

#: The largest share of the time that scans may take, however large the directories are.
_MAX_SCAN_SHARE = 0.1
#: While nothing changes, each pause between two scans is longer than the last one by the first factor. The second one
#: limits the longest pause, as a multiple of the shortest one.
_PAUSE_GROWTH = 1.5
_MAX_PAUSE_FACTOR = 8.0


class Artifacts:
    """The artifacts of one connection."""

    def __init__(self, settings: RuntimeSettings, workers: Workers, outbox: Outbox, log: RedactingLogger) -> None:
        self._settings = settings
        self._workers = workers
        self._outbox = outbox
        self._log = log
        self._uploads = Uploads(settings, workers, log)
        self._scanner = Scanner(settings.artifact_settle)
        # Held during a scan and its announcements.
        self._scanning = asyncio.Lock()
        self._pause = settings.artifact_scan_interval
        # Set when a request begins, which may change files: the watching task returns to short pauses.
        self._request_began = asyncio.Event()
        self._watching: Optional[asyncio.Task[None]] = None
        # The real paths of files without an upload response, by the announced path, in which secrets are masked.
        self._unanswered: Dict[str, List[str]] = {}
        self._names = _MaskedNames()
        self._answered = asyncio.Event()

    async def watch(self, directories: List[str], ignore_content: Optional[str]) -> None:
        """Watches more directories from now on, and announces the files that they already contain.

        Raises:
            OSError: a directory cannot be created.
            ClientGoneError: the client is gone.
            ImportError: `pathspec` is not installed.
        """
        self._request_began.set()
        if not directories:
            return
        async with self._scanning:
            for directory in directories:
                self._scanner.add(self._settings.path(directory), ignore_content)
        # Before the first scan, which a cancel of its request may interrupt.
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
        await self._scan()

    def answer(self, response: UploadResponse) -> None:
        """Starts the upload that a client's response asks for."""
        paths = self._unanswered.get(response.filepath)
        if not paths:
            self._log.warning("Ignored an upload response for a file that was not announced: %s", response.filepath)
            return
        self._uploads.start(paths.pop(0), response)
        if not paths:
            del self._unanswered[response.filepath]
        self._answered.set()

    async def finish(self) -> str:
        """Ends the session in order: waits for late files, for upload responses, and for all uploads.

        Returns:
            A text with the names of the files that were not uploaded; empty if all were uploaded.

        Raises:
            ClientGoneError: the client is gone.
        """
        if self._scanner.watches:
            await asyncio.sleep(self._settings.end_session_delay)
            await self._settle()
            await self.stop_watching()
            # Also announce files that have not settled: an incomplete file is better than none.
            await self._scan(everything=True)
            await self._until_answered()
        await self._uploads.finish()
        if self._unanswered:
            self._log.warning("The client did not answer the upload requests for %s", sorted(self._unanswered))
        lost = dict.fromkeys(self._unanswered, "not answered")
        for known in (self._scanner.unreadable, self._uploads.failed):
            lost.update((self._outbox.redactor.text(path), why) for path, why in known.items())
        return _describe_lost(lost)

    async def _until_answered(self) -> None:
        """Waits until the client has answered for all files, or has sent no answer for `upload_response_timeout`."""
        while self._unanswered:
            self._answered.clear()
            answered = asyncio.ensure_future(self._answered.wait())
            try:
                await asyncio.wait({answered}, timeout=self._settings.upload_response_timeout)
            finally:
                answered.cancel()
            if not self._answered.is_set():
                return

    async def leave(self) -> None:
        """Ends a session whose client is gone; waits for the uploads that the client has answered."""
        await self.stop_watching()
        await self._uploads.finish()

    async def abort(self) -> None:
        """Stops watching, and aborts all uploads."""
        await self.stop_watching()
        await self._uploads.abort()

    async def stop_watching(self) -> None:
        """Stops watching; returns when the last scan has ended."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait({watching})
            error = None if watching.cancelled() else watching.exception()
            if error is not None:
                self._log.error("Watching for artifacts ended early", exc_info=error)

    async def _watch(self) -> None:
        while True:
            began = asyncio.ensure_future(self._request_began.wait())
            # Not `wait_for`, which can lose the cancel that ends this task on older Pythons.
            try:
                await asyncio.wait({began}, timeout=self._pause)
            finally:
                began.cancel()
            if self._request_began.is_set():
                self._request_began.clear()
                self._pause = self._settings.artifact_scan_interval
                continue
            try:
                await self._scan()
            except ClientGoneError:
                return

    async def _settle(self) -> None:
        """Waits until all files have settled, with a limit, as a file may change all the time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.artifact_settle + self._settings.artifact_scan_interval
        await self._scan()
        while self._scanner.unsettled and loop.time() < deadline:
            await asyncio.sleep(min(self._pause, self._settings.artifact_settle))
            await self._scan()

    async def _scan(self, everything: bool = False) -> None:
        async with self._scanning:
            started = monotonic()
            due = await self._workers.run("runtimeuse-scan", self._scanner.scan, started, everything)
            took = monotonic() - started
            self._pause = max(self._next_pause(quiet=not due and not self._scanner.unsettled), took / _MAX_SCAN_SHARE)
            for file in due:
                self._scanner.announced(file)
                await self._announce(file.path)

    def _next_pause(self, quiet: bool) -> float:
        shortest = self._settings.artifact_scan_interval
        if not quiet:
            return shortest
        # Not longer than `artifact_settle`, so that pauses do not delay announcements much.
        return max(
            shortest, min(self._pause * _PAUSE_GROWTH, shortest * _MAX_PAUSE_FACTOR, self._settings.artifact_settle)
        )

    async def _announce(self, path: str) -> None:
        message = {
            "message_type": "artifact_upload_request_message",
            "filename": os.path.basename(path),
            "filepath": path,
        }
        shown = self._names.distinct(path, self._outbox.redactor.message(message))
        self._unanswered.setdefault(shown["filepath"], []).append(path)
        await self._outbox.send_text(encode(shown))


def _describe_lost(lost: Dict[str, str]) -> str:
    """Returns a text with the names of the lost files, given by path with the reason; empty if no file was lost."""
    if not lost:
        return ""
    files = ", ".join(f"{os.path.basename(path)} ({why})" for path, why in sorted(lost.items()))
    return f"{len(lost)} {'artifact was' if len(lost) == 1 else 'artifacts were'} not uploaded: {files}"


class _MaskedNames:
    """Numbers files whose masked paths are equal, as clients identify files by their announced paths."""

    def __init__(self) -> None:
        # The numbers of files by real and masked path, the announced paths in use, and the next number of each masked
        # path. Never removed: even after a file is gone, the client may still have its copy under that path.
        self._numbers: Dict[Tuple[str, str], int] = {}
        self._taken: Set[str] = set()
        self._next: Dict[str, int] = {}

    def distinct(self, path: str, shown: Dict[str, Any]) -> Dict[str, Any]:
        """Returns a file's announcement, with a number in its name if another file was announced with that name."""
        masked: str = shown["filepath"]
        # A path without a mask is the real path, and so unique.
        if MASK not in masked:
            return shown
        number = self._numbers.get((path, masked))
        if number is None:
            number = self._next.get(masked, 1)
            while _numbered(masked, number) in self._taken:
                number += 1
            self._next[masked] = number + 1
            self._taken.add(_numbered(masked, number))
            self._numbers[path, masked] = number
        return {**shown, **{name: _numbered(shown[name], number) for name in ("filename", "filepath")}}


def _numbered(name: str, number: int) -> str:
    if number == 1:
        return name
    # Before the extension, which shows the type of the file.
    stem, extension = os.path.splitext(name)
    return f"{stem}-{number}{extension}"
