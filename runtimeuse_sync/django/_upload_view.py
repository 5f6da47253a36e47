"""The view that receives uploads, by PUT to the URLs that `storage_uploads` has signed.

A file is received whole into a temporary file, in pieces, and only then given to the storage: a storage that keeps
local files moves it, and what was broken off is never seen. The ticket is used up when the file is given to the
storage, and given back if that fails, so that a runtime may repeat an upload that failed.

Threads: the view runs in the server's threads, in any process of the site.
"""

import errno
import os
import time
from typing import Any

from django.core import signing
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db.transaction import non_atomic_requests
from django.http import HttpResponse, HttpResponseNotAllowed
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from ..artifacts import content_type
from ._upload_storages import storage_of
from ._upload_tickets import PARAMETER, Records, Ticket

_CHUNK = 64 * 1024

#: No file is so large that its size has more digits.
_MAX_DIGITS = 18

#: The HTTP status for an error of the file system. A file and a directory of the same name are a conflict (409).
_REFUSALS = {
    errno.EEXIST: 409,
    errno.ENOTDIR: 409,
    errno.EISDIR: 409,
    errno.ENOTEMPTY: 409,
    errno.ENAMETOOLONG: 400,
    errno.ENOSPC: 507,
}


def receive(request: Any) -> HttpResponse:
    """Receives one file. The signed ticket in the URL is all the permission that it needs.

    Returns:
        200: The file is stored. 400: It was broken off, or no file can have its name. 403: There is no ticket, or not
        one of ours. 405: It was no PUT. 409: A file or folder is in the way. 410: The ticket was used, or is too old.
        411: The length is missing. 413: It is too large. 507: The disk is full. 500: The storage failed.
    """
    if request.method != "PUT":
        return HttpResponseNotAllowed(["PUT"])
    try:
        ticket = Ticket.read(request.GET.get(PARAMETER, ""))
    except signing.BadSignature:
        return _answer(403, "this is no upload URL of this site")
    records = Records(ticket.cache, ticket.uploads, ticket.until - time.time())
    if ticket.until < time.time():
        return _refusal(records, ticket, 410, "the upload URL was used too late")
    if records.is_used(ticket):
        return _answer(410, "this upload URL was used before")
    length = request.META.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS):
        return _refusal(records, ticket, 411, "the upload had no Content-Length")
    if int(length) > ticket.max_size:
        return _refusal(records, ticket, 413, f"it has {length} bytes, and {ticket.max_size} are allowed")
    with TemporaryUploadedFile("artifact", content_type(ticket.key), 0, None) as received:
        try:
            received.size = _copy(request, int(length), received)
        except OSError as error:
            return _refused_by_the_system(records, ticket, error)
        if received.size < int(length):
            reason = f"the upload was broken off after {received.size} of {length} bytes"
            return _refusal(records, ticket, 400, reason)
        return _keep(records, ticket, received)


#: The view. It keeps no transaction open for as long as an upload takes.
upload: Any = csrf_exempt(never_cache(non_atomic_requests(receive)))
# Who uploads is no user who could log in (`LoginRequiredMiddleware`).
upload.login_required = False


def _copy(request: Any, length: int, received: Any) -> int:
    """Copies the body of a request; returns how much of it came.

    Raises:
        OSError: It cannot be written.
    """
    size = 0
    while size < length:
        try:
            data = request.read(min(_CHUNK, length - size))
        except OSError:
            break  # The sender is gone.
        if not data:
            break
        received.write(data)
        size += len(data)
    received.flush()
    received.seek(0)
    return size


def _keep(records: Records, ticket: Ticket, received: Any) -> HttpResponse:
    if not records.use(ticket):
        return _answer(410, "this upload URL was used before")
    try:
        if not records.is_replaced(ticket):
            size = received.size
            records.stored(ticket, _store(storage_of(ticket, records), ticket.key, received), size)
        return _answer(200, "")
    except OSError as error:
        records.give_back(ticket)
        return _refused_by_the_system(records, ticket, error)
    except SuspiciousFileOperation:
        records.give_back(ticket)
        return _refusal(records, ticket, 400, "the storage allows no file of this name")
    except BaseException as error:
        records.give_back(ticket)
        records.failed(ticket, f"the storage failed: {type(error).__name__}")
        raise


def _store(storage: Any, key: str, received: Any) -> str:
    """Stores a file in place of an older one; returns its name in the storage."""
    if isinstance(storage, FileSystemStorage):
        saved = storage.save(key, received)
        if saved != key:
            # Whoever reads the older file goes on reading it.
            try:
                os.replace(storage.path(saved), storage.path(key))
            except OSError:
                storage.delete(saved)
                raise
        return key
    if storage.exists(key):
        storage.delete(key)
    saved = storage.save(key, received)
    return str(saved)


def _refused_by_the_system(records: Records, ticket: Ticket, error: OSError) -> HttpResponse:
    # Django raises some without a number.
    number = errno.EEXIST if isinstance(error, FileExistsError) else error.errno
    status = _REFUSALS.get(number or 0, 500)
    in_the_way = "a file or directory of that name is in the way"
    return _refusal(records, ticket, status, in_the_way if status == 409 else error.strerror or type(error).__name__)


def _refusal(records: Records, ticket: Ticket, status: int, reason: str) -> HttpResponse:
    records.failed(ticket, reason)
    return _answer(status, reason)


def _answer(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
