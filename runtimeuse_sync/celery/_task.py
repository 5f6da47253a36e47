"""`RuntimeTask`: what users set and call, and which failures Celery may retry by itself.

`run` of each subclass is wrapped when the class is made, inside of what Celery wraps around it for `autoretry_for`: so
`retry` can tell Celery's own call, which comes when the task's function has ended, from one that the function makes.

Threads: Celery has one instance of a task in each process, shared by its threads; all that belongs to one execution is
in its `Attempt`.
"""

import functools
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Type

from celery.exceptions import Ignore

from .._wire import validation as check
from ..client import RuntimeUseClient
from ..errors import CancelledException, RuntimeConnectionError, RuntimeUseError
from ._attempt import Attempt, attempt_of, attempted, nothing_was_sent
from ._bases import AbortableTask
from ._clients import client_for
from ._results import RuntimeResult

#: The most characters of the agent's latest text that the progress shows.
_SHOWN = 500


class RuntimeTask(AbortableTask):
    """The base class of tasks that talk to a runtime.

    What a task does by `self.client`, its sessions included, belongs to the task:

    - It is cancelled on the runtime when the task is ended: by `result.abort()` in every pool; by
      `revoke(terminate=True)` in all but solo, whose worker does not listen while a task runs; by the soft and the hard
      time limit, which pools other than prefork keep no longer than while a run asks (every 0.5 s).
    - The messages that come are counted, and stored as the task's state.
    - What its function has submitted and not waited for is cancelled when that ends.
    - What has been sent is noted. A failed task is retried by itself (`autoretry_for`) only if its function has sent
      nothing, or if `repeatable` says that it may run twice.

    A task may return a `QueryResult` or a `CommandExecutionResult`: its result is the dict of their fields, of which
    `result_from_json` makes it again. Errors of this package come out of `result.get()` as they were raised.

    The attributes below are settings: a subclass sets them, or a single task by `@app.task(base=RuntimeTask, …)`.

    Raises:
        TypeError: Making a subclass: a setting has the wrong type.
        ValueError: Making a subclass: a number of seconds is not positive.

    Examples:
        >>> app.conf.runtimeuse = {"ws_url": "ws://localhost:8080", "model": "gpt-4.1"}
        >>> @app.task(base=RuntimeTask, bind=True)
        ... def summarise(self, text):
        ...     return self.client.query(f"Summarise: {text}")
    """

    abstract = True
    """Celery registers no task of this class itself."""

    runtimeuse: Optional[Mapping[str, Any]] = None
    """Arguments of `RuntimeUseClient` for this task, which take precedence over Celery's setting `runtimeuse`.

    A task that has any has a client of its own. Default: `None`.
    """

    repeatable: bool = False
    """Whether the task may be run again after something has been sent. Default: `False`.

    A single call says so by `apply_async(headers={"repeatable": True})`.
    """

    progress_interval: Optional[float] = 1.0
    """The least seconds between two progresses that are stored; `None` stores none. Default: 1."""

    abort_poll_interval: Optional[float] = 1.0
    """The least seconds between two looks at the result backend whether the task is aborted. Default: 1.

    `None` never looks.
    """

    autoretry_for: Tuple[Type[BaseException], ...] = (RuntimeConnectionError,)
    """The errors after which Celery retries the task, if nothing was sent or it is `repeatable`.

    Default: `RuntimeConnectionError`.
    """

    max_retries: Optional[int] = 5
    """How often the task is retried at most. Default: 5."""

    retry_backoff: Any = 2
    """The seconds before the first retry; each further pause is twice as long. Default: 2."""

    retry_backoff_max: int = 60
    """The longest pause before a retry, in seconds. Default: 60."""

    retry_jitter: bool = True
    """Whether the pauses are random, up to these lengths. Default: `True`."""

    acks_late: bool = False
    """Whether the task is acknowledged when it ends. Default: `False`, whatever the application's configuration says.

    A broker gives a late one to another worker once more if the first is lost, or takes longer than the broker waits.
    """

    throws: Tuple[Type[BaseException], ...] = (CancelledException,)
    """The errors that Celery logs without a traceback. Default: `CancelledException`."""

    Request = "runtimeuse_sync.celery._worker:RuntimeRequest"
    """What represents a request of the task in a worker, as Celery looks it up."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_settings(cls)
        function = vars(cls).get("run")
        if function is not None:
            setattr(cls, "run", _attempting(cls, function))  # noqa: B010  # no declaration, for type checkers

    @property
    def client(self) -> RuntimeUseClient:
        """The client of this process, made by the first task that asks for it.

        Raises:
            TypeError: The settings are not a dict, or one of them is unknown or has the wrong type.
            ValueError: A setting has an invalid value, or there is no URL.
        """
        return client_for(self._get_app(), self.name, self.runtimeuse)

    def progress_meta(self, messages: int, elapsed: float, latest: Optional[str]) -> Dict[str, Any]:
        """Returns what is stored as the task's progress, with the state `PROGRESS`; to be overridden.

        Args:
            messages: How many messages have come so far: texts of the agent, and chunks of output.
            elapsed: For how many seconds the task has been running.
            latest: The agent's latest text; `None` if there is none.

        Returns:
            Plain JSON values: `messages`, `elapsed`, and the last 500 characters of `latest`.
        """
        return {
            "messages": messages,
            "elapsed": round(elapsed, 1),
            "latest": None if latest is None else latest[-_SHOWN:],
        }

    def AsyncResult(self, task_id: str, **kwargs: Any) -> RuntimeResult:  # noqa: N802  # as Celery names it
        """Returns the result of a task with this id, which can abort it.

        Args:
            task_id: The id of the task.
            **kwargs: Further arguments of Celery's `AsyncResult`.
        """
        return RuntimeResult(task_id, **{"backend": self.backend, "app": self._get_app(), **kwargs})

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """Sends the task once more, as Celery's `Task.retry` does, whatever has been sent: the caller says so.

        What Celery retries by itself (`autoretry_for`) is raised instead if it must not be repeated.

        Args:
            *args: As for Celery's `Task.retry`.
            **kwargs: As for Celery's `Task.retry`.

        Returns:
            What Celery's method returns, where that does not raise (`throw=False`).

        Raises:
            celery.exceptions.Retry: The task was sent once more.
            Exception: What was to be retried, if it must not be or was retried often enough.
        """
        attempt = attempt_of(self.request)
        error = args[2] if len(args) > 2 else kwargs.get("exc")
        by_itself = attempt is not None and attempt.left
        if attempt is not None and by_itself and isinstance(error, Exception) and not self._may_repeat(attempt, error):
            raise error
        return super().retry(*args, **kwargs)

    def _may_repeat(self, attempt: Attempt, error: Exception) -> bool:
        if attempt.cancelled:
            return False
        if self.repeatable or (self.request.headers or {}).get("repeatable") is True:
            return True
        return not attempt.has_sent and (not isinstance(error, RuntimeUseError) or nothing_was_sent(error))

    def _attempt(self, function: Callable[[], Any]) -> Any:
        with attempted(self) as attempt:
            try:
                return function()
            except CancelledException as error:
                attempt.explain(error)
                if not attempt.revoked:
                    raise
        from ._worker import store_revoked

        # The worker has announced it. This task's last progress may have come after that.
        if not (self.request.ignore_result or self.ignore_result):
            store_revoked(self.backend, self.request.id, self.request)
        raise Ignore("revoked")


def _attempting(cls: Type[RuntimeTask], function: Any) -> Any:
    """Returns what calls a task's function as an attempt: a method, or a `staticmethod` if the function is one."""
    if isinstance(function, staticmethod):
        called: Callable[..., Any] = function.__func__

        @functools.wraps(called)
        def run_without_task(*args: Any, **kwargs: Any) -> Any:
            task: RuntimeTask = cls._get_app().tasks[cls.name]
            return task._attempt(lambda: called(*args, **kwargs))

        return staticmethod(run_without_task)

    @functools.wraps(function)
    def run(self: RuntimeTask, *args: Any, **kwargs: Any) -> Any:
        return self._attempt(lambda: function(self, *args, **kwargs))

    return run


def _check_settings(cls: Type[RuntimeTask]) -> None:
    settings = cls.runtimeuse
    if settings is not None and not isinstance(settings, Mapping):
        raise TypeError(
            f"runtimeuse must be a dict of arguments of RuntimeUseClient, such as ws_url and model, "
            f"not {type(settings).__name__}"
        )
    check.check_type("repeatable", cls.repeatable, bool, "a bool")
    check.check_seconds("progress_interval", cls.progress_interval)
    check.check_seconds("abort_poll_interval", cls.abort_poll_interval)
