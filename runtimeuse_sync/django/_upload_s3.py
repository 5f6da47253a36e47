"""`storage_uploads` for a storage that keeps its files in S3: the runtime uploads to S3 directly.

It is `s3_uploads` with the storage's own client, bucket and location. How that learns what arrived, `artifacts/s3.py`
says.

Threads: as `s3_uploads`.
"""

from typing import Any, List, Optional, Sequence

from ..artifacts import UploadFailure, s3_uploads
from ..artifacts.names import PathText
from ..artifacts.outcome import GRACE
from ..messages import ArtifactUploadRequestMessageInterface
from ..results import ArtifactUploadResult
from ._upload_base import StorageUploads, StoredFile


class S3StorageUploads(StorageUploads):
    """Uploads to S3, past this site.

    Args:
        storage: A storage with boto3's `bucket` and `connection`.
        prefix: The folder in the storage, empty or with a slash at its end.
        expires: Seconds for which a URL can be used.
        working_dir: The runtime's working directory; `None` if it is not known.
    """

    def __init__(self, storage: Any, prefix: str, expires: int, working_dir: Optional[PathText]) -> None:
        self.storage = storage
        self.prefix = prefix
        location = str(getattr(storage, "location", "") or "").strip("/")
        self._location = f"{location}/" if location else ""
        client, bucket = storage.connection.meta.client, storage.bucket.name
        self._uploads = s3_uploads(client, bucket, self._location + prefix, expires, working_dir=working_dir)

    def __call__(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        return self._uploads(request)

    @property
    def files(self) -> List[StoredFile]:
        """The files that have arrived."""
        return self._in_the_storage(self._uploads.files)

    @property
    def failures(self) -> List[UploadFailure]:
        """The files that have not arrived."""
        return self._uploads.failures

    def check(self, timeout: float = GRACE) -> List[StoredFile]:
        """Checks that every announced file is in the storage, and returns them."""
        return self._in_the_storage(self._uploads.check(timeout))

    def session_ended(self, requests: Sequence[ArtifactUploadRequestMessageInterface]) -> None:
        """Looks for the files of a session that has ended."""
        self._uploads.session_ended(requests)

    def __enter__(self) -> "S3StorageUploads":
        self._uploads.__enter__()
        return self

    def _in_the_storage(self, files: Sequence[Any]) -> List[StoredFile]:
        # The storage puts its location before each name.
        start = len(self._location)
        return [StoredFile(file.name, file.size, file.key[start:], file.filepath) for file in files]
