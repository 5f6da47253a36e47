"""A session: many calls over one connection, or one after the other if it reconnects (`_session/reconnecting.py`).

Threads: many threads may share a session. Its calls take turns, first come, first served (`_session/turns.py`). Any
thread may call `abort`, `close`, `closed` and `is_healthy`. The session starts one thread, the connection's.

States: new → open → closed. A session that is garbage-collected while open closes its connection and warns.
"""

import contextlib
import functools
import logging
import math
import threading
import warnings
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Dict, Iterator, List, Optional, Set, Type

from ._call import AskedByMany, Call, Deadline, shortened
from ._call_methods.commands import ShellCommands
from ._call_methods.queries import Queries
from ._connection.base import Connection
from ._interrupts import cleaned_up, surely, undone_on_failure
from ._logs import LoggerLike
from ._session.callbacks import Callbacks
from ._session.channel import Channel
from ._session.ending import end_session, listed, not_waited_for
from ._session.turns import Ticket
from ._wire import validation as check
from ._wire.late_types import late_class
from ._wire.request import Defaults, Request
from .errors import ArtifactUploadError, RuntimeUseError, SessionStateError
from .options import END_SESSION_TIMEOUT, QueryOptions
from .run import Run

if TYPE_CHECKING:
    from .files import Files
    from .files._operation import Operation
else:
    Files = late_class("runtimeuse_sync.files", "Files")

#: For how many seconds to wait for the end to be confirmed if no artifacts were asked for: no file can be lost then.
_QUIET_END = 5.0

_logger = logging.getLogger("runtimeuse_sync")


