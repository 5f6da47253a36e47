"""One upload: a PUT of a file, tried again where that may help, watched for progress, and given up without harm.

An `Upload` is put in one worker thread (`runtimeuse-upload`), and watched, superseded and aborted from the event loop.

Given up for a newer version of its file, it must not arrive after that one. So it is broken off only as long as some of
the file has not been handed over: without that, no storage takes it. Once all has been handed over, the storage's
answer is waited for, since nothing else says that the storage is done with it.
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
#: How many of them may end for want of progress: each takes its whole time, and the end of a session waits for it.
_STALLED_TRIES = 2
_RETRIED_STATUS = frozenset((408, 429))
#: What a file cannot be opened for now, and perhaps a moment later.
_RETRIED_ERRNOS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
#: How much of a file is read at a time where nothing else says so, in bytes.
_PIECE = 64 * 1024

#: What tells one state of an upload from a later one: the try, what of the file was handed over, what is not yet sent.
Progress = Tuple[int, int, int]


class UploadError(Exception):
    """An upload failed for good, and why."""


class FileGoneError(UploadError):
    """There is no such file any more, and so nothing to upload."""


class _ShortenedError(OSError):
    """The file became shorter while it was uploaded."""


class Upload(Transfer):
    """The upload of one version of a file.

    Args:
        path: The file.
        response: Where it goes, and as what.
    """

    def __init__(self, path: str, response: UploadResponse) -> None:
        super().__init__()
        self.path = path
        self.response = response
        self.superseded = False
        self._try = 0
        self._handed_over = 0
        # Guards what follows: whether all of the file was handed over, and whether the try was found to be stalled.
        self._state = threading.Lock()
        self._whole = False
        self._stalled = False

    # For the event loop.

    @property
    def progress(self) -> Progress:
        """How far it has come: as long as this changes, it goes on."""
        return (self._try, self._handed_over, sum(map(_unsent, self.open_sockets())))

    def supersede(self) -> None:
        """Gives it up for a newer version of its file; see above for when that ends it."""
        with self._state:
            self.superseded = True
            if self._whole:
                return
            self.abort()

    def break_off(self, progress: Progress) -> None:
        """Ends the try under way, which has made no progress since `progress`; perhaps there is another one."""
        with self._state:
            if progress[0] != self._try:
                return
            self._stalled = True
            self.shut_down()

    # For the worker thread.

    def put(self, settings: RuntimeSettings) -> None:
        """Uploads the file.

        Raises:
            UploadError: it failed.
            FileGoneError: the file is gone.
            TransferAbortedError: it was aborted, or given up for a newer version.
            OSError: the file cannot be read.
            ValueError: the URL is none that can be used.
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
                    # From here to the next answer, it can be broken off again.
                    self._whole = False
                    if self.superseded:
                        raise TransferAbortedError
                self.pause(delay)
                delay *= 2
        raise UploadError(failure)

    def _put_once(self, session: "requests.Session", settings: RuntimeSettings) -> Tuple[str, bool]:
        """Returns why the try failed, nothing if it did not, and whether another one is of no use."""
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
                    # An empty body with a `read` would be sent in chunks, which storages refuse.
                    data=body if len(body) else b"",
                    headers={"Content-Type": self.response.content_type},
                    # Of the answer, only its status is of interest.
                    stream=True,
                    # The rest has no limit of its own: who makes no progress is broken off.
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
        """Notes that a piece of the file is about to be sent; raises `TransferAbortedError` if it must not be."""
        with self._state:
            self.check()
            self._handed_over += size
            self._whole = not left

    def _connected(self, opened: socket.socket) -> None:
        # urllib3's limit is one for all that is sent at once, however well that goes on.
        opened.settimeout(None)
        super()._connected(opened)
        with self._state:
            if self._stalled:
                self.shut_down()


class _Body:
    """A file's content, of the size that was promised, given up when the upload is aborted.

    It has what `requests` wants of a body to send it anew after a redirect.
    """

    def __init__(self, file: "IO[bytes]", upload: Upload) -> None:
        self._file = file
        self._upload = upload
        self._size = self.left = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        # The file may grow or shrink under the upload, but the Content-Length has been said.
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
    """Opens a file that may have been replaced by anything since it was announced; a pipe is not waited on."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileGoneError(type(error).__name__) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileGoneError("it is no file any more")
    return os.fdopen(descriptor, "rb")


def _unsent(opened: socket.socket) -> int:
    """Returns how many bytes the other side has not yet taken; 0 where the system does not say.

    It may take megabytes at once from who sends, and much longer to get rid of them: that is progress, too.
    """
    size = array.array("i", [0])
    try:
        fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, size)
    except (OSError, ValueError):
        return 0  # closed meanwhile, or a system without it
    return size[0]
