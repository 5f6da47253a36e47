"""Ready-made upload callbacks for `on_artifact_upload_request`, which tell what arrived and what did not.

`s3_uploads` signs URLs with the user's boto3 client. `UploadDirectory` receives the files itself, over HTTP, from a
runtime on the same machine. Both name a file by its path below its artifact directory. `docs/artifacts.md` shows how to
use them, and how to write others.
"""

from .._wire.artifact_paths import relative_path
from .directory import UploadDirectory
from .ledger import ReceivedFile
from .names import content_type
from .outcome import UploadFailure
from .s3 import S3Uploads, StoredObject, s3_uploads

__all__ = [
    "ReceivedFile",
    "S3Uploads",
    "StoredObject",
    "UploadDirectory",
    "UploadFailure",
    "content_type",
    "relative_path",
    "s3_uploads",
]
