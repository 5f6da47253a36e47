"""`storage_uploads`: artifacts go into a storage of Django, by one-time URLs of this app.

Threads: the callback runs wherever the client calls it, the view in the server's threads.
"""

from types import TracebackType
from typing import Any, List, Optional, Type

from ..artifacts import UploadFailure
from ..messages import ArtifactUploadRequestMessageInterface
from ..results import ArtifactUploadResult

#: The largest file, in bytes, by default.
MAX_SIZE = 1024 * 1024 * 1024


class StorageUploads:
    """Receives artifacts into a storage: an upload callback, and what arrived. `storage_uploads` makes it."""

    @property
    def files(self) -> List[Any]:
        """The files that arrived, each once, in the order of their announcement: `name`, `size`, `key`, `filepath`."""
        raise NotImplementedError

    @property
    def failures(self) -> List[UploadFailure]:
        """The files whose last upload failed or has not come."""
        raise NotImplementedError

    def callback(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """Returns where the runtime shall upload a file; to be given as `on_artifact_upload_request`."""
        raise NotImplementedError

    __call__ = callback

    def __enter__(self) -> "StorageUploads":
        raise NotImplementedError

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        raise NotImplementedError


def storage_uploads(
    request: Any, storage: Any = None, prefix: str = "", *, max_size: int = MAX_SIZE, expires: float = 3600.0
) -> StorageUploads:
    """Returns an upload callback whose files go into a storage of Django.

        uploads = storage_uploads(request, prefix=f"runs/{run.pk}")
        client.query("…", artifacts_dirs=["/tmp/out"], on_artifact_upload_request=uploads)
        for file in uploads.files:
            print(file.name, file.size, uploads.storage.url(file.key))

    The runtime uploads each file to a URL of this app, below the request's own host: so `runtimeuse_sync.django.urls`
    has to be included in your URLs, and the runtime has to reach the site. A storage that keeps its files in S3 gets
    them directly, by presigned URLs.

    Args:
        request: The request, for the site's scheme and host; or its base URL, such as `"https://example.com"`, where
            there is no request.
        storage: The storage: an instance, or an alias of `STORAGES` (default: the default storage).
        prefix: What names in the storage begin with, as a folder. No file's name leads out of it.
        max_size: The largest file, in bytes (default 1 GiB).
        expires: Seconds for which a URL can be used (default 3600).
    """
    raise NotImplementedError
