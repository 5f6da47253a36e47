"""Uploads one file with a PUT: retries it, reports its progress, and can be aborted safely.

An upload that is superseded by a newer version of its file must not arrive after that version. It is aborted only while
part of the file is still unsent, because no storage accepts an incomplete upload. Once the whole file was passed to the
connection, the upload waits for the storage's answer: only the answer shows that the storage is done with it.

Threads: an `Upload` runs in one worker thread (`runtimeuse-upload`). The event loop watches, supersedes and aborts it.
"""

import array
import errno
import fcntl
import os
import socket
import stat
import termios
import threading
from typing import IO, TYPE_CHECKING, Iterator, Tuple

from ..http_transfer import Transfer, TransferAbortedError
from ..parsing import UploadResponse
from ..settings import RuntimeSettings

if TYPE_CHECKING:
    import requests

_TRIES = 4
#: How many tries may end without progress: each takes `upload_timeout`, and the end of a session waits for it.
_STALLED_TRIES = 2
_RETRIED_STATUS = frozenset((408, 429))
#: The errors on opening a file that may be gone a moment later.
_RETRIED_ERRNOS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
#: How much of a file is read at a time by default, in bytes.
_PIECE = 64 * 1024

#: The progress of an upload: the try's number, the bytes passed to the connection, and those not yet acknowledged.
Progress = Tuple[int, int, int]


class UploadError(Exception):
    """An upload failed and is not retried; the text is the reason."""


class FileGoneError(UploadError):
    """The file is gone, so there is nothing to upload."""


class _ShortenedError(OSError):
    """The file was truncated during its upload."""


class Upload(Transfer):
    """The upload of one version of a file.

    Args:
        path: The file's path.
        response: The client's upload response, with the URL and content type.
    """

    def __init__(self, path: str, response: UploadResponse) -> None:
        super().__init__()
        self.path = path
        self.response = response
        self.superseded: bool = False
        self._try = 0
        self._handed_over = 0
        # Guards changes of the attributes above and of two flags: whether the whole file was passed to the connection,
        # and whether the event loop has found the try to be stalled.
        self._state = threading.Lock()
        self._whole = False
        self._stalled = False

    # Called on the event loop.

    @property
    def progress(self) -> Progress:
        """The upload's progress; an upload is not stalled while this changes."""
        return (self._try, self._handed_over, sum(map(_unsent, self.open_sockets())))

    def supersede(self) -> None:
        """Aborts the upload for a newer version of its file, unless the whole file was passed to the connection."""
        with self._state:
            self.superseded = True
            if self._whole:
                return
            self.abort()

    def break_off(self, progress: Progress) -> None:
        """Aborts the current try, which has made no progress since `progress`; `put` may retry."""
        with self._state:
            if progress[0] != self._try:
                return
            self._stalled = True
            self.shut_down()

    # Called in the worker thread.

    def put(self, settings: RuntimeSettings) -> None:
        """Uploads the file.

        Raises:
            UploadError: the upload failed.
            FileGoneError: the file is gone.
            TransferAbortedError: the upload was aborted, or superseded by a newer version.
            OSError: the file cannot be read.
            ValueError: the URL is invalid.
            ImportError: `requests` is not installed.
        """
        delay = settings.upload_retry_delay
        stalled = 0
        with self.open_session() as session:
            for tries_left in reversed(range(_TRIES)):
                failure, final = self._put_once(session, settings)
                if not failure:
                    return
                stalled += self._stalled
                if final or not tries_left or stalled == _STALLED_TRIES:
                    break
                with self._state:
                    # Until the next try has passed on the whole file, the upload can be superseded again.
                    self._whole = False
                    if self.superseded:
                        raise TransferAbortedError
                self.pause(delay)
                delay *= 2
        raise UploadError(failure)

    def _put_once(self, session: "requests.Session", settings: RuntimeSettings) -> Tuple[str, bool]:
        """Returns why the try failed, empty if it did not, and whether the outcome is final."""
        import requests

        with self._state:
            self._try += 1
            self._stalled = False
        try:
            with _open(self.path) as file:
                body = _Body(file, self)
                if not body.left:
                    self.hand_over(0, 0)
                with session.put(
                    self.response.presigned_url,
                    # An empty body with a `read` method would be sent chunked, which storages refuse.
                    data=body if len(body) else b"",
                    headers={"Content-Type": self.response.content_type},
                    # Only the status of the answer matters.
                    stream=True,
                    # No timeout for the rest: the event loop aborts a try without progress.
                    timeout=(min(settings.http_timeout, settings.upload_timeout), None),
                ) as answer:
                    status = answer.status_code
        except FileGoneError:
            raise
        except _ShortenedError:
            self.check()
            return "the file changed while it was uploaded", False
        except (requests.ConnectionError, requests.Timeout) as error:
            self.check()
            if self._stalled:
                return f"no progress for {settings.upload_timeout:g} s", False
            return type(error).__name__, False
        except OSError as error:
            self.check()
            if error.errno in _RETRIED_ERRNOS:
                return os.strerror(error.errno), False
            raise
        if not 200 <= status < 300:
            return f"HTTP status {status}", status < 500 and status not in _RETRIED_STATUS
        if body.left:
            return f"HTTP status {status} before all of it was sent", False
        return "", True

    def hand_over(self, size: int, left: int) -> None:
        """Records that a piece of the file is about to be passed to the connection.

        Args:
            size: The piece's size in bytes.
            left: The bytes of the file after it.

        Raises:
            TransferAbortedError: the upload was aborted.
        """
        with self._state:
            self.check()
            self._handed_over += size
            self._whole = not left

    def _connected(self, opened: socket.socket) -> None:
        # urllib3's timeout applies to each write as a whole, even while that makes progress.
        opened.settimeout(None)
        super()._connected(opened)
        with self._state:
            if self._stalled:
                self.shut_down()


class _Body:
    """A file's content with the announced size; reading it fails if the upload is aborted.

    It has the methods that `requests` needs to send a body again after a redirect.
    """

    def __init__(self, file: "IO[bytes]", upload: Upload) -> None:
        self._file = file
        self._upload = upload
        self._size = self.left = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        # The file may grow or shrink during the upload, but its Content-Length has already been sent.
        data = self._file.read(self.left if size < 0 else min(size, self.left))
        if not data and self.left:
            raise _ShortenedError("the file became shorter while it was uploaded")
        if data:
            self._upload.hand_over(len(data), self.left - len(data))
            self.left -= len(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(_PIECE), b"")

    def tell(self) -> int:
        return self._size - self.left

    def seek(self, position: int) -> None:
        self._file.seek(position)
        self.left = self._size - position


def _open(path: str) -> "IO[bytes]":
    """Opens a file that may have been replaced since it was announced; never blocks on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileGoneError(type(error).__name__) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileGoneError("not a regular file any more")
    return os.fdopen(descriptor, "rb")


def _unsent(opened: socket.socket) -> int:
    """Returns how many bytes the server has not acknowledged yet; 0 where the system does not report it.

    The system accepts megabytes at once and sends them later. Sending them is progress as well.
    """
    size = array.array("i", [0])
    try:
        fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, size)
    except (OSError, ValueError):
        return 0  # closed in the meantime, or not supported by the system
    return size[0]
