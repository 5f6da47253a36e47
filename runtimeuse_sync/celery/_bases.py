"""The classes of Celery that this package's classes inherit from.

Celery has no types. For type checkers these have what is used of them here, and whatever else they are asked for, so
that the types of what inherits from them are known.

Threads: none of its own.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class AbortableAsyncResult:
        """`celery.contrib.abortable.AbortableAsyncResult`."""

        id: str

        def __init__(self, task_id: str, **kwargs: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

        def ready(self) -> bool:
            """Returns whether the task has ended."""

        def abort(self) -> Any:
            """Has the task aborted."""

    class AbortableTask:
        """`celery.contrib.abortable.AbortableTask`."""

        name: str
        run: Any
        request: Any

        def __getattr__(self, name: str) -> Any: ...

        @classmethod
        def _get_app(cls) -> Any: ...

        def retry(self, *args: Any, **kwargs: Any) -> Any:
            """Sends the task once more."""

else:
    from celery.contrib.abortable import AbortableAsyncResult, AbortableTask

__all__ = ["AbortableAsyncResult", "AbortableTask"]
