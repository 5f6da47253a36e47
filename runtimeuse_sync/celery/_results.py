"""What the sender of a task holds: its result, which can abort the task, and results made again from their JSON.

Celery has one place for the state of a task. A progress that is stored just after `abort` would undo it. So `abort`
also leaves a mark, under a name of its own, before it stores the state; the task looks for that after it has stored a
progress, and when it begins.

Threads: nothing is shared but what the result backend stores.
"""

from typing import Any, Mapping, Union

from celery.contrib.abortable import ABORTED

from .._wire.error_format import result_of
from .._wire.validation import check_type
from ..results import CommandExecutionResult, CommandResultItem, QueryResult
from ._bases import AbortableAsyncResult


class RuntimeResult(AbortableAsyncResult):
    """The result of a `RuntimeTask`: what `delay` and `apply_async` return, and `task.AsyncResult(id)`.

    It is Celery's `AsyncResult`, and also has `abort`: the task's run is cancelled on the runtime, in every pool within
    about a second, and the task fails with `CancelledException`. A task that has not begun sends nothing.
    """

    def abort(self) -> Any:
        """Has the task cancelled. Returns at once, and has no effect on a task that has ended."""
        if self.ready():
            return None
        self.backend.store_result(mark_of(self.id), None, ABORTED)
        return super().abort()


def mark_of(task_id: str) -> str:
    """Returns the name under which `abort` leaves its mark."""
    return f"{task_id}.aborted"


def result_from_json(value: Any) -> Union[QueryResult, CommandExecutionResult, CommandResultItem]:
    """Returns the result that a task has returned, from what Celery's JSON has made of it.

    A task that returns a `QueryResult`, a `CommandExecutionResult` or a `CommandResultItem` has its fields, a dict, as
    its result.

    Args:
        value: The dict, such as `result_from_json(task.delay("hi").get())`. A result is returned as it is: that of an
            eager task, or with a serializer other than JSON.

    Raises:
        TypeError: The value is not a dict.
        ValueError: It has not the fields of one of these results.
    """
    if isinstance(value, (QueryResult, CommandExecutionResult, CommandResultItem)):
        return value
    check_type("value", value, Mapping, "the fields of a result")
    made = result_of(value)
    if isinstance(made, (QueryResult, CommandExecutionResult)):
        return made
    if {"command", "exit_code"} <= set(value):
        return CommandResultItem.from_dict(value)
    raise ValueError(f"value has not the fields of a result, but {', '.join(map(repr, value)) or 'none'}")
