"""Lines from workers to `run_many`: how a worker learns that nobody waits for its run any more, and aborts it.

The protocol of `concurrent.futures` cannot end what has begun. So each job takes a line along, and its run is attached
to it in the worker:

- In this process: the run is aborted directly.
- In other processes: the worker connects to a socket on this machine, and aborts its run as soon as the connection
  ends. `run_many` ends it when it is left, and the system does if the whole process is killed. A job whose worker
  cannot connect is not run at all.
- On a dask cluster: `run_many` sets an event on the scheduler, which workers look at twice a second. They abort their
  runs also if the scheduler cannot be asked. A job that another worker has begun, which has died, is not begun again.

A job that begins after `run_many` was left finds that out when it attaches itself, and does not run.

Threads: in the process of `run_many`, one thread, `runtimeuse-batch-lines`, owns the sockets. In a worker, one for each
run, `runtimeuse-batch-watch`, waits for the end of the line. Any thread may `leave`.
"""

import contextlib
import hmac
import logging
import secrets
import selectors
import socket
import threading
from typing import Any, Callable, ContextManager, Dict, Iterator, Protocol, Tuple

from .._interrupts import raised_by_a_signal_handler, surely
from .._threads import join_thread, new_thread, start_thread
from ..errors import CancelledException, RuntimeConnectionError
from . import _inherited
from ._outcomes import JobError

#: How long a worker waits for the process of `run_many` to accept its line, in seconds.
_PATIENCE = 10.0

#: How often a dask worker asks the scheduler, in seconds.
_INTERVAL = 0.5

_ACCEPTED = b"+"

_logger = logging.getLogger("runtimeuse_sync")

Abort = Callable[[], None]


class Line(Protocol):
    """What a job takes along to its worker; other processes get a copy by pickle."""

    def attached(self, abort: Abort, number: int) -> ContextManager[None]:
        """Returns a context in which `abort` is called once `run_many` has been left.

        Args:
            abort: Aborts the run; callable from any thread.
            number: The number of the job.

        Raises:
            CancelledException: `run_many` has been left already.
            RuntimeConnectionError: `run_many` cannot be reached.
            JobError: The job was begun before.
        """
        ...


class Lines(Protocol):
    """The end of the lines that `run_many` has."""

    @property
    def line(self) -> Line:
        """What to send with each job."""
        ...

    def over(self, number: int) -> None:
        """Forgets a job, whose outcome has come."""
        ...

    def leave(self) -> None:
        """Has all runs aborted, in progress or to come; may be repeated."""
        ...


def _left() -> CancelledException:
    return CancelledException("run_many was left before the job began")


class LocalLines:
    """Lines for workers that are threads of this process."""

    def __init__(self) -> None:
        self._aborts: Dict[object, Abort] = {}
        self._is_left = False

    @property
    def line(self) -> "LocalLines":
        """This object itself."""
        return self

    def over(self, number: int) -> None:
        """See `Lines`."""

    def leave(self) -> None:
        """Aborts all runs."""
        self._is_left = True
        for abort in list(self._aborts.values()):
            abort()

    @contextlib.contextmanager
    def attached(self, abort: Abort, number: int) -> Iterator[None]:
        """See `Line`."""
        self._aborts[number] = abort
        try:
            # In this order: whoever leaves sets the flag first, and so either sees the run or is seen.
            if self._is_left:
                raise _left()
            yield
        finally:
            self._aborts.pop(number, None)


