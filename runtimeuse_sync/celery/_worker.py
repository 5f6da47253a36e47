"""Celery's request of a task, in the worker's main process: what `revoke(terminate=True)` does there.

Celery ends a process (prefork) or a greenlet (gevent, eventlet), and with it the run. A thread cannot be ended: Celery
itself refuses. For such a pool the request notes that it is terminated and announces that the task is revoked, as for
other pools; the attempt, which runs in the same process, sees the note when it is asked next, and cancels the run.

A process that is being ended may store its progress after Celery has stored that the task is revoked. Once the process
has ended, that is put right.

Threads: the worker's main thread calls `terminate`; so does the thread of a task that was terminated before it began.
The flag `terminated` goes from `False` to `True` once, before anything is announced.
"""

import os
from typing import Any, Optional

from celery import states
from celery.concurrency.base import BasePool
from celery.exceptions import TaskRevokedError
from celery.platforms import signals
from celery.worker.request import Request


class RuntimeRequest(Request):
    """What a worker has received for a task.

    Attributes:
        runtimeuse_process: The process that received it. Only an attempt in the same one may read `terminated`.
        terminated: Whether the task has been revoked with `terminate=True` in a pool that cannot end it.
    """

    runtimeuse_process = 0
    terminated = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.runtimeuse_process = os.getpid()

    def terminate(self, pool: Any, signal: Optional[str] = None) -> None:
        """Ends the task, as far as the pool can; otherwise has its runs cancelled."""
        # Some pools have it as an attribute of their own; all others have what refuses.
        if getattr(pool.terminate_job, "__func__", None) is not BasePool.terminate_job:
            super().terminate(pool, signal)
        elif self.time_start:
            self.terminated = True
            self._announce_revoked("terminated", True, signals.signum(signal or "TERM"), False)
        else:
            # It has not begun: Celery calls this again when it does.
            self._terminate_on_ack = pool, signal

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """Handles the end of a task that has failed, or whose process has ended."""
        returned = super().on_failure(exc_info, *args, **kwargs)
        if self._already_revoked and self.store_errors:
            store_revoked(self.task.backend, self.id, self._context)
        return returned


def store_revoked(backend: Any, task_id: str, context: Any) -> None:
    """Stores that a task is revoked, if something else is stored for it."""
    if backend.get_state(task_id) != states.REVOKED:
        backend.store_result(task_id, TaskRevokedError("terminated"), states.REVOKED, request=context)