class RuntimeUseSession(Queries, ShellCommands):
    """Many calls over one connection; `RuntimeUseClient.session` returns it.

    Use it as a context manager, or call `open` and `close`. Calls are serialised: each waits for its turn, within its
    own `timeout`. Leaving the context ends the session: late artifact uploads are answered, and the runtime confirms.

    If the connection is cut while no call is in flight, the next call raises `ConnectionLostError`. Its text says that
    nothing was sent, and its `metadata["sent"]` is `False`. A session with `reconnect=True` opens a new connection
    instead (`RuntimeUseClient.session`).
    """

    def __init__(
        self,
        make_connection: Callable[[], Connection],
        origin: str,
        secrets: List[str],
        defaults: Defaults,
        end_session_timeout: Optional[check.Seconds] = END_SESSION_TIMEOUT,
        reconnect: bool = False,
    ) -> None:
        limit: Optional[float] = check.seconds(end_session_timeout)
        check.check_seconds("end_session_timeout", limit)
        check.check_type("reconnect", reconnect, bool, "a bool")
        self._make_connection = make_connection
        self._origin = origin
        self._secrets = secrets
        self._defaults = defaults
        self._end_session_timeout = limit
        self._reconnect = reconnect
        self._channel: Optional[Channel] = None
        self._opening: Optional[Call] = None
        self._closed = False
        self._operations: Set[Operation] = set()
        self._finalizer: Optional[weakref.finalize[Any, Any]] = None

    def open(self) -> "RuntimeUseSession":
        """Connects, and returns the session.

        Raises:
            CancelledException: `abort` was called meanwhile.
            RuntimeConnectionError: The runtime could not be reached.
            SessionStateError: The session has been opened before.
            TypeError: The custom transport did not return a connection.
        """
        return self._open(Call("opening the session", None))

    def _open(self, call: Call) -> "RuntimeUseSession":
        if self._channel is not None or self._closed:
            raise SessionStateError("a session can be opened only once")
        ticket = Ticket(call.wakeup, [threading.get_ident()])

        def connect() -> "RuntimeUseSession":
            self._opening = call
            connection = self._make_connection()
            channel = self._channel = self._make_channel(connection)
            # Not a `__del__`: that would run for every session, and swallow an interrupt that hits it.
            # Repeated where an interrupt hits it: CPython prints such an interrupt and goes on.
            close_abandoned = functools.partial(_close_abandoned, channel, f"unclosed {self!r}")
            self._finalizer = weakref.finalize(self, surely, close_abandoned)
            self._finalizer.atexit = False
            connection.start(call.wakeup)
            channel.enter(call, ticket)
            channel.leave(call, ticket)
            self._opening = None
            return self

        try:
            return undone_on_failure(connect, lambda: self._give_up(call, ticket))
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception

    def _make_channel(self, connection: Connection) -> Channel:
        if self._reconnect:
            # Imported by the first session that reconnects: importing the client stays fast.
            from ._session.reconnecting import ReconnectingChannel

            return ReconnectingChannel(connection, self._origin, self._secrets, _logger, self._make_connection)
        return Channel(connection, self._origin, self._secrets, _logger, persistent=True)

    def _give_up(self, call: Call, ticket: Ticket) -> None:
        self._opening = None
        # Its traceback references the call: drop it to avoid a reference cycle.
        call.own_error = None
        channel = self._channel
        if channel is None:
            return
        channel.leave(call, ticket)
        channel.close()
        self._mark_closed()
        channel.connection.join(0.0 if call.aborted else call.deadline.remaining())

    def __enter__(self) -> "RuntimeUseSession":
        return self.open()

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        # A failure to end is returned: only an interrupt is raised here, and must not be held back.
        try:
            failure = cleaned_up(self._leave_run_and_end, self._surely_closed)
        except BaseException as interrupt:
            raise shortened(interrupt)  # noqa: B904  # the same exception
        if failure is None:
            return
        if error is not None:
            _logger.warning("the session did not end well after %s: %s", type(error).__name__, type(failure).__name__)
            return
        try:
            raise shortened(failure)
        finally:
            del failure

    def _leave_run_and_end(self) -> Optional[RuntimeUseError]:
        if self._channel is not None:
            # Such as the run of a generator that will never be resumed: it must not block the end of the session.
            self._channel.abandon_run_of_this_thread()
        return self._end()

    def _surely_closed(self) -> None:
        # Only has an effect if an interrupt came before the first step of `_end`.
        if self._channel is not None and not self._closed:
            self._channel.close()
            self._mark_closed()

    def _mark_closed(self) -> None:
        self._closed = True
        if self._finalizer is not None:
            self._finalizer.detach()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._origin} {self._state}>"

    @property
    def _state(self) -> str:
        return "closed" if self._closed else "new" if self._channel is None else "lost" if self.closed else "open"

    def _described(self) -> Dict[str, str]:
        calls = 0 if self._channel is None else self._channel.turn.length
        return {"runtime": self._origin, "state": self._state, "calls": f"{calls} in progress or waiting"}

    @property
    def closed(self) -> bool:
        """Whether the session can make no more calls, as far as this process knows; never blocks.

        It is closed after `close` and the end of the `with` block, after an `open` that failed, in a process that
        inherited it by `fork`, and once its connection is known to be gone, unless it will open a new one
        (`reconnect=True`). A new session is not closed. A runtime may be gone without a sign: `is_healthy` asks it.
        """
        channel = self._channel
        return self._closed or (channel is not None and channel.unusable)

    def is_healthy(self, timeout: check.Seconds = 5.0) -> bool:
        """Sends a ping and returns whether the runtime answers it in time.

        Any thread may ask at any time, also in a callback and while a call is in flight: this does not wait for its
        turn, and disturbs neither the call nor the keepalive. It does not open a new connection, nor does `abort` end
        it. It returns `False` for a session that is new or closed, whose connection is gone or is just being opened, or
        that was inherited by `fork`.

        A runtime that is silent only because this process reads nothing (a callback is slow, and `max_buffered` is
        reached) passes for healthy. A custom transport has no pings: its connection passes for healthy until it ends.

        Args:
            timeout: The most seconds to wait for the answer, or a `timedelta` (default 5 s).

        Raises:
            TypeError: `timeout` is not a number.
            ValueError: `timeout` is not positive.
        """
        seconds: float = check.seconds(timeout)
        check.check_type("timeout", seconds, (int, float), "a number of seconds")
        check.check_seconds("timeout", seconds)
        channel = self._channel
        return channel is not None and not self._closed and channel.connection.is_alive(seconds)

    @property
    def files(self) -> "Files":
        """Reads and writes files in the sandbox, over nothing but commands.

        The operations, such as `session.files.read("report.txt")`, use the session's connection, and take turns with
        its other calls.
        """
        default = self._defaults.of_commands
        return self._files(default("timeout"), default("logger"))

    def abort(self) -> None:
        """Cancels the call in progress, which raises `CancelledException`; calls that wait for their turn continue.

        Never blocks; safe from any thread, callback, signal handler and finalizer. If no call is in progress, this has
        no effect, not on later calls either.
        """
        channel = self._channel
        call = self._opening or (channel.active if channel is not None else None)
        if call is not None:
            call.abort()
        # After the call in progress: an operation's first call may end just now.
        for operation in list(self._operations):
            operation.abort_if_begun()

    def _abort_all(self) -> None:
        """As `abort`, but for those that wait for their turn, too: the context of the client ends."""
        channel = self._channel
        if channel is not None:
            channel.turn.abort_all()
        for operation in list(self._operations):
            operation.abort()
        self.abort()

    def _run(self, request: Request, keep_output: Optional[int] = None) -> "Run[Any]":
        keep = self._defaults.keep_output if keep_output is None else keep_output
        return self._new_run(request, self._open_channel, keep_output=keep)

    def _files(
        self, timeout: Optional[float], logger: Optional[LoggerLike], asked: Optional[AskedByMany] = None
    ) -> "Files":
        from .files import Files

        return Files(self._open_file_commands, self._operations, timeout, logger, asked)

    def _open_file_commands(self, seconds: Optional[float]) -> ContextManager[ShellCommands]:  # noqa: ARG002  # it is open
        return contextlib.nullcontext(self)

    @contextlib.contextmanager
    def _ending_within(self, deadline: Deadline) -> Iterator[None]:
        """Closes the session at the end of the block: in order and within a deadline, but at once after an error."""

        def drop() -> None:
            channel = self._channel
            if channel is not None and not self._closed:
                channel.close()
                self._mark_closed()
                channel.connection.join(0.0)

        def end() -> None:
            limit = deadline.remaining()
            self._end_session_timeout = None if limit == math.inf else limit
            self._end()

        try:
            yield
            cleaned_up(end, drop)
        finally:
            surely(drop)

    def _open_channel(self, call: Call) -> Channel:
        channel = self._channel
        if self._closed:
            raise call.prepared(SessionStateError("the session is closed"))
        if channel is None:
            raise call.prepared(
                SessionStateError("the session is not open: use it as a context manager, or call open()")
            )
        return channel

    # The end.

    def close(self) -> None:
        """Ends the session: answers late upload requests, waits for the runtime's confirmation, and disconnects.

        Also waits for the calls that are in progress or queued. All this takes `end_session_timeout` at most. May be
        repeated. In a process that inherited the session by `fork` it does not touch the connection.

        Raises:
            ArtifactUploadError: A late upload request could not be answered (its `__cause__` says why), or the runtime
                could not upload all files.
            ConnectionLostError: Artifacts were asked for, and the connection was lost before the runtime confirmed that
                it has uploaded them all.
            RunTimeoutError: Artifacts were asked for, and the runtime did not confirm within `end_session_timeout`.
            CancelledException: Artifacts were asked for, and `abort` was called meanwhile.
            SessionStateError: This thread is inside a callback or run of the session.
        """
        try:
            failure = self._end()
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
        if failure is not None:
            try:
                raise shortened(failure)
            finally:
                del failure

    def _end(self) -> Optional[RuntimeUseError]:
        """Does what `close` does, but returns the error that `close` raises; only interrupts are raised here."""
        channel = self._channel
        if self._closed or channel is None:
            self._mark_closed()
            return None
        connection = channel.connection
        if not connection.belongs_to_this_process:
            self._mark_closed()
            return None
        if connection.is_current_thread:
            # The garbage collector runs in the connection's own thread, which cannot wait for itself.
            connection.close()
            self._mark_closed()
            warnings.warn(f"{self!r} was closed by the garbage collector", ResourceWarning, stacklevel=3, source=self)
            return None
        if channel.turn.used_by_this_thread():
            return SessionStateError("a session cannot be closed from inside its own callback or run")
        call = Call("the end of the session", self._end_session_timeout)
        ticket = Ticket(call.wakeup, [threading.get_ident()])
        return cleaned_up(lambda: self._end_by(channel, call, ticket), lambda: self._give_up(call, ticket))

    def _end_by(self, channel: Channel, call: Call, ticket: Ticket) -> Optional[RuntimeUseError]:
        failures: List[BaseException] = []
        uploads = channel.uploads
        callbacks = Callbacks(QueryOptions(), call, ticket)
        try:
            channel.take_turn(call, ticket)
            until = math.inf if uploads.expected else call.now() + _QUIET_END
            if not end_session(channel, call, until, callbacks, failures) and uploads.kept and not failures:
                # Announced just when the wait ended.
                failures.append(not_waited_for(channel, call))
        except RuntimeUseError as problem:
            if not call.is_own(problem):
                raise
            # The failure matters only if files may have been announced.
            if uploads.expected and not failures:
                return problem
            _logger.debug("the session did not end well: %s", type(problem).__name__)
        if not failures:
            return None
        paths = [request.filepath for request in uploads.failed]
        paths += _others(failures, paths)
        shown = listed(paths, call.secrets)
        failure = ArtifactUploadError(f"{len(paths)} artifact(s) could not be uploaded: {shown}", paths)
        failure.__cause__ = failures[0]
        return failure


def _others(failures: List[BaseException], known: List[str]) -> List[str]:
    """Returns the paths that the failures name, without those in `known`."""
    named = [path for error in failures if isinstance(error, ArtifactUploadError) for path in error.filepaths]
    before = set(known)
    return [path for path in dict.fromkeys(named) if path not in before]


def _close_abandoned(channel: Channel, warning: str) -> None:
    """Closes the connection of a session that was garbage-collected without `close`; may be repeated."""
    if channel.connection.belongs_to_this_process:
        channel.close()
        warnings.warn(warning, ResourceWarning, stacklevel=2)
