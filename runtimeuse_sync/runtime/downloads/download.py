"""Fetches what a request wants in place before its work begins.

One worker thread (`runtimeuse-download`) at a time per request, started and waited for by the request's task.
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

#: What unfinished files are called; artifacts never are.
PARTIAL_PREFIX, PARTIAL_SUFFIX = ".runtimeuse-", ".part"


async def download(url: str, working_dir: str, settings: RuntimeSettings, workers: Workers) -> None:
    """Fetches a file into `working_dir`, or what a zip archive holds.

    Raises:
        RequestFailedError: it cannot be fetched, or not be extracted.
        OSError: it cannot be written.
        ImportError: `requests` is not installed.
    """
    transfer = Transfer()
    await workers.run(
        "runtimeuse-download", _fetch, url, settings.path(working_dir), transfer, settings, on_cancel=transfer.abort
    )


def file_name(url: str) -> str:
    """Returns the name that a download is saved under.

    Raises:
        RequestFailedError: the URL is no HTTP URL, or its path does not end in a name.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise RequestFailedError("Download failed: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise RequestFailedError("Download failed: not an http or https URL")
    name = unquote(parts.path.rpartition("/")[2])
    # Decoding may bring separators to light: a name must not lead out of its directory.
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
                # As it is: what a server compresses on the way is only harder to take for whole.
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
            # A URL that only shows to be none when it is used, or was redirected to, is a `ValueError` of any library.
            except (requests.RequestException, urllib3.exceptions.HTTPError, zlib.error, ValueError) as error:
                transfer.check()
                if isinstance(error, BodyCutError):
                    raise RequestFailedError(f"Download failed: {error} from {mask_url(url)}") from None
                # Without the cause: its text has the whole URL, and URLs are signed.
                raise RequestFailedError(f"Download failed: {type(error).__name__} at {mask_url(url)}") from None
        if name.lower().endswith(".zip"):
            _extract(partial, directory, transfer, settings.max_download_size)
        else:
            # A temporary file is its owner's alone; a saved one is as any other program would have made it.
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
    """Returns the process's umask, which elsewhere can only be read by changing it for a moment."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022
