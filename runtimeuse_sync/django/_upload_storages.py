"""Which storage an upload goes into, told by one process and found by another.

Of a storage in `STORAGES`, its alias goes into the URL. Of another one, the cache has how to make it
(`deconstruct`, which Django's own storages have), and the process that made the callback has the object itself.

Threads: any. Storages are shared by threads, as Django shares them.
"""

import weakref
from typing import Any, Tuple

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, Storage, storages
from django.utils.functional import LazyObject
from django.utils.module_loading import import_string

from ._upload_tickets import Records, Ticket

#: The storages without an alias that callbacks of this process use, by callback.
_known: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()


def resolved(storage: Any) -> Tuple[Any, str]:
    """Returns the storage that an argument means, and its alias; an empty one if it has none.

    Raises:
        TypeError: It is neither a storage nor an alias.
        InvalidStorageError: There is no such alias.
    """
    if isinstance(storage, str):
        return storages[storage], storage
    if isinstance(storage, LazyObject):
        bool(storage)  # It is made with its first use.
        storage = storage.__dict__["_wrapped"]
    if not isinstance(storage, Storage):
        raise TypeError(f"storage must be a storage or the alias of one, not {type(storage).__name__}")
    for alias in storages.backends:
        try:
            known = storages[alias]
        except (InvalidStorageError, ImproperlyConfigured):
            continue  # Another one than this, as this one could be made.
        if known is storage:
            return storage, alias
    return storage, ""


def publish(storage: Any, uploads: str, records: Records) -> None:
    """Lets other processes, and this one, find a storage without an alias.

    Raises:
        ValueError: Another process could not make this storage.
    """
    deconstruct = getattr(storage, "deconstruct", None)
    try:
        if deconstruct is None:
            raise ValueError("it has no deconstruct()")
        path, arguments, keywords = deconstruct()
        import_string(path)
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"storage is a {type(storage).__name__} that other processes cannot find ({error}): name it in STORAGES, "
            "and pass its alias"
        ) from error
    _known[uploads] = storage
    records.set_storage((path, arguments, keywords))


def storage_of(ticket: Ticket, records: Records) -> Any:
    """Returns the storage of a ticket.

    Raises:
        LookupError: It is not known here.
    """
    if ticket.storage:
        return storages[ticket.storage]
    known = _known.get(ticket.uploads)
    if known is not None:
        return known
    made_by = records.storage()
    if made_by is None:
        raise LookupError("the storage is not in the cache: it is named neither in STORAGES nor in a shared cache")
    path, arguments, keywords = made_by
    return import_string(path)(*arguments, **keywords)
