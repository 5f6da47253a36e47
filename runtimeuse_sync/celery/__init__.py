"""Tasks of Celery that talk to the runtime, with the extra `[celery]`.

For example::

    from runtimeuse_sync.celery import RuntimeTask

    app.conf.runtimeuse = {"ws_url": "ws://localhost:8080", "model": "gpt-4.1"}


    @app.task(base=RuntimeTask, bind=True)
    def summarise(self, text):
        return self.client.query(f"Summarise: {text}")

What is what::

    _task       `RuntimeTask`: what users set and call, and which failures Celery may retry by itself
    _attempt    one execution of a task: what it has sent, whether it has to end, its progress
    _clients    the one client of a worker process, made of Celery's configuration; its runs belong to attempts
    _worker     Celery's request of a task, in the worker's main process: `revoke(terminate=True)` in every pool
    _results    what the sender of a task holds: `abort`, and results from their JSON

In these modules `celery` is the package of that name, not this one.

Threads: a task runs in the thread, greenlet or process that its pool gives it; an attempt belongs to that. The worker's
main thread only sets the flag of a request that is revoked.
"""

try:
    from ._results import RuntimeResult, result_from_json
    from ._task import RuntimeTask
except ModuleNotFoundError as _error:
    if (_error.name or "").split(".", maxsplit=1)[0] not in ("celery", "kombu", "billiard", "vine"):
        raise
    raise ImportError(
        f"tasks of Celery need the module {_error.name!r}, which is not installed: "
        'pip install "runtimeuse-sync[celery]"',
        name=_error.name,
    ) from _error

# Celery makes an error again from its JSON only where its class has been imported: these are imported late otherwise.
from ..batch import JobError as _JobError  # noqa: F401
from ..files import errors as _errors  # noqa: F401

__all__ = ["RuntimeResult", "RuntimeTask", "result_from_json"]
