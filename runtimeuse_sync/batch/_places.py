"""Where jobs run: in threads of `run_many`'s own, in the threads of a pool, or in other processes and machines.

A place starts a job and gives its future, turns a future that is done into an outcome, and aborts what is in flight.

Threads: only the thread that drives `run_many` uses a place. The jobs run in its workers.
"""

import concurrent.futures
import json
import pickle
import secrets
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Protocol, Union

from .._interrupts import undone_on_failure
from .._wire import validation as check
from ..client import RuntimeUseClient
from ..errors import CancelledException
from ..futures import RunFuture
from ..run import complete
from ._jobs import Job, not_in_json
from ._lines import DaskLines, Lines, LocalLines, SocketLines
from ._outcomes import Done
from ._worker import Connect, client_from, perform, perform_json, run_of

if TYPE_CHECKING:
    AnyFuture = concurrent.futures.Future[Any]
else:
    AnyFuture = concurrent.futures.Future

#: Told the future of a job as soon as there is one.
Track = Callable[[AnyFuture], None]


class NoMoreJobs(Exception):
    """The executor does not accept a job, and will accept no other; the cause says why."""


class Place(Protocol):
    """Where jobs run."""

    def start(self, job: Job, number: int, track: Track) -> None:
        """Starts a job.

        Args:
            job: The job.
            number: Its number, which no other job has.
            track: Called with its future.

        Raises:
            NoMoreJobs: No job can be started any more.
            Exception: What is wrong with this job.
        """
        ...

    def done(self, future: AnyFuture, number: int, seconds: float) -> Done:
        """Returns the outcome of a future that is done.

        Args:
            future: The future.
            number: The job's number.
            seconds: The time since it was started, for one that does not know.
        """
        ...

    def leave(self) -> None:
        """Has all runs aborted, and those that have not begun, not run; may be repeated."""
        ...

    def cancel(self, future: AnyFuture) -> None:
        """Ends a job's future, after `leave`; never blocks."""
        ...


class OwnThreads:
    """A thread of its own for each job."""

    def __init__(self, client: RuntimeUseClient) -> None:
        self._client = client

    def start(self, job: Job, number: int, track: Track) -> None:  # noqa: ARG002  # for executors
        """See `Place`."""
        future: RunFuture[Any] = RunFuture(run_of(job, self._client), complete)

        def begin() -> None:
            track(future)
            future.begin()

        # A future that is tracked is waited for, so it must end, also if it never began.
        undone_on_failure(begin, future._give_up)

    def done(self, future: AnyFuture, number: int, seconds: float) -> Done:  # noqa: ARG002  # for executors
        """See `Place`."""
        error = future.exception(0)
        return Done(None if error is not None else future.result(0), error, seconds)

    def leave(self) -> None:
        """See `Place`."""

    def cancel(self, future: AnyFuture) -> None:
        """See `Place`."""
        future.cancel()


class InExecutor:
    """The workers of an executor that is somebody else's."""

    def __init__(self, executor: concurrent.futures.Executor, lines: Lines) -> None:
        self._executor = executor
        self._lines = lines

    def start(self, job: Job, number: int, track: Track) -> None:
        """See `Place`."""
        call = self._call(job, number)
        try:
            future = self._executor.submit(*call)
        except Exception as error:
            raise NoMoreJobs from error
        track(future)

    def done(self, future: AnyFuture, number: int, seconds: float) -> Done:
        """See `Place`."""
        self._lines.over(number)
        if future.cancelled():
            return Done(None, CancelledException("the executor cancelled the job"), seconds)
        error = future.exception(0)
        return Done(None, error, seconds) if error is not None else self._done(future.result(0))

    def leave(self) -> None:
        """See `Place`."""
        self._lines.leave()

    def cancel(self, future: AnyFuture) -> None:
        """See `Place`."""
        # Those of dask would count as done at once, although their jobs may be running.
        if not isinstance(self._lines, DaskLines):
            future.cancel()

    def _call(self, job: Job, number: int) -> Any:
        raise NotImplementedError

    def _done(self, result: Any) -> Done:
        raise NotImplementedError


