"""`storage_uploads`: artifacts go into a storage of Django, through this site or, where it is in S3, directly.

Threads: none of its own.
"""

from typing import Any, Optional
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import default_storage
from django.urls import NoReverseMatch, reverse

from .._wire import validation as check
from ..artifacts.names import Names, PathText
from ._upload_base import StorageUploads
from ._upload_direct import DirectUploads
from ._upload_s3 import S3StorageUploads
from ._upload_storages import resolved

#: The largest file, in bytes, by default.
MAX_SIZE = 1024 * 1024 * 1024


def storage_uploads(
    request: Any,
    storage: Any = default_storage,
    prefix: str = "",
    *,
    max_size: int = MAX_SIZE,
    expires: float = 3600.0,
    working_dir: Optional[PathText] = None,
    cache: str = "default",
) -> StorageUploads:
    """Returns an upload callback whose files go into a storage of Django.

    The runtime uploads each file to a URL of this app on the request's own host. So your URLs have to include
    `runtimeuse_sync.django.urls`, the runtime has to reach the site, and while a request waits for a run, the site has
    to answer others. A URL is signed, can be used once, and takes a PUT of one file, whose name and greatest size are
    signed, too. It needs no login and no CSRF token.

    A file's name in the storage is the prefix and its path below its artifact directory. It is stored whole or not at
    all, and a newer version replaces it. Files of the same relative path in different artifact directories do not: the
    second one gets its artifact directory into its name. No name leads out of the prefix.

    A storage in S3 (`django-storages`, or any with boto3's `bucket` and `connection`) gets its files directly, by
    presigned URLs. `max_size` is not enforced there, and none of this app's URLs is needed.

    Args:
        request: The request, for the scheme and host of the URLs; or a base URL, such as `"https://example.com"`, where
            there is no request, or where the runtime reaches the site under another name.
        storage: The storage, or its alias in `STORAGES` (default: the default storage).
        prefix: The folder in the storage, with or without a slash at its end (default: none).
        max_size: The largest file, in bytes (default 1 GiB).
        expires: Seconds for which a URL can be used (default 3600).
        working_dir: The runtime's working directory, an absolute path, where relative artifact directories start
            (default: not known).
        cache: The alias of the cache, in `CACHES`, that knows which URLs were used and what became of them (default
            `"default"`). All processes have to share it: a cache in memory serves one process only.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value: a prefix with `..`, say, or a storage that other processes cannot
            find.
        ImproperlyConfigured: Your URLs do not include those of this app.
        InvalidStorageError: There is no such storage.
        InvalidCacheBackendError: There is no such cache.

    Examples:
        >>> uploads = storage_uploads(request, prefix=f"runs/{run.pk}")
        >>> get_client().query(prompt, artifacts_dirs=["/tmp/out"], on_artifact_upload_request=uploads)
        >>> for file in uploads.files:
        ...     print(file.name, file.size, uploads.storage.url(file.key))
    """
    folder = _folder(prefix)
    check.check_size("max_size", max_size)
    check.check_interval("expires", expires)
    check.check_text("cache", cache)
    found, alias = resolved(storage)
    # In this order: other storages have a bucket, too, which they look for when it is asked for.
    if hasattr(found, "connection") and hasattr(found, "bucket"):
        return S3StorageUploads(found, folder, max(int(expires), 1), working_dir)
    return DirectUploads(_url(request), found, alias, folder, max_size, expires, cache, Names(working_dir))


def _folder(prefix: str) -> str:
    check.check_str("prefix", prefix)
    parts = [part for part in prefix.split("/") if part]
    if "\\" in prefix or any(part in (".", "..") for part in parts):
        raise ValueError(f"prefix must be a plain path, without '.', '..' and backslashes, not {prefix!r}")
    return "".join(f"{part}/" for part in parts)


def _url(request: Any) -> str:
    try:
        path = reverse("runtimeuse:upload")
    except NoReverseMatch as error:
        raise ImproperlyConfigured(
            "storage_uploads needs the URLs of this app: add "
            'path("runtimeuse/", include("runtimeuse_sync.django.urls")) to your urlpatterns'
        ) from error
    if isinstance(request, str):
        base = urlsplit(request)
        if base.scheme not in ("http", "https") or not base.netloc or base.query or base.fragment:
            raise ValueError("request must be a request, or a base URL such as 'https://example.com'")
        return f"{base.scheme}://{base.netloc}{path}"
    build = getattr(request, "build_absolute_uri", None)
    if not callable(build):
        raise TypeError(f"request must be a request or a base URL (str), not {type(request).__name__}")
    return str(build(path))
