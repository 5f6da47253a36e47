"""`s3_uploads`: lets the runtime upload artifacts to S3, by URLs that the user's boto3 client signs.

The protocol tells the client nothing about an upload. So whether a file arrived is asked of the bucket, afterwards. An
object counts only if it is not older than the answer to the last upload request for its key: an earlier run may have
left one. The storage's own clock decides: how old an object is, by the storage's `Date`, against the time since the
answer, by ours.

Threads: callbacks run wherever the client calls them, so a lock guards the objects; no request is sent while it is
held. Many objects are looked for by a few threads at once (`in_parallel.py`); each entry is looked for by one.
"""

import logging
import threading
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

from .._call import monotonic
from .._interrupts import raised_by_a_signal_handler
from .._wire import validation as check
from ..errors import ArtifactUploadError
from ..messages import ArtifactUploadRequestMessageInterface, directories_of
from ..results import ArtifactUploadResult
from .in_parallel import for_each
from .names import Names, PathText, content_type
from .outcome import GRACE as _GRACE
from .outcome import UploadFailure, not_arrived, wait_until_arrived

#: Seconds by which an object may seem too old: both of its times are cut to seconds, and clocks of a storage differ.
_CLOCK_SLACK = 2.0

#: The most bytes that a key may have.
_MAX_KEY = 1024

_logger = logging.getLogger("runtimeuse_sync")


@dataclass(frozen=True)
class StoredObject:
    """A file that arrived in a bucket.

    Args:
        name: Its path below its artifact directory, such as `charts/today.png`. If another file had that name already:
            the artifact directory and the path below it, or a name with a number.
        size: Its size in bytes.
        key: Its key in the bucket: the prefix and the name.
        filepath: Its path in the sandbox.
    """

    name: str
    size: int
    key: str
    filepath: str


@dataclass
class _Entry:
    name: str
    key: str
    filepath: str
    secrets: Sequence[str]
    answered_at: float
    found: Optional[StoredObject] = None
    reason: str = ""
    is_lost: bool = False


