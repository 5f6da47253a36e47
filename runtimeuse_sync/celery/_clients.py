"""The one client of a worker process, and what makes its runs part of the task that they are made in.

A client is made by the first task that asks for it, in the process that the task runs in: never before a fork. It is
the client of all tasks of an application; a task class with settings of its own has its own. The client is shared by
the threads and greenlets of the process. What it is asked to do in a task belongs to that task's attempt: the attempt
is asked whether to cancel, counts the messages, and notes what is sent.

Threads: any thread may ask for the client. Two that ask at once may both make one; both get the first that is stored.
No lock is held, which a fork could leave locked.
"""

import os
from typing import Any, Dict, Mapping, NamedTuple, Optional
from weakref import WeakKeyDictionary

from .._call_methods.base import RunsRequests
from .._wire.request import Request
from ..client import RuntimeUseClient
from ..run import Run
from ..session import RuntimeUseSession
from ._attempt import current_attempt

#: The name of the setting in Celery's configuration, and of the attribute of tasks.
SETTING = "runtimeuse"


class _RunsInTasks(RunsRequests):
    """A client or session whose runs belong to the attempt of a task that they are made in, if any."""

    def _run(self, request: Request, keep_output: Optional[int] = None) -> "Run[Any]":
        attempt = current_attempt()
        if attempt is None:
            return super()._run(request, keep_output)  # type: ignore[safe-super]  # there is a client or session below
        run: Run[Any] = super()._run(attempt.prepared(request), keep_output)  # type: ignore[safe-super]
        attempt.note(run)
        return run


class TaskSession(_RunsInTasks, RuntimeUseSession):
    """A session of a `TaskClient`."""


class TaskClient(_RunsInTasks, RuntimeUseClient):
    """The client of a worker process."""

    _session_type = TaskSession


class _Made(NamedTuple):
    """A client, the process that it was made in, and the settings that it was made of."""

    client: TaskClient
    process: int
    settings: Any
    own: Optional[Mapping[str, Any]]


#: The clients of each application, by the name of the task that has settings of its own; `""` for all others.
_clients: "WeakKeyDictionary[Any, Dict[str, _Made]]" = WeakKeyDictionary()


def client_for(app: Any, name: str, own: Optional[Mapping[str, Any]]) -> TaskClient:
    """Returns the client of this process; a new one if the settings are other objects than before.

    Args:
        app: The application of Celery.
        name: The name of the task.
        own: The task's own settings, which take precedence over those of the application; `None` if it has none.

    Raises:
        TypeError: The settings are not a mapping, or one of them is unknown or has the wrong type.
        ValueError: A setting has an invalid value, or there is no URL.
    """
    key = name if own else ""
    made = _clients.setdefault(app, {})
    process = os.getpid()
    settings = app.conf.get(SETTING)
    found = made.get(key)
    if found is not None and found.process == process and found.settings is settings and found.own is own:
        return found.client
    new = _Made(_made_of(settings, own, name), process, settings, own)
    # Inherited by a fork, or of other settings. Of two threads that find it, the second removes nothing of the first's.
    if found is not None and made.get(key) is found:
        made.pop(key, None)
    return made.setdefault(key, new).client


def _made_of(conf: Any, own: Optional[Mapping[str, Any]], name: str) -> TaskClient:
    places = [(f"Celery's setting {SETTING}", conf), (f"the attribute {SETTING} of the task {name}", own)]
    settings: Dict[str, Any] = {}
    used = []
    for place, values in places:
        if callable(values):
            values = values()  # what they are made of is not shown with the configuration
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise TypeError(
                f"{place} must be a dict of arguments of RuntimeUseClient, such as ws_url and model, "
                f"or a function that returns one, not {type(values).__name__}"
            )
        settings.update(values)
        used.append(place)
    where = " and ".join(used) or places[0][0]
    try:
        return TaskClient(**settings)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error
