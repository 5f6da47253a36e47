"""What a worker does with a job: makes a client, runs the job, and returns its outcome.

Threads: everything runs in the worker's thread, the callbacks of the run, too; in a worker process, that is its main
thread, as a rule.
"""

import json
import threading
from typing import Any, Callable, Dict, Mapping, Union

from .._call import monotonic
from ..client import RuntimeUseClient
from ..run import Run, complete
from ._jobs import Job
from ._lines import Line
from ._outcomes import Done, done_to_dict

#: How to make a client: a URL, the arguments of `RuntimeUseClient`, or a function that returns a client.
Connect = Union[str, Mapping[str, Any], Callable[[], RuntimeUseClient]]

#: The clients of this process by the batches that they are for, the latest ones.
_clients: Dict[str, RuntimeUseClient] = {}
_clients_lock = threading.Lock()
_MOST_CLIENTS = 8


def client_from(connect: Connect) -> RuntimeUseClient:
    """Returns a new client.

    Raises:
        TypeError: A function returned something else; or as `RuntimeUseClient` does.
        ValueError: As `RuntimeUseClient` does.
        Exception: Whatever a function raised.
    """
    if isinstance(connect, str):
        return RuntimeUseClient(connect)
    if isinstance(connect, Mapping):
        return RuntimeUseClient(**connect)
    client = connect()
    if not isinstance(client, RuntimeUseClient):
        raise TypeError(f"connect must return a RuntimeUseClient, not {type(client).__name__}")
    return client


def run_of(job: Job, client: RuntimeUseClient) -> "Run[Any]":
    """Returns the run of a job, not yet started; raises `TypeError` or `ValueError` if the options are invalid."""
    if job.commands is not None:
        return client.stream_commands(job.commands, job.options)  # type: ignore[arg-type]  # checked by the job
    return client.stream(job.prompt or "", job.options)  # type: ignore[arg-type]  # checked by the job


def perform(job: Job, get_client: Callable[[], RuntimeUseClient], line: Line, number: int) -> Done:
    """Runs a job, and returns its outcome."""
    began = monotonic()
    try:
        run = run_of(job, get_client())
        with line.attached(run.abort, number):
            result = complete(run)
    except Exception as error:
        return Done(None, error, monotonic() - began)
    return Done(result, None, monotonic() - began)


def perform_json(job: str, client: Union[RuntimeUseClient, Connect], batch: str, line: Line, number: int) -> str:
    """Runs a job in another process than that of `run_many`; the job and its outcome are JSON.

    Args:
        job: The job.
        client: The client, or how to make one. That is done once for all jobs of a batch in this process.
        batch: A name of the batch that no other one has.
        line: The line to `run_many`.
        number: The number of the job.
    """

    def get_client() -> RuntimeUseClient:
        with _clients_lock:
            if batch not in _clients:
                _clients[batch] = client if isinstance(client, RuntimeUseClient) else client_from(client)
                while len(_clients) > _MOST_CLIENTS:
                    del _clients[next(iter(_clients))]
            return _clients[batch]

    made = Job.from_json(job)
    done = perform(made, get_client, line, number)
    return json.dumps(done_to_dict(done.result, done.error, done.seconds, made.secret_values()))