class InThreads(InExecutor):
    """The threads of a `ThreadPoolExecutor`: jobs and outcomes stay as they are."""

    def __init__(self, executor: concurrent.futures.Executor, client: RuntimeUseClient) -> None:
        super().__init__(executor, LocalLines())
        self._client = client

    def _call(self, job: Job, number: int) -> Any:
        return perform, job, self._get_client, self._lines.line, number

    def _get_client(self) -> RuntimeUseClient:
        return self._client

    def _done(self, result: Any) -> Done:
        done: Done = result
        return done


class InProcesses(InExecutor):
    """Workers that are other processes, or may be: jobs and outcomes cross as JSON."""

    def __init__(
        self, executor: concurrent.futures.Executor, lines: Lines, client: Union[RuntimeUseClient, Connect]
    ) -> None:
        super().__init__(executor, lines)
        self._client = client
        self._batch = secrets.token_hex(16)

    def _call(self, job: Job, number: int) -> Any:
        names = not_in_json(job)
        if names:
            raise ValueError(
                f"{', '.join(names)}: callbacks and loggers cannot cross to other processes; leave them out, or use "
                "threads (executor=None)"
            )
        return perform_json, job.to_json(), self._client, self._batch, self._lines.line, number

    def _done(self, result: Any) -> Done:
        return Done.from_dict(json.loads(result))


def _check_connect(connect: Any) -> None:
    """Raises `TypeError` or `ValueError` unless `connect` says how to make a client."""
    if isinstance(connect, str):
        check.check_ws_url("connect", connect)
    elif not isinstance(connect, Mapping) and not callable(connect):
        kinds = "a URL, a dict of arguments of RuntimeUseClient, or a function that returns a client"
        raise TypeError(f"connect must be {kinds}, not {type(connect).__name__}")


def place_for(
    executor: Optional[concurrent.futures.Executor], client: Optional[RuntimeUseClient], connect: Optional[Connect]
) -> Callable[[], Place]:
    """Returns a function that makes the place for `run_many`; the arguments are checked here.

    Raises:
        TypeError: An argument has the wrong type; or the client, or `connect`, cannot be sent to other processes.
        ValueError: Not exactly one of `client` and `connect` is given, or one is invalid.
    """
    if (client is None) == (connect is None):
        raise ValueError("either client or connect must be given, and not both")
    if client is not None:
        check.check_type("client", client, RuntimeUseClient, "a RuntimeUseClient")
    if connect is not None:
        _check_connect(connect)
    if executor is None or isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        here = client if client is not None else client_from(connect)  # type: ignore[arg-type]  # one of them is set
        if executor is None:
            return lambda: OwnThreads(here)
        pool = executor
        return lambda: InThreads(pool, here)
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must be a concurrent.futures.Executor, not {type(executor).__name__}")
    others = executor
    if isinstance(connect, Mapping):
        connect = dict(connect)
        client_from(connect)  # A mistake in it is better noticed here than by each worker.
    sent: Any = client if client is not None else connect
    dask = _dask_client(executor)
    # dask also sends functions that pickle does not.
    if client is not None or dask is None:
        _check_pickle("client" if client is not None else "connect", sent, executor)
    return lambda: InProcesses(others, SocketLines() if dask is None else DaskLines(dask), sent)


def _check_pickle(name: str, value: Any, executor: concurrent.futures.Executor) -> None:
    try:
        pickle.dumps(value)
    except Exception as error:
        instead = (
            "pass connect= instead: a URL, a dict of arguments of RuntimeUseClient, or a function of a module"
            if name == "client"
            else "pass a URL, a dict of plain values, or a function of a module, which makes what cannot be sent itself"
        )
        raise TypeError(
            f"{name} cannot be sent to the workers of {type(executor).__name__} ({type(error).__name__}: {error}); "
            f"{instead}"
        ) from error


def _dask_client(executor: concurrent.futures.Executor) -> Optional[Any]:
    """Returns the `distributed.Client` of an executor that is one's; `None` for any other executor."""
    if not type(executor).__module__.startswith("distributed."):
        return None
    return getattr(executor, "_client", None)