class SocketLines:
    """Lines for workers that are processes on this machine: connections that `leave` ends.

    A worker proves by a secret token that it belongs here, and a listener by its answer that it is this one.
    """

    def __init__(self) -> None:
        self._token = secrets.token_bytes(32)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._address: Tuple[str, int] = self._listener.getsockname()[:2]
        self._waker, self._woken = socket.socketpair()
        #: What each worker has said so far; `None` once it has been accepted.
        self._workers: Dict[socket.socket, Any] = {}
        _inherited.keep(self, self._close_copies)
        self._thread = new_thread(self._serve, "runtimeuse-batch-lines")
        try:
            start_thread(self._thread)
        except BaseException:
            self._end()
            raise

    @property
    def line(self) -> "SocketLine":
        """What to send with each job."""
        return SocketLine(self._address, self._token)

    def over(self, number: int) -> None:
        """See `Lines`."""

    def leave(self) -> None:
        """Ends all connections, and listens no more."""
        with contextlib.suppress(OSError):
            self._waker.shutdown(socket.SHUT_RDWR)
        join_thread(self._thread, _PATIENCE)
        self._waker.close()

    def _close_copies(self) -> None:
        """Runs in a child that was forked, whose copies would keep the connections of other workers open."""
        for each in [self._listener, self._waker, self._woken, *self._workers]:
            each.close()

    def _serve(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                for each in (self._listener, self._woken):
                    each.setblocking(False)
                    selector.register(each, selectors.EVENT_READ)
                while True:
                    ready = [key.fileobj for key, _ in selector.select()]
                    if self._woken in ready:
                        return
                    for worker in ready:
                        assert isinstance(worker, socket.socket)
                        if worker is self._listener:
                            self._accept(selector)
                        elif not self._hear(worker):
                            selector.unregister(worker)
                            self._workers.pop(worker)
                            worker.close()
        finally:
            self._end()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            worker, _ = self._listener.accept()
        except OSError:
            # Gone again, or this process has too many open files: the worker gets no answer, and says so.
            return
        worker.setblocking(False)
        self._workers[worker] = b""
        selector.register(worker, selectors.EVENT_READ)

    def _hear(self, worker: socket.socket) -> bool:
        """Reads what a worker says; returns whether it may stay."""
        try:
            data = worker.recv(64)
        except BlockingIOError:
            return True
        except OSError:
            return False
        said = self._workers[worker]
        if not data or said is None:
            return False
        said += data
        if len(said) < len(self._token):
            self._workers[worker] = said
            return True
        if not hmac.compare_digest(said, self._token):
            return False
        self._workers[worker] = None
        try:
            return worker.send(_ACCEPTED) == len(_ACCEPTED)
        except OSError:
            return False

    def _end(self) -> None:
        _inherited.let_go(self)
        self._listener.close()
        self._woken.close()
        for worker in list(self._workers):
            with contextlib.suppress(OSError):
                # A process that is being forked may still have a copy, which `close` alone would leave open.
                worker.shutdown(socket.SHUT_RDWR)
            worker.close()
        self._workers.clear()


class SocketLine:
    """A worker's end of `SocketLines`, before it is connected."""

    def __init__(self, address: Tuple[str, int], token: bytes) -> None:
        self._address = address
        self._token = token

    @contextlib.contextmanager
    def attached(self, abort: Abort, number: int) -> Iterator[None]:  # noqa: ARG002  # for lines that need it
        """See `Line`."""
        connection = self._connect()

        def end() -> None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            if watcher.ident is not None:
                join_thread(watcher, _PATIENCE)
            connection.close()

        watcher = new_thread(_watch, "runtimeuse-batch-watch", connection, abort)
        try:
            start_thread(watcher)
            yield
        finally:
            surely(end)

    def _connect(self) -> socket.socket:
        try:
            connection = socket.create_connection(self._address, _PATIENCE)
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            connection.sendall(self._token)
            if connection.recv(1) != _ACCEPTED:
                raise _left()
            connection.settimeout(None)
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _unreachable(self, error: OSError) -> RuntimeConnectionError:
        host, port = self._address
        return RuntimeConnectionError(
            f"the job was not run: its worker, on {socket.gethostname()}, cannot reach the process that called "
            f"run_many, at {host}:{port}, and so could not be told to abort ({type(error).__name__}: {error})"
        )


def _watch(connection: socket.socket, abort: Abort) -> None:
    """Runs in a thread of the worker: waits for the end of the line."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    # If it was the worker that ended it, the run is over, and this has no effect.
    abort()


class DaskLines:
    """Lines for the workers of a dask cluster: an event on its scheduler.

    Args:
        client: The `distributed.Client`.
    """

    def __init__(self, client: Any) -> None:
        from distributed import Event

        self._name = f"runtimeuse-{secrets.token_hex(16)}"
        self._event = Event(self._name, client=client)
        self._client = client

    @property
    def line(self) -> "DaskLine":
        """What to send with each job."""
        return DaskLine(self._name)

    def leave(self) -> None:
        """Sets the event. It stays on the scheduler, for jobs that are still queued."""
        self._tell(self._event.set)

    def over(self, number: int) -> None:
        """Forgets that the job has begun."""
        from distributed import Event

        self._tell(Event(f"{self._name}-{number}", client=self._client).clear)

    def _tell(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        except Exception as error:
            if raised_by_a_signal_handler(error):
                raise
            # Such as a cluster that has been closed: its workers notice that by themselves.
            _logger.warning("the dask scheduler could not be told: %s", type(error).__name__)


class DaskLine:
    """A dask worker's end of `DaskLines`."""

    def __init__(self, name: str) -> None:
        self._name = name

    @contextlib.contextmanager
    def attached(self, abort: Abort, number: int) -> Iterator[None]:
        """See `Line`."""
        from distributed import Event, get_client

        client = get_client()
        event, begun = Event(self._name, client=client), Event(f"{self._name}-{number}", client=client)
        if event.is_set():
            raise _left()
        if begun.is_set():
            # `run_many` forgets it only once it has the outcome.
            raise JobError("the worker that ran the job has died; the job is not run a second time")
        begun.set()
        over = threading.Event()
        watcher = new_thread(_watch_event, "runtimeuse-batch-watch", event, over, abort)

        def end() -> None:
            over.set()
            if watcher.ident is not None:
                join_thread(watcher, _PATIENCE)

        try:
            start_thread(watcher)
            yield
        finally:
            surely(end)


def _watch_event(event: Any, over: threading.Event, abort: Abort) -> None:
    """Runs in a thread of the worker: asks the scheduler until the run is over or must end."""
    while not over.wait(_INTERVAL):
        try:
            if not event.is_set():
                continue
        except Exception:  # whatever dask raises if the scheduler is gone
            pass
        abort()
        return
