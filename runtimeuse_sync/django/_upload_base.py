"""What all upload callbacks for storages have in common, and a file that arrived.

Threads: none of its own.
"""

import abc
from dataclasses import dataclass
from types import TracebackType
from typing import Any, List, Optional, Sequence, Type

from ..artifacts import UploadFailure
from ..artifacts.outcome import GRACE
from ..messages import ArtifactUploadRequestMessageInterface
from ..results import ArtifactUploadResult


@dataclass(frozen=True)
class StoredFile:
    """A file that arrived in a storage.

    Args:
        name: Its path below its artifact directory, such as `charts/today.png`. If another file had that name already:
            the artifact directory and the path below it, or a name with a number.
        size: Its size in bytes.
        key: Its name in the storage, for `storage.open(key)` and `storage.url(key)`.
        filepath: Its path in the sandbox.
    """

    name: str
    size: int
    key: str
    filepath: str


class StorageUploads(abc.ABC):
    """An upload callback for a storage of Django; `storage_uploads` makes it. Use it as it is, or as a context manager.

    When a one-shot call or a session ends, it looks for its files, and raises an `ArtifactUploadError` if one did not
    arrive. Leaving the context calls `check`, unless the body of the context raises. Leave it after the calls have
    ended, or after the session has: only then are all files uploaded.
    """

    storage: Any
    """The storage."""
    prefix: str
    """What the files' names in the storage begin with; empty or with a slash at its end."""

    @abc.abstractmethod
    def __call__(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """Returns where the runtime shall upload a file; to be given as `on_artifact_upload_request`.

        Args:
            request: The upload request.

        Raises:
            ValueError: The announced path names no file.
            Exception: What the cache or the storage raises.
        """

    @property
    @abc.abstractmethod
    def files(self) -> List[StoredFile]:
        """The files that have arrived, each once, in the order of their announcement."""

    @property
    @abc.abstractmethod
    def failures(self) -> List[UploadFailure]:
        """The files that have not arrived, or not yet, each with the reason as far as it is known."""

    @abc.abstractmethod
    def check(self, timeout: float = GRACE) -> List[StoredFile]:
        """Checks that every announced file is in the storage, and returns them.

        Call this after the calls have ended, or after the session has: only then are all files uploaded.

        Args:
            timeout: Seconds that files may still take to arrive (default 5).

        Raises:
            ArtifactUploadError: Files are not there. The text says why, `filepaths` has their paths in the sandbox.
            TypeError: `timeout` is no number.
            ValueError: `timeout` is negative.
        """

    @abc.abstractmethod
    def session_ended(self, requests: Sequence[ArtifactUploadRequestMessageInterface]) -> None:
        """Looks for the files of a session whose runtime says that its uploads are done; the client calls this.

        Args:
            requests: The upload requests of that session, or one-shot call.

        Raises:
            ArtifactUploadError: Files are not there. Where neither cache nor storage tells, this only logs a warning.
        """

    def callback(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """Does, and returns, what calling the object does.

        Args:
            request: The upload request.
        """
        return self(request)

    def __enter__(self) -> "StorageUploads":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is None:
            self.check(GRACE)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {type(self.storage).__name__} {self.prefix!r}>"
