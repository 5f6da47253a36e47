"""Executes tasks as a worker does, in the test's own thread, with broker and result backend in memory."""

from __future__ import annotations

import itertools
import json
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Type

import kombu.pools
from celery import Celery
from celery.app.trace import build_tracer
from celery.backends.cache import _DUMMY_CLIENT_CACHE

from runtimeuse_sync.celery import RuntimeResult, RuntimeTask
from runtimeuse_sync.testing import FakeRuntime

from ...support.threads import when

_numbers = itertools.count(1)


class Clock:
    """The clock of attempts, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(self: Any, interval: float = 0.01) -> str:
    """The body of a task that asks the agent."""
    text: str = self.client.query("hi", cancel_poll_interval=interval).text
    return text


class Bench:
    """An application, and a runtime in memory that its tasks talk to.

    Attributes:
        app: The application.
        fake: The runtime.
    """

    def __init__(self) -> None:
        self.fake = FakeRuntime()
        self.app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
        self.app.conf.update(runtimeuse={"transport": self.fake, "model": "any"})
        # Queues in memory are shared by all applications of a process.
        self._queue = self.app.conf.task_default_queue = f"queue-{next(_numbers)}"

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.app.close()
        # Shared by all applications of a process, as the queues are.
        _DUMMY_CLIENT_CACHE.clear()
        kombu.pools.reset()

    def task(self, function: Callable[..., Any], **options: Any) -> Any:
        """Makes a function, whose first argument is the task, a task."""
        options = {"base": RuntimeTask, "bind": True, "shared": False, "name": f"task-{next(_numbers)}", **options}
        return self.app.task(**options)(function)

    def execute(self, task: Any, /, *arguments: Any, task_id: str = "", **request: Any) -> RuntimeResult:
        """Executes a task as a worker does, and returns its result."""
        task_id = task_id or f"id-{next(_numbers)}"
        trace = build_tracer(task.name, task, app=self.app)
        fields = {"id": task_id, "task": task.name, "delivery_info": {}, **request}
        trace(task_id, list(arguments), {}, fields)
        result: RuntimeResult = task.AsyncResult(task_id)
        return result

    def wait_for_cancels(self, count: int) -> None:
        """Asserts that so many requests are cancelled: the client's thread tells the runtime when the caller knows."""
        when(lambda: self.fake.cancelled >= count, "the requests to be cancelled")
        assert self.fake.cancelled == count

    def sent_again(self) -> List[Dict[str, Any]]:
        """Returns the headers of the messages that are in the queue: tasks that are retried."""
        found = []
        with self.app.connection_for_read() as connection:
            queue = connection.SimpleQueue(self._queue)
            while True:
                try:
                    message = queue.get(block=False)
                except queue.Empty:
                    break
                message.ack()
                found.append(dict(message.headers))
            queue.close()
        return found


def through_json(value: Any) -> Any:
    """Returns what any reader of JSON makes of what Celery writes."""
    import kombu.utils.json

    return json.loads(kombu.utils.json.dumps(value))