class S3Uploads:
    """An upload callback for S3; `s3_uploads` makes it. It can be used as it is, or as a context manager.

    The first upload request, or entering the context, checks that the bucket exists. When a one-shot call or a session
    ends, it looks for its files, and raises an `ArtifactUploadError` if one is missing; what the bucket does not tell
    is only logged then. Leaving the context calls `check`, which takes no doubt for an answer, unless the body of the
    context raises. Leave it after the calls have ended, or after the session has: only then are all files uploaded.

    Raises:
        ArtifactUploadError: Entering the context: the bucket does not exist. Leaving it: as `check`.
        TypeError: Entering: the client is no boto3 S3 client, as it has no `head_object`.

    Examples:
        >>> with s3_uploads(boto3.client("s3"), "reports", prefix="runs/42") as uploads:
        ...     client.query("…", artifacts_dirs=["/tmp/out"], on_artifact_upload_request=uploads)
        >>> for file in uploads.files:
        ...     print(file.name, file.size, file.key)
    """

    def __init__(self, client: Any, bucket: str, prefix: str, expires: int, working_dir: Optional[PathText]) -> None:
        if not callable(getattr(client, "generate_presigned_url", None)):
            raise TypeError(f"client must be a boto3 S3 client, not {type(client).__name__}")
        check.check_text("bucket", bucket)
        check.check_str("prefix", prefix)
        check.check_type("expires", expires, int, "a number of seconds")
        if expires <= 0:
            raise ValueError(f"expires must be more than 0 seconds, not {expires}")
        self._client = client
        self._bucket = bucket
        folder = prefix.strip("/")
        self._prefix = f"{folder}/" if folder else ""
        self._expires = expires
        self._names = Names(working_dir)
        self._entries: Dict[str, _Entry] = {}
        self._lock = threading.RLock()
        self._bucket_checked = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} s3://{self._bucket}/{self._prefix}>"

    def __enter__(self) -> "S3Uploads":
        self._check_can_look()
        self._check_bucket()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is None:
            self.check(_GRACE)

    def __call__(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        """Returns where the runtime shall upload a file.

        Args:
            request: The upload request.

        Raises:
            ArtifactUploadError: The bucket does not exist.
            ValueError: The announced path names no file.
            Exception: Whatever the client raises when it signs, such as `NoCredentialsError`.
        """
        self._check_bucket(request)
        name = self._names.name_of(request, request.filepath)
        key = self._prefix + name
        kind = content_type(request.filename)
        parameters = {"Bucket": self._bucket, "Key": key, "ContentType": kind}
        url = self._client.generate_presigned_url("put_object", Params=parameters, ExpiresIn=self._expires)
        entry = _Entry(name, key, request.filepath, directories_of(request).secrets, monotonic())
        with self._lock:
            self._entries[key] = entry
        return ArtifactUploadResult(presigned_url=url, content_type=kind)

    @property
    def files(self) -> List[StoredObject]:
        """The files that have arrived, in the order of their announcement. Asks the bucket about those not yet seen.

        Raises:
            TypeError: The client has no `head_object`.
        """
        return self._look()[0]

    @property
    def failures(self) -> List[UploadFailure]:
        """The files that have not arrived, or not yet. Asks the bucket about them.

        Raises:
            TypeError: The client has no `head_object`.
        """
        return self._look()[1]

    def check(self, timeout: float = _GRACE) -> List[StoredObject]:
        """Checks that every file is in the bucket that the runtime was told to upload, and returns them.

        Call this after the calls have ended, or after the session has: only then are all files uploaded. The client
        needs the permission to read the objects (and to list the bucket: without that, S3 answers 403 for a missing
        object).

        Args:
            timeout: Seconds that files may still take to arrive (default 5).

        Raises:
            ArtifactUploadError: Files are not there. The text says why, `filepaths` has their paths in the sandbox.
            TypeError: The client has no `head_object`, or `timeout` is no number.
            ValueError: `timeout` is negative.
        """
        return wait_until_arrived(self._look, self._not_arrived, timeout)

    def session_ended(self, requests: Sequence[ArtifactUploadRequestMessageInterface]) -> None:
        """Looks for the files of a session whose runtime says that its uploads are done; the client calls this.

        Args:
            requests: The upload requests of that session, or one-shot call.

        Raises:
            ArtifactUploadError: Files are not there. Where the bucket does not tell, this only logs a warning.
        """
        if not callable(getattr(self._client, "head_object", None)):
            return
        keys = {self._prefix + self._names.name_of(request, request.filepath) for request in requests}
        with self._lock:
            entries = [entry for key, entry in self._entries.items() if key in keys]
        _, failures = self._look(entries)
        lost = [_failure(entry) for entry in entries if entry.found is None and entry.is_lost]
        if len(lost) < len(failures):
            unknown = len(failures) - len(lost)
            _logger.warning("whether %d artifact(s) arrived is not known: the storage does not tell", unknown)
        if lost:
            raise self._not_arrived(lost)

    def _not_arrived(self, failures: Sequence[UploadFailure]) -> ArtifactUploadError:
        with self._lock:
            secrets = {secret for entry in self._entries.values() for secret in entry.secrets}
        return not_arrived(f"the bucket {self._bucket!r}", failures, secrets)

    def _check_can_look(self) -> None:
        if not callable(getattr(self._client, "head_object", None)):
            kind = type(self._client).__name__
            raise TypeError(
                f"whether files arrived can only be asked with a boto3 S3 client: {kind} has no head_object"
            )

    def _check_bucket(self, request: Optional[ArtifactUploadRequestMessageInterface] = None) -> None:
        """Raises `ArtifactUploadError` if the bucket does not exist. Any other answer does not count against it."""
        head_bucket = getattr(self._client, "head_bucket", None)
        if self._bucket_checked or not callable(head_bucket):
            return
        try:
            head_bucket(Bucket=self._bucket)
        except Exception as error:
            if not _is_of_the_storage(error):
                raise
            if _status(error) == 404:
                paths = [] if request is None else [request.filepath]
                raise ArtifactUploadError(f"the bucket {self._bucket!r} does not exist", paths) from error
            # Who may write to a bucket need not be allowed to ask about it.
            _logger.debug("could not check the bucket for artifacts: %s", _described(error))
        self._bucket_checked = True

    def _look(self, entries: Optional[Sequence[_Entry]] = None) -> Tuple[List[StoredObject], List[UploadFailure]]:
        """Returns what arrived and what did not, of all by default; asks the bucket about what was not found before."""
        self._check_can_look()
        if entries is None:
            with self._lock:
                entries = list(self._entries.values())
        for_each([entry for entry in entries if entry.found is None], self._look_for)
        found = [entry.found for entry in entries if entry.found is not None]
        return found, [_failure(entry) for entry in entries if entry.found is None]

    def _look_for(self, entry: _Entry) -> None:
        entry.is_lost = True
        if len(entry.key.encode()) > _MAX_KEY:
            entry.reason = f"its key has more than {_MAX_KEY} bytes"
            return
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=entry.key)
        except Exception as error:
            if not _is_of_the_storage(error):
                raise
            entry.is_lost = _status(error) == 404
            entry.reason = "it is not there" if entry.is_lost else f"the storage does not tell: {_described(error)}"
            return
        if _is_older(head, monotonic() - entry.answered_at):
            entry.reason = "only an older object is there"
        else:
            entry.found = StoredObject(entry.name, int(head["ContentLength"]), entry.key, entry.filepath)


