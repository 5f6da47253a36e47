"""A run: one request from its start to its result. `query` and `execute_commands` are made of it.

Threads: a `Run` is read by one thread at a time, which gets its messages, calls its callbacks and gets its result;
`abort` is for everybody, and `close` while another thread reads is no more than that. Behind it stand the connection's
thread and the turn of the session (`_session/channel.py`).

States: new → started → ended (with a result or an error) or left (early, which cancels). Everything taken on the way
(the turn, a one-shot's connection) is given back by `_release`, which may be repeated and is the last thing in every
state.
"""

import functools
import logging
import math
import threading
import weakref
from types import TracebackType
from typing import Any, Generic, Iterator, Optional, Type, TypeVar

from ._call import Call
from ._interrupts import surely, undone_on_failure
from ._logs import CallLog, Records, logger_for
from ._session.callbacks import Callbacks
from ._session.channel import Channel, Received
from ._session.ending import end_one_shot
from ._session.line import Line, leave
from ._session.outcome import add_output, idle_error, outcome
from ._session.output import Output
from ._session.protocol import Event
from ._session.turns import Ticket
from ._wire.redaction import scrub
from ._wire.request import DEFAULT_KEEP_OUTPUT, Request
from .errors import AgentRuntimeError, CancelledException, ConnectionLostError, SessionStateError, without_traceback
from .messages import StreamedMessage
from .results import CommandExecutionResult, QueryResult

ResultType = TypeVar("ResultType", QueryResult, CommandExecutionResult)


