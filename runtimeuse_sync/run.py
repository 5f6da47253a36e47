"""A run: one request, from its start to its result. `query` and `execute_commands` each complete one run.

This module owns what happens in the caller's thread: it starts the request on a channel, has the reader
(`_session/reader.py`) receive its messages and conclude it, and leaves the channel. Whoever leaves a run early aborts
it: by `break`, by an exception of a callback, or by Ctrl-C.

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
from ._logs import CallLog, logger_for
from ._session.channel import Channel
from ._session.lines import LineIterator, Lines
from ._session.reader import Paused, Reader
from ._session.turns import Ticket
from ._wire import validation as check
from ._wire.redaction import scrub
from ._wire.request import DEFAULT_KEEP_OUTPUT, Request
from ._wire.validation import Seconds
from .errors import CancelledException, SessionStateError, without_traceback
from .messages import OutputLine, StreamedMessage
from .results import CommandExecutionResult, QueryResult

ResultType_co = TypeVar("ResultType_co", bound=Union[QueryResult, CommandExecutionResult], covariant=True)

IN_USE = "this session is in use by the same thread: a call from inside its own callback or run would wait for itself"


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
        self._ticket = Ticket(self._call.wakeup, abort=self._call.abort)
        self._release_call = release
        self._channel: Optional[Channel] = None
        self._started = False
        self._joined = False
        logger = logger_for(request.options.logger)
        self._log = CallLog(logger, request.kind, request.options.source_id)
        self._reader = Reader(request, self._call, self._ticket, keep_output, logger)
        self._lines: Optional[Lines] = None
        self._finalizer: Optional[weakref.finalize[Any, Any]] = None

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

    def _enter(self, *, until_open: bool = True) -> "Run[ResultType_co]":
        self._start(until_open=until_open)
        # Not a `__del__`: that would run for every run, and swallow a Ctrl-C that hits it.
        # Repeated where an interrupt hits it: CPython prints such an interrupt and goes on.
        give_back = functools.partial(_give_back, self._channel, self._call, self._ticket, self._release_call)
        self._finalizer = weakref.finalize(self, surely, give_back)
        self._finalizer.atexit = False
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self.close()
        except BaseException:
            # The interrupt may have come before the first line of `close`, which then has done nothing.
            surely(self.close)
            raise

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
        self._reader.error = without_traceback(self._reader.error)
        self._reader.forget_conclusion()

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
            Exception: Whatever a callback or `cancel_when` raised.
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

    def next(self, timeout: Optional[Seconds] = None) -> Optional[StreamedMessage]:
        """Returns the next message, after its callback; `None` once the run has ended with a result.

        Unlike a loop over the run, this returns in time: to do something else meanwhile, and to go on reading later.

        Args:
            timeout: The most seconds, or a `timedelta`, to wait for the message or for the run's end; 0 only takes what
                has arrived. `None`, the default, is no limit. Callbacks may take longer.

        Raises:
            TimeoutError: There is no message yet, and the run goes on: its own time limit is a `RunTimeoutError`.
            TypeError: `timeout` is neither a number nor a `timedelta`.
            ValueError: `timeout` is negative or NaN.
            Exception: Whatever ended the run, as iterating over it raises it.
        """
        seconds = check.seconds(timeout)
        try:
            check.check_wait("timeout", seconds)
            return self._next(pause_at=math.inf if seconds is None else self._call.now() + seconds)
        except Paused:
            raise TimeoutError(f"no message has come within {seconds:g} s; the run goes on") from None
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception

    def lines(self) -> Iterator[OutputLine]:
        """Iterates over whole lines instead of messages, however the output was cut into chunks.

        A line has `stream`, `text` and `command`. It ends with a line feed; `text` is without that, and without a
        carriage return before it. The unfinished last line of a stream comes when its command has ended, also if the
        run fails then: the run's error comes after it. Lines of stdout and stderr come in the order in which they are
        completed. The agent's messages come as lines of the stream `"assistant"`; the last line of each needs no line
        feed. A line of more than 16 Mi characters comes in pieces of so many.

        Each message is read once: by this, by `next` or by a loop over the run. Callbacks get all messages as usual.
        Call this as often as you like; each iterator goes on where the one before has stopped.

        Raises:
            Exception: Iterating raises what iterating over the run raises.
        """
        if self._lines is None:
            self._lines = Lines()
        return LineIterator(self._lines, functools.partial(next, self, None), self._has_failed_by)

    def _has_failed_by(self, error: BaseException) -> bool:
        """Returns whether the exception is the run's own: it will be raised again, so it may be held back."""
        return error is self._reader.error and self._call.is_own(error)

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
            Exception: Whatever a callback or `cancel_when` raised.
        """
        try:
            self._next(to_the_end=True)
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
        result: ResultType_co = self._reader.result
        return result

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
            self._log.end(error, self._reader.message_count)
            raise

    def _send(self, *, until_open: bool) -> None:
        call, ticket, options = self._call, self._ticket, self._request.options
        ticket.threads.add(threading.get_ident())
        if self._channel is None:
            call.start()
        call.check()
        if self._channel is None:
            self._channel = self._acquire(call)
            if self._channel.turn.used_by_this_thread():
                raise call.prepared(SessionStateError(IN_USE))
        channel = self._channel
        call.on_sent = self._log.begin(self._request.secrets + channel.secrets)
        if channel.persistent:
            channel.enter(call, ticket)
            self._begin(channel)
            # Those that came before, between two calls.
            self._reader.answer_uploads(channel)
        else:
            channel.take_turn(call, ticket)
            if not until_open and options.on_artifact_upload_request is None:
                channel.connection.closes_after = self._request.result_type
            # Before the connection starts, so that the request is sent the moment it opens.
            self._begin(channel)
            # `idle_timeout` begins when the connection is open.
            waits = until_open or options.idle_timeout is not None
            channel.connection.start(call.wakeup, wake_on_open=waits, records=self._log.records)
            if waits:
                channel.wait_until_open(call)

    def _reserve(self) -> None:
        """Takes a place in the session's queue, or makes the connection, for another thread that starts the run."""
        self._call.start()
        channel = self._channel = self._acquire(self._call)
        channel.turn.join(self._ticket)

    def _begin(self, channel: Channel) -> None:
        request = self._request
        # First: once the request is sent, the session's end must wait for files, whatever interrupts this.
        channel.uploads.begin(request.options, self._call.secrets)
        secrets = list(request.options.secrets_to_redact)
        channel.begin(self._call, request.payload, request.result_type, secrets, self._log.logger)

    def _release(self) -> None:
        """Gives back everything that the run has taken; may be repeated."""
        if self._reader.result is None and self._reader.error is None:
            left = CancelledException(f"{self._request.kind.capitalize()} was left before it ended")
            self._reader.error = self._call.prepared(left)
        channel = self._channel
        _give_back(channel, self._call, self._ticket, self._release_call)
        if channel is not None and not channel.persistent and not self._joined:
            self._joined = True
            # With a result there is time left to wait for a custom transport to end; otherwise the caller has waited
            # long enough.
            has_time = self._reader.has_concluded and not self._call.aborted
            channel.connection.join(self._call.deadline.remaining() if has_time else 0.0)
        if self._finalizer is not None:
            self._finalizer.detach()
        self._log.end(self._reader.error, self._reader.message_count)

    # Messages.

    def _next(self, *, to_the_end: bool = False, pause_at: float = math.inf) -> Optional[StreamedMessage]:
        """Returns the next message, or `None` once the run has ended well; with `to_the_end` only returns then.

        Raises `Paused` if neither has come by `pause_at`, on the call's clock.
        """
        reader = self._reader
        if reader.error is not None:
            raise reader.error
        if reader.result is not None:
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
                return reader.read(self._channel, to_the_end, pause_at)
            except Paused:
                raise
            except BaseException as error:
                reader.error = error
                raise
        finally:
            if readers.exit(reading):
                self.close()


def complete(run: "Run[ResultType_co]", read: Optional[Callable[[], None]] = None) -> ResultType_co:
    """Runs a request to its end and returns the result; gives back everything that the run took, whatever happens.

    Args:
        run: The run.
        read: Called once the run has started: to read its messages. What is left of them goes only to the callbacks.
    """

    def start_and_wait() -> ResultType_co:
        run._start(until_open=False)
        if read is not None:
            read()
        return run.result

    try:
        return cleaned_up(start_and_wait, run.close)
    except BaseException as error:
        raise shortened(error)  # noqa: B904  # the same exception
    finally:
        # Nobody will ask this run again. The error's traceback references the run: drop it to avoid a reference cycle.
        run._reader.error = None


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
