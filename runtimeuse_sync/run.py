"""A run: one request, from its start to its result. `query` and `execute_commands` each complete one run.

This module owns what happens in the caller's thread: it starts the request on a channel, reads the messages, calls the
callbacks, and turns the terminal message into a result or an exception.

Threads: one thread at a time reads a `Run`: it gets the messages and the result, and its callbacks run there. Any
thread may `abort`; `close` only aborts while another thread is reading. The connection's thread works in the background
(`_connection/base.py`).

States: new → started → ended (with a result or an error), or left early, which cancels the request. `_release` gives
back what the run has taken: its turn on a session, or its own connection. It is the last step in every state, and may
be repeated.
"""

import functools
import math
import threading
import weakref
from types import TracebackType
from typing import Any, Callable, Generic, Iterator, Optional, Type, TypeVar, Union

from ._call import Call, shortened
from ._interrupts import cleaned_up, surely, undone_on_failure
from ._logs import CallLog, Records, logger_for
from ._session.callbacks import Callbacks
from ._session.channel import Channel, Received
from ._session.ending import end_one_shot
from ._session.outcome import add_output, idle_error, outcome
from ._session.output import Output
from ._session.protocol import Event
from ._session.turns import Ticket
from ._wire import validation as check
from ._wire.command_input import hide_first_lines
from ._wire.defaults import DEFAULT_KEEP_OUTPUT
from ._wire.redaction import scrub
from ._wire.request import Request
from .errors import AgentRuntimeError, CancelledException, SessionStateError, without_traceback
from .messages import StreamedMessage
from .results import CommandExecutionResult, QueryResult

ResultType_co = TypeVar("ResultType_co", bound=Union[QueryResult, CommandExecutionResult], covariant=True)

_IN_USE = "this session is in use by the same thread: a call from inside its own callback or run would wait for itself"


def _nothing(_: Call) -> None:
    return