class Run(Generic[ResultType]):
    """A run under way: iterate over it for its messages as they arrive, then read `result`.

    Made by `stream` and `stream_commands` of a client or a session; use it as a context manager. Leaving the context
    before the run has ended cancels it.
    """

    def __init__(self, request: Request, line: Line, keep_output: int = DEFAULT_KEEP_OUTPUT) -> None:
        self._request = request
        self._line = line
        self._call = Call(request.kind, request.options.timeout)
        self._call.secrets = request.secrets
        if request.options.source_id is not None:
            self._call.source_id = scrub(request.options.source_id, request.secrets)
        self._output = Output(request.commands, keep_output, request.secrets)
        self._call.add_output = functools.partial(add_output, self._output)
        self._ticket = Ticket(self._call.wakeup)
        self._callbacks = Callbacks(request.options, self._call, self._ticket)
        self._logger = logger_for(request.options.logger)
        self._records = Records(self._logger)
        self._channel: Optional[Channel] = None
        self._started = False
        self._joined = False
        self._log: Optional[CallLog] = None
        self._concluded = False
        self._finalizer: Optional[weakref.finalize[Any, Any]] = None
        self._result: Optional[ResultType] = None
        self._error: Optional[BaseException] = None
        self._message_count = 0
        self._last_message_type: Optional[str] = None

    def abort(self) -> None:
        """Ends the run: whoever waits for it gets `CancelledException`.

        Never blocks; safe from any thread, callback, signal handler and finalizer. Without effect on a run that has
        ended.
        """
        self._call.abort()

    def __enter__(self) -> "Run[ResultType]":
        """Connects, waits for the session's turn, and sends the request.

        Raises:
            CancelledException, RunTimeoutError: it was aborted, or its deadline passed, meanwhile.
            RuntimeConnectionError: the runtime could not be reached.
            SessionStateError: the session is closed, was opened in another process, or is called from inside one of its
                own callbacks.
        """
        if self._started:
            raise self._call.told(SessionStateError("a run can be entered once only"))
        return undone_on_failure(self._enter, self.close)

    def _enter(self) -> "Run[ResultType]":
        self.start()
        # Not a `__del__`: that would run for every run, and swallow the Ctrl-C that hits it.
        self._finalizer = weakref.finalize(self, leave, self._line, self._channel, self._call, self._ticket)
        self._finalizer.atexit = False
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the run; one that has not ended is cancelled. May be repeated.

        While another thread is reading it, this is as `abort`: that thread leaves it.
        """
        readers = self._ticket.readers
        # In this order: a reader that is gone by the second look has not seen the mark, or leaves it, too.
        readers.left = True
        if readers.elsewhere:
            self._call.abort()
            if readers.elsewhere:
                return
        surely(self._release)
        self._call.own_error = None
        # The one that was raised knows the run, by its traceback: what it carries would be kept by that circle.
        self._error = without_traceback(self._error)

    def forget(self) -> None:
        """Lets go of how it ended, for a run that nobody will ask: the error, and the run, could keep each other."""
        self._error = None

    def __iter__(self) -> Iterator[StreamedMessage]:
        return self

    def __next__(self) -> StreamedMessage:
        """Returns the next message; ends when the run does.

        Raises: what the run ends with, as `RuntimeUseClient.query` and `execute_commands` document it.
        """
        try:
            message = self._next()
        except StopIteration as error:
            # It would end the loop as if all were well (as in generators, PEP 479).
            raise RuntimeError("a callback raised StopIteration") from error
        if message is None:
            raise StopIteration
        return message

    @property
    def result(self) -> ResultType:
        """The run's result; waits for it, if the run has not ended.

        Messages that were not read are passed over (callbacks get them).

        Raises: what the run ended with; `CancelledException` if it was left before its end.
        """
        self._next(to_the_end=True)
        assert self._result is not None
        return self._result

    # Start and end.

    def start(self, *, until_open: bool = True) -> None:
        """What entering the context does; whoever calls this must `close`. Raises as `__enter__`.

        Args:
            until_open: Whether a one-shot waits until it is connected; else only the next message is waited for, which
                spares the caller's thread a turn.
        """
        if self._started:
            raise self._call.told(SessionStateError("a run can be started once only"))
        try:
            self._start(until_open=until_open)
        except BaseException as error:
            self._log_end(error)
            raise

    def _start(self, *, until_open: bool) -> None:
        self._ticket.threads.add(threading.get_ident())
        self._started = True
        self._call.start()
        self._line.started(self._call)
        self._call.check()
        channel = self._channel = self._line.open(self._call)
        if channel.turn.used_by_this_thread():
            raise self._call.told(
                SessionStateError(
                    "this session is in use by the same thread: a call from inside its own callback or run would wait "
                    "for itself"
                )
            )
        options = self._request.options
        if self._logger.isEnabledFor(logging.INFO):
            log = self._log = self._make_log(channel)
            log.begin()
            if self._logger.isEnabledFor(logging.DEBUG):
                self._call.on_sent = log.sent
        if self._line.one_shot:
            channel.connection.records = self._records
            # Before it connects, so that the request goes out the moment it can.
            channel.take_turn(self._call, self._ticket)
            self._begin(channel)
            # The time until it is open is nobody's idleness.
            waits = until_open or options.idle_timeout is not None
            channel.connection.start(self._call.wakeup, wake_on_open=waits)
            if waits:
                channel.wait_until_open(self._call)
        else:
            channel.enter(self._call, self._ticket)
            self._begin(channel)
        self._serve_kept(channel)

    def _begin(self, channel: Channel) -> None:
        options = self._request.options
        if options.on_artifact_upload_request is not None:
            # First: from the request on, the session's end has to wait for files, whatever interrupts this.
            channel.uploads.options = options
        secrets = list(options.secrets_to_redact)
        channel.begin(self._call, self._request.payload, self._request.result_type, secrets, self._logger)

    def _release(self) -> None:
        """Gives back all that was taken; may be repeated."""
        if self._result is None and self._error is None:
            left = CancelledException(f"{self._request.kind.capitalize()} was left before it ended")
            self._error = self._call.told(left)
        leave(self._line, self._channel, self._call, self._ticket)
        connection = self._call.connection
        if self._line.one_shot and connection is not None and not self._joined:
            self._joined = True
            # Who has its answer may wait for a custom transport to end; all others have waited long enough.
            answered = self._concluded and not self._call.aborted
            connection.join(self._call.deadline.remaining() if answered else 0.0)
        if self._finalizer is not None:
            self._finalizer.detach()
        self._log_end(self._error)

    def _make_log(self, channel: Channel) -> CallLog:
        source_id = scrub(str(self._request.options.source_id), [*self._request.secrets, *channel.secrets])
        return CallLog(self._records, self._request.kind, source_id)

    def _log_end(self, error: Optional[BaseException]) -> None:
        channel = self._channel
        lost = isinstance(error, ConnectionLostError) and self._logger.isEnabledFor(logging.WARNING)
        if lost and self._log is None and channel is not None:
            # Told where a call's begin and end are not, too.
            self._log = self._make_log(channel)
        if self._log is not None:
            self._log.end(error, self._message_count)

    # Messages.

    def _next(self, *, to_the_end: bool = False) -> Optional[StreamedMessage]:
        """Returns the next message for the user; `None` when the run has ended well, the only one `to_the_end`."""
        if self._error is not None:
            raise self._error
        if self._result is not None:
            return None
        if self._channel is None:
            raise self._call.told(SessionStateError("a run must be entered first: with client.stream(…) as run: …"))
        readers = self._ticket.readers
        reading = (threading.get_ident(), object())
        try:
            if not readers.enter(reading):
                raise self._call.told(
                    SessionStateError("another thread is reading this run: one that waits for its callback, perhaps")
                )
            try:
                return self._read(self._channel, to_the_end)
            except BaseException as error:
                self._error = error
                raise
        finally:
            if readers.exit(reading):
                self.close()

    def _read(self, channel: Channel, to_the_end: bool) -> Optional[StreamedMessage]:
        call, deadline = self._call, self._call.deadline
        idle = self._request.options.idle_timeout
        output = self._output
        keep = output.add if output.keep else None
        while True:
            batch = channel.next_batch(call, math.inf if idle is None else call.now() + idle)
            if batch is None:
                raise call.told(idle_error(idle, self._message_count, self._last_message_type))
            if batch.end > output.due:
                output.settle(batch.end)
            while batch.position < len(batch.items):
                if call.cancel_wanted or deadline.passed():
                    call.check()
                received = channel.use_next(batch)
                if received is None:
                    continue
                self._message_count += 1
                message = received.message
                if received.event is Event.STREAM:
                    self._last_message_type = message.message_type
                    if keep is not None:
                        keep(message)
                    self._callbacks.deliver(message, self._message_count)
                    if not to_the_end:
                        streamed: StreamedMessage = message
                        return streamed
                elif received.event is Event.ARTIFACT:
                    self._last_message_type = message.message_type
                    self._serve_kept(channel)
                else:
                    if batch.position == len(batch.items):
                        # Nothing is left in the inbox then, which the connection's thread would have to look after.
                        channel.connection.used_up(batch)
                    self._conclude(channel, received)
                    return None
                # A callback may have left the run, which gives up the turn, or read it to its end.
                if self._error is not None:
                    raise self._error
                if self._result is not None:
                    return None

    def _conclude(self, channel: Channel, received: Received) -> None:
        """The terminal has come: ends a one-shot's session, then returns or raises what the run comes to."""
        self._call.check()
        self._concluded = True
        result: Any = None
        error: Optional[AgentRuntimeError] = None
        try:
            result = outcome(self._request, received.message, self._call.secrets, self._output)
        except AgentRuntimeError as raised:
            error = self._call.told(raised)
        options = self._request.options
        try:
            if self._line.one_shot and options.on_artifact_upload_request is not None:
                seconds = options.end_session_timeout
                end_one_shot(channel, self._call, self._callbacks, seconds, result, error, self._logger)
            if error is not None:
                raise error
        finally:
            error = None  # Its traceback knows this frame: the two would keep each other.
        self._result = result

    # Artifacts.

    def _serve_kept(self, channel: Channel) -> None:
        while channel.uploads.can_be_served and self._error is None:
            self._call.check()
            channel.wait_until_answers_are_taken(self._call)
            channel.uploads.serve_next(self._call, self._callbacks)
