"""Fetches the files that a request needs before its work begins.

Threads: each download runs in a worker thread (`runtimeuse-download`). A request's task starts one at a time and waits
for it.
"""

import http
import os
import tempfile
import zlib
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..._wire.urls import mask_url
from ..extras import needs_extra
from ..failures import RequestFailedError
from ..http_transfer import Transfer
from ..settings import RuntimeSettings
from ..workers import Workers
from .archives import ArchiveError, extract
from .http_body import BodyCutError, announced_length, whole_body

if TYPE_CHECKING:
    import requests

#: The prefix and suffix of unfinished files, which are never artifacts.
PARTIAL_PREFIX, PARTIAL_SUFFIX = ".runtimeuse-", ".part"


async def download(url: str, working_dir: str, settings: RuntimeSettings, workers: Workers) -> None:
    """Fetches a file into a directory; extracts a zip archive there.

    Args:
        url: The file's URL.
        working_dir: The directory, created if missing.
        settings: The runtime's settings.
        workers: Runs the download.

    Raises:
        RequestFailedError: the file cannot be fetched or extracted.
        OSError: the file cannot be written.
        ImportError: `requests` is not installed.
    """
    transfer = Transfer()
    await workers.run(
        "runtimeuse-download", _fetch, url, settings.path(working_dir), transfer, settings, on_cancel=transfer.abort
    )


def file_name(url: str) -> str:
    """Returns the file name of a download.

    Raises:
        RequestFailedError: the URL is not an HTTP URL, or its path does not end in a file name.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise RequestFailedError("Download failed: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise RequestFailedError("Download failed: not an http or https URL")
    name = unquote(parts.path.rpartition("/")[2])
    # Decoding may produce separators; the name must not lead out of its directory.
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise RequestFailedError(f"Download failed: {mask_url(url)} has no usable file name")
    return name


def _fetch(url: str, directory: str, transfer: Transfer, settings: RuntimeSettings) -> None:
    with needs_extra():
        import requests
        import urllib3

    name = file_name(url)
    os.makedirs(directory, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(PARTIAL_SUFFIX, PARTIAL_PREFIX, directory)
    try:
        with os.fdopen(descriptor, "wb") as file, transfer.open_session() as session:
            try:
                # Uncompressed: a compressed body is harder to check for completeness.
                plain = {"Accept-Encoding": "identity"}
                with session.get(url, headers=plain, stream=True, timeout=settings.http_timeout) as response:
                    _check_status(response)
                    _check_size(announced_length(response) or 0, settings)
                    size = 0
                    for chunk in whole_body(response):
                        transfer.check()
                        size += len(chunk)
                        _check_size(size, settings)
                        file.write(chunk)
            # An invalid URL, or a redirect to one, may be detected late, as a `ValueError` of any library.
            except (requests.RequestException, urllib3.exceptions.HTTPError, zlib.error, ValueError) as error:
                transfer.check()
                if isinstance(error, BodyCutError):
                    raise RequestFailedError(f"Download failed: {error} from {mask_url(url)}") from None
                # Without the cause: its text contains the whole URL, with its signature.
                raise RequestFailedError(f"Download failed: {type(error).__name__} at {mask_url(url)}") from None
        if name.lower().endswith(".zip"):
            _extract(partial, directory, transfer, settings.max_download_size)
        else:
            # Temporary files are private to their owner; the saved file gets the usual permissions.
            os.chmod(partial, 0o666 & ~_umask())
            os.replace(partial, os.path.join(directory, name))
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def _check_status(response: "requests.Response") -> None:
    if not 200 <= response.status_code < 300:
        try:
            reason = http.HTTPStatus(response.status_code).phrase
        except ValueError:
            reason = response.reason or ""
        raise RequestFailedError(f"Download failed: {response.status_code} {reason}".rstrip())


def _check_size(size: int, settings: RuntimeSettings) -> None:
    if size > settings.max_download_size:
        raise RequestFailedError(f"Download failed: larger than the limit of {settings.max_download_size} bytes")


def _extract(archive: str, directory: str, transfer: Transfer, max_size: int) -> None:
    try:
        extract(archive, directory, transfer.check, max_size)
    except ArchiveError as error:
        raise RequestFailedError(f"Download failed: {error}") from error


def _umask() -> int:
    """Returns the process's umask; without /proc, which is the only way to read it without changing it, the default."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022