def s3_uploads(
    client: Any,
    bucket: str,
    prefix: str = "",
    expires: int = 3600,
    *,
    working_dir: Optional[PathText] = None,
) -> S3Uploads:
    """Returns a callback that lets the runtime upload artifacts to S3, or to a service with the same API.

    A file's key is the prefix and the file's path below its artifact directory: with `prefix="runs/42"`, the file
    `/tmp/out/charts/today.png` becomes `runs/42/charts/today.png`. A newer version of a file replaces it. Files of the
    same relative path in different artifact directories do not: the second one gets its artifact directory into its
    key. A file in no directory that the client knows gets its whole path as key.

    The runtime does not say whether an upload worked, so at the end of a one-shot call or session the callback looks
    for its files; if one is missing, `ArtifactUploadError` is raised. As a context manager, or by `check`, it makes
    certain of all of them. `files` and `failures` list what arrived and what did not.

    Args:
        client: A boto3 S3 client. Any object with its `generate_presigned_url` will do, but with neither `head_bucket`
            nor `head_object` nothing can be checked.
        bucket: The bucket.
        prefix: The folder in the bucket, with or without a slash at its end (default: none).
        expires: The number of seconds for which an upload URL is valid (default 3600).
        working_dir: The runtime's working directory, an absolute path. Relative artifact directories start there, but
            the client does not know where that is (default `None`): it takes a relative directory to be where its name
            occurs first in a file's path, and does not recognize `.`. With `working_dir` it is certain.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value.
    """
    return S3Uploads(client, bucket, prefix, expires, working_dir)


def _failure(entry: _Entry) -> UploadFailure:
    return UploadFailure(entry.name, entry.reason, entry.filepath)


def _is_older(head: Any, elapsed: float) -> bool:
    """Returns whether an object is older than so many seconds; `False` if the storage does not say."""
    modified = head.get("LastModified")
    date = head.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not isinstance(modified, datetime) or not date:
        return False
    try:
        age = (parsedate_to_datetime(date) - modified).total_seconds()
    except (TypeError, ValueError):
        return False
    return age > elapsed + _CLOCK_SLACK


def _is_of_the_storage(error: Exception) -> bool:
    """Returns whether botocore raised an error: about the storage's answer, or because there was none."""
    if raised_by_a_signal_handler(error):
        return False
    return _status(error) is not None or type(error).__module__.partition(".")[0] == "botocore"


def _status(error: Exception) -> Optional[int]:
    """Returns the HTTP status of a storage's answer that botocore raised as an error; `None` for another error."""
    response = getattr(error, "response", None)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    return status if isinstance(status, int) else None


def _described(error: Exception) -> str:
    status = _status(error)
    return type(error).__name__ if status is None else f"HTTP status {status}"