class Run(Generic[ResultType_co]):
    """A request in progress: iterate over it for its messages as they arrive, then read `result`.

    `stream` and `stream_commands` of a client or a session return it. Use it as a context manager: leaving the context
    before the run has ended cancels the request.
    """

    def __init__(
        self,
        request: Request,
        acquire: Callable[[Call], Channel],
        release: Callable[[Call], None] = _nothing,
        keep_output: int = DEFAULT_KEEP_OUTPUT,
    ) -> None:
        # acquire: returns the channel for the call; a new one, not persistent, has a connection that is not started.
        # release: called when the run is over; may be called repeatedly, and without `acquire`.
        self._request = request
        self._acquire = acquire
        self._call = Call(request.kind, check.seconds(request.options.timeout))
        self._call.secrets = request.secrets
        if request.options.cancel_when is not None:
            self._call.ask_every(check.seconds(request.options.cancel_poll_interval), request.options.cancel_when)
        if request.options.source_id is not None:
            self._call.source_id = scrub(request.options.source_id, request.secrets)
        self._output = Output(request.commands, keep_output, request.secrets)
        self._call.add_output = functools.partial(add_output, self._output)
        self._ticket = Ticket(self._call.wakeup)
        self._callbacks = Callbacks(request.options, self._call, self._ticket)
        self._release_call = release
        self._logger = logger_for(request.options.logger)
        self._records = Records(self._logger)
        self._channel: Optional[Channel] = None
        self._started = False
        self._joined = False
        self._log = CallLog(self._records, request.kind, request.options.source_id)
        self._concluded = False
        self._finalizer: Optional[weakref.finalize[Any, Any]] = None
        self._result: Optional[ResultType_co] = None
        self._error: Optional[BaseException] = None
        self._message_count = 0
        self._last_message_type: Optional[str] = None

    def abort(self) -> None:
        """Cancels the run: the thread that waits for it gets a `CancelledException`.

        Never blocks; safe from any thread, callback, signal handler and finalizer. Has no effect on a run that has
        ended.
        """
        self._call.abort()

    def __enter__(self) -> "Run[ResultType_co]":
        """Connects or waits for the session's turn, and sends the request.

        Raises:
            CancelledException: The run was aborted meanwhile.
            RunTimeoutError: Its `timeout` passed meanwhile.
            RuntimeConnectionError: The runtime could not be reached; as a `ConnectionLostError`, the session's
                connection was lost.
            SessionStateError: The session is closed, was opened in another process, or is called from inside one of its
                own callbacks or runs; or this run has been entered before.
        """
        if self._started:
            raise self._call.prepared(SessionStateError("a run can be entered only once"))
        try:
            return undone_on_failure(self._enter, self.close)
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception

    def _enter(self) -> "Run[ResultType_co]":
        self._start(until_open=True)
        # Not a `__del__`: that would run for every run, and swallow a Ctrl-C that hits it.
        # Repeated where an interrupt hits it: CPython prints such an interrupt and goes on.
        give_back = functools.partial(_give_back, self._channel, self._call, self._ticket, self._release_call)
        self._finalizer = weakref.finalize(self, surely, give_back)
        self._finalizer.atexit = False
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the run; cancels it if it has not ended. May be repeated.

        While another thread is reading the run, this only aborts it; that thread then leaves it.
        """
        readers = self._ticket.readers
        # In this order: a reader that has finished before the second check either saw `left`, or is gone.
        readers.left = True
        if readers.elsewhere:
            self._call.abort()
            if readers.elsewhere:
                return
        surely(self._release)
        self._call.own_error = None
        # The traceback references this run: drop it to avoid a reference cycle.
        self._error = without_traceback(self._error)

    def __iter__(self) -> Iterator[StreamedMessage]:
        return self

    def __next__(self) -> StreamedMessage:
        """Waits for the next message and returns it, after its callback, if it has one.

        Raises:
            StopIteration: The run has ended with a result.
            AgentRuntimeError: The runtime answered with an error, or `idle_timeout` or a callback's timeout passed.
            CommandFailedError: A command exited non-zero; for `stream_commands` unless `check=False`.
            OutputValidationError: The answer does not fit the query's `output_type`.
            CancelledException: The run was aborted, or left before its end.
            RunTimeoutError: The run's `timeout` passed, or its session did not end within `end_session_timeout`.
            RuntimeConnectionError: The runtime could not be reached; as a `ConnectionLostError`, the connection was
                lost.
            ProtocolError: The runtime broke the protocol.
            ArtifactUploadError: A one-shot's runtime did not wait for all answers to its upload requests.
            SessionStateError: The run has not been entered, or another thread is reading it.
            Exception: Whatever a callback raised.
        """
        try:
            message = self._next()
        except StopIteration as error:
            # It would end the loop as if the run had ended well (as in generators, PEP 479).
            raise RuntimeError("a callback raised StopIteration") from error
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
        if message is None:
            raise StopIteration
        return message

    @property
    def result(self) -> ResultType_co:
        """The run's result. Waits until the run has ended; messages not yet read go only to their callbacks.

        Raises:
            AgentRuntimeError: The runtime answered with an error, or `idle_timeout` or a callback's timeout passed.
            CommandFailedError: A command exited non-zero; for `stream_commands` unless `check=False`.
            OutputValidationError: The answer does not fit the query's `output_type`.
            CancelledException: The run was aborted, or left before its end.
            RunTimeoutError: The run's `timeout` passed, or its session did not end within `end_session_timeout`.
            RuntimeConnectionError: The runtime could not be reached; as a `ConnectionLostError`, the connection was
                lost.
            ProtocolError: The runtime broke the protocol.
            ArtifactUploadError: A one-shot's runtime did not wait for all answers to its upload requests.
            SessionStateError: The run has not been entered, or another thread is reading it.
            Exception: Whatever a callback raised.
        """
        try:
            self._next(to_the_end=True)
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
        assert self._result is not None
        return self._result

    # Start and end.

    def _start(self, *, until_open: bool) -> None:
        """Acquires the channel and sends the request; whoever calls this must `close`, also if it raises.

        Args:
            until_open: Whether to wait until a connection of the run's own is open. Otherwise only the first message is
                waited for, which spares the caller's thread one wake-up.
        """
        self._started = True
        try:
            self._send(until_open=until_open)
        except BaseException as error:
            self._log.end(error, self._message_count)
            raise

    def _send(self, *, until_open: bool) -> None:
        call, ticket, options = self._call, self._ticket, self._request.options
        ticket.threads.add(threading.get_ident())
        call.start()
        call.check()
        channel = self._channel
        if channel is None:
            channel = self._acquire(call)
            self._channel = channel
            if channel.turn.used_by_this_thread():
                raise call.prepared(SessionStateError(_IN_USE))
        call.on_sent = self._log.begin([*self._request.secrets, *channel.secrets])
        if channel.persistent:
            channel.enter(call, ticket)
            self._begin(channel)
        else:
            channel.take_turn(call, ticket)
            # Before the connection starts, so that the request is sent the moment it opens.
            self._begin(channel)
            # `idle_timeout` begins when the connection is open.
            waits = until_open or options.idle_timeout is not None
            channel.connection.start(call.wakeup, wake_on_open=waits, records=self._records)
            if waits:
                channel.wait_until_open(call)
        self._answer_uploads(channel)

    def _reserve(self) -> None:
        """Takes a place in the session's queue, or makes the connection, for another thread that starts the run."""
        channel = self._channel = self._acquire(self._call)
        channel.turn.join(self._ticket)

    def _begin(self, channel: Channel) -> None:
        request = self._request
        # First: once the request is sent, the session's end must wait for files, whatever interrupts this.
        channel.uploads.begin(request.options, self._call.secrets)
        secrets = list(request.options.secrets_to_redact)
        channel.begin(self._call, request.payload, request.result_type, secrets, self._logger)

    def _release(self) -> None:
        """Gives back everything that the run has taken; may be repeated."""
        if self._result is None and self._error is None:
            left = CancelledException(f"{self._request.kind.capitalize()} was left before it ended")
            self._error = self._call.prepared(left)
        channel = self._channel
        _give_back(channel, self._call, self._ticket, self._release_call)
        if channel is not None and not channel.persistent and not self._joined:
            self._joined = True
            # With a result there is time left to wait for a custom transport to end; otherwise the caller has waited
            # long enough.
            has_time = self._concluded and not self._call.aborted
            channel.connection.join(self._call.deadline.remaining() if has_time else 0.0)
        if self._finalizer is not None:
            self._finalizer.detach()
        self._log.end(self._error, self._message_count)

    # Messages.

    def _next(self, *, to_the_end: bool = False) -> Optional[StreamedMessage]:
        """Returns the next message, or `None` once the run has ended well; with `to_the_end` only returns then."""
        if self._error is not None:
            raise self._error
        if self._result is not None:
            return None
        if self._channel is None:
            raise self._call.prepared(SessionStateError("a run must be entered first: with client.stream(…) as run: …"))
        if self._call.asking:
            text = "a run cannot be read from inside its own cancel_when"
            raise SessionStateError(text, self._call.source_id)
        readers = self._ticket.readers
        reading = (threading.get_ident(), object())
        try:
            if not readers.enter(reading):
                raise self._call.prepared(
                    SessionStateError("another thread is reading this run; it may be waiting for its callback")
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
        idle = check.seconds(self._request.options.idle_timeout)
        output = self._output
        keep = output.add if output.keep else None
        while True:
            batch = channel.next_batch(call, math.inf if idle is None else call.now() + idle)
            if batch is None:
                raise call.prepared(idle_error(idle, self._message_count, self._last_message_type))
            if batch.end > output.due:
                output.settle(batch.end)
            while batch.position < len(batch.items):
                now = call.now()
                if call.cancel_wanted or now >= deadline.at:
                    call.check()
                received = channel.use_next(batch)
                if received is None:
                    call.ask()
                    continue
                self._message_count += 1
                message = received.message
                if self._request.first_line_hidden:
                    hide_first_lines(message)
                if received.event is Event.STREAM:
                    self._last_message_type = message.message_type
                    if keep is not None:
                        keep(message)
                    if now >= call.ask_at:
                        # Not before a terminal message: a result that comes next has arrived.
                        call.ask()
                    self._callbacks.deliver(message, self._message_count)
                    if not to_the_end:
                        streamed: StreamedMessage = message
                        return streamed
                elif received.event is Event.ARTIFACT:
                    self._last_message_type = message.message_type
                    self._answer_uploads(channel)
                else:
                    if batch.position == len(batch.items):
                        # Empties the inbox, so that the connection's thread need not look after it.
                        channel.connection.used_up(batch)
                    self._conclude(channel, received)
                    return None
                # A callback may have left the run, which gives up the turn, or read it to its end.
                if self._error is not None:
                    raise self._error
                if self._result is not None:
                    return None

    def _conclude(self, channel: Channel, received: Received) -> None:
        """Sets the result of the terminal message, or raises its error; ends the session of a one-shot before."""
        self._call.check()
        self._concluded = True
        result: Any = None
        error: Optional[AgentRuntimeError] = None
        try:
            result = outcome(self._request, received.message, self._call.secrets, self._output)
        except AgentRuntimeError as raised:
            error = self._call.prepared(raised)
        options = self._request.options
        try:
            if not channel.persistent and options.on_artifact_upload_request is not None:
                seconds = check.seconds(options.end_session_timeout)
                end_one_shot(channel, self._call, self._callbacks, seconds, result, error, self._logger)
            if error is not None:
                raise error
        finally:
            error = None  # Its traceback references this frame: drop it to avoid a reference cycle.
        self._result = result

    # Artifacts.

    def _answer_uploads(self, channel: Channel) -> None:
        while channel.uploads.can_be_served and self._error is None:
            self._call.check()
            self._call.ask()
            channel.wait_until_answers_are_taken(self._call)
            channel.uploads.serve_next(self._call, self._callbacks)


def complete(run: "Run[ResultType_co]") -> ResultType_co:
    """Runs a request to its end and returns the result; gives back everything that the run took, whatever happens."""

    def start_and_wait() -> ResultType_co:
        run._start(until_open=False)
        return run.result

    try:
        return cleaned_up(start_and_wait, run.close)
    except BaseException as error:
        raise shortened(error)  # noqa: B904  # the same exception
    finally:
        # Nobody will ask this run again. The error's traceback references the run: drop it to avoid a reference cycle.
        run._error = None


def _give_back(channel: Optional[Channel], call: Call, ticket: Ticket, release: Callable[[Call], None]) -> None:
    """Gives back what a run has taken; never blocks, and may be repeated.

    A function, because a run's finalizer calls it, and must not reference the run.
    """
    call.given_back = True
    if channel is not None:
        channel.leave(call, ticket)
        if not channel.persistent:
            channel.connection.close()
    release(call)
