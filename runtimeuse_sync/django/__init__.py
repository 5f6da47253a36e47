"""The Django app, with the extra `[django]`: `INSTALLED_APPS = [..., "runtimeuse_sync.django"]`.

In a project::

    # settings.py
    RUNTIMEUSE = {"default": {"WS_URL": "ws://localhost:8080", "MODEL": "gpt-4.1", "TIMEOUT": 300}}

    # views.py
    from runtimeuse_sync.django import get_client


    def answer(request):
        return HttpResponse(get_client().query(request.POST["question"]).text)

`docs/django.md` is the guide. `_settings.py` turns settings into a client's arguments, `_clients.py` keeps one client a
process and alias, and `checks.py` tells at start what is wrong. `_event_stream.py` sends a run to a browser,
`_cancelling.py` cancels it from elsewhere, `_uploads.py` with `_upload_view.py` receives its artifacts, and
`_testing.py` is for tests. The modules are private because some have the names of what is in them. In all of them,
`django` is the installed package, not this one.

A name is imported with its first use, so that nothing of Django is imported before its settings are there.

Threads: importing the package starts none.
"""

import importlib
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from ._cancelling import Cancellable, cancellable, request_cancel
    from ._clients import get_client
    from ._event_stream import event_stream
    from ._testing import RuntimeUseTestMixin
    from ._upload_base import StorageUploads, StoredFile
    from ._uploads import storage_uploads
else:

    def __getattr__(name: str) -> Any:
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            found = getattr(importlib.import_module(f".{module}", __name__), name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".", maxsplit=1)[0] not in ("django", "asgiref"):
                raise
            raise ImportError(
                f"the Django app needs the module {error.name!r}, which is not installed: "
                'pip install "runtimeuse-sync[django]"',
                name=error.name,
            ) from error
        # A test may have put something else in its place already.
        return globals().setdefault(name, found)

    def __dir__() -> List[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Cancellable",
    "RuntimeUseTestMixin",
    "StorageUploads",
    "StoredFile",
    "cancellable",
    "event_stream",
    "get_client",
    "request_cancel",
    "storage_uploads",
]

#: Which module each name is from.
_MODULES = {
    "Cancellable": "_cancelling",
    "RuntimeUseTestMixin": "_testing",
    "StorageUploads": "_upload_base",
    "StoredFile": "_upload_base",
    "cancellable": "_cancelling",
    "event_stream": "_event_stream",
    "get_client": "_clients",
    "request_cancel": "_cancelling",
    "storage_uploads": "_uploads",
}
