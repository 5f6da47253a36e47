"""Reads the messages of one run, up to its end: calls the callbacks, answers upload requests, and concludes the run.

A caller may read in several goes: for the next message, for that within a time (`Paused`), or to the end. Callbacks may
read on, so each step looks again at what has become of the run. Whatever a pause leaves undone, the next go does first:
answers to upload requests, or the end of the session.

A run is concluded by its terminal message, of which `outcome.py` makes the result or the error. Only a one-shot that
asked for artifacts has a session to end before it returns that (`ending.py`).

Threads: only the thread that reads the run.
"""

import math
from typing import Any, NamedTuple, Optional

from .._call import Call
from .._logs import Logger
from .._wire import validation as check
from .._wire.request import Request
from ..errors import AgentRuntimeError, SessionStateError
from ..messages import StreamedMessage
from .callbacks import Callbacks
from .channel import Channel
from .ending import OneShotEnd
from .outcome import outcome
from .output import Output
from .protocol import Event

_STREAM = Event.STREAM

#: For how many seconds longer than it may a go be busy with messages that it drops.
_SLACK = 0.1


class Paused(Exception):
    """There is no message in time; the run goes on."""


class _Conclusion(NamedTuple):
    """How a run is concluded.

    Attributes:
        result: Its result; `None` if it has failed.
        error: What it raises instead; `None` once it has been raised.
        end: The end of its session, which comes before; `None` if there is none to wait for.
    """

    result: Any
    error: Optional[AgentRuntimeError]
    end: Optional[OneShotEnd]


class Reader:
    """Reads the messages of one run.

    Args:
        request: What the run asks for.
        call: Its call.
        callbacks: Its callbacks.
        output: Keeps what it receives.
        logger: Where to log.

    Attributes:
        result: The run's result; `None` before its end.
        error: What ended the run instead, for whoever asks again; `None` if nothing has.
        message_count: How many messages it has received.
    """

    def __init__(self, request: Request, call: Call, callbacks: Callbacks, output: Output, logger: Logger) -> None:
        self._request = request
        self._call = call
        self._callbacks = callbacks
        self._output = output
        self._logger = logger
        self.result: Any = None
        self.error: Optional[BaseException] = None
        self.message_count = 0
        self._last_message_type: Optional[str] = None
        self._conclusion: Optional[_Conclusion] = None
        self._ends_session = False
        self._idle_until: Optional[float] = None
        self._answers_due = False

    @property
    def has_concluded(self) -> bool:
        """Whether the terminal message has come."""
        return self._conclusion is not None

    def read(self, channel: Channel, to_the_end: bool, pause_at: float) -> Optional[StreamedMessage]:
        """Returns the next message, after its callback; `None` once there is a `result`.

        Args:
            channel: The run's channel.
            to_the_end: Whether to return only at the end.
            pause_at: When to give up for this time, on the call's clock.

        Raises:
            Paused: Neither a message nor the end has come by `pause_at`.
            Exception: What ends the run.
        """
        call, deadline = self._call, self._call.deadline
        idle = check.seconds(self._request.options.idle_timeout)
        hides_first_line = self._request.first_line_hidden
        if hides_first_line:
            from .._wire.command_input import hide_first_lines
        output = self._output
        keep = output.add if output.keep else None
        use_next, deliver, now_is = channel.use_next, self._callbacks.deliver, call.now
        if self._answers_due:
            self.answer_uploads(channel, pause_at)
        while self._conclusion is None:
            batch = channel.next_batch(call, pause_at if idle is None else min(pause_at, self._silent_until(idle)))
            if batch is None:
                if idle is not None and call.now() >= self._silent_until(idle):
                    raise call.prepared(self._idle_error(idle))
                call.ask()
                raise Paused
            self._idle_until = None
            if batch.end > output.due:
                output.settle(batch.end)
            while batch.position < len(batch.items):
                now = now_is()
                if call.cancel_wanted or now >= deadline.at:
                    call.check()
                received = use_next(batch)
                if received is None:
                    call.ask()
                    if now >= pause_at + _SLACK:
                        raise Paused
                    continue
                self.message_count += 1
                message = received.message
                if hides_first_line:
                    hide_first_lines(message)
                if received.event is _STREAM:
                    self._last_message_type = message.message_type
                    if keep is not None:
                        keep(message)
                    if now >= call.ask_at:
                        # Not before a terminal message: a result that comes next has arrived.
                        call.ask()
                    deliver(message, self.message_count)
                    if not to_the_end:
                        streamed: StreamedMessage = message
                        return streamed
                elif received.event is Event.ARTIFACT:
                    self._last_message_type = message.message_type
                    self.answer_uploads(channel, pause_at)
                else:
                    if batch.position == len(batch.items):
                        # Empties the inbox, so that the connection's thread need not look after it.
                        channel.connection.used_up(batch)
                    call.check()
                    self._conclusion = self._concluded_by(message, channel)
                # A callback may have left the run, which gives up the turn, or read on to its terminal message.
                if self.error is not None:
                    raise self.error
                if self._conclusion is not None:
                    break
        if self.result is None:
            self.result = self._result(pause_at)
        return None

    def _concluded_by(self, terminal: Any, channel: Channel) -> _Conclusion:
        """Returns the conclusion of the run by its terminal message; an exception in place of a malformed one."""
        call, options = self._call, self._request.options
        result: Any = None
        failure: Optional[AgentRuntimeError] = None
        end: Optional[OneShotEnd] = None
        try:
            result = outcome(self._request, terminal, call.secrets, self._output)
        except AgentRuntimeError as error:
            failure = call.prepared(error)
        if not channel.persistent and options.on_artifact_upload_request is not None:
            seconds = check.seconds(options.end_session_timeout)
            end = OneShotEnd(channel, call, self._callbacks, seconds, result, failure, self._logger)
        try:
            return _Conclusion(result, failure, end)
        finally:
            del failure  # Its traceback references this frame: drop it to avoid a reference cycle.

    def _result(self, pause_at: float) -> Any:
        """Returns the run's result, once its session has ended.

        Raises:
            Paused: The session has not ended by `pause_at`, on the call's clock.
            AgentRuntimeError: The run has failed.
            SessionStateError: A callback of the session's end asks.
            Exception: What the end of the session raises (`OneShotEnd.wait`).
        """
        conclusion = self._conclusion
        assert conclusion is not None
        try:
            if conclusion.end is not None:
                self._end_session(conclusion.end, pause_at)
            if conclusion.error is not None:
                self._conclusion = conclusion._replace(error=None)
                raise conclusion.error
            return conclusion.result
        finally:
            del conclusion  # The error's traceback references this frame: drop it to avoid a reference cycle.

    def _end_session(self, end: OneShotEnd, pause_at: float) -> None:
        if self._ends_session:
            text = "a run cannot be read from inside an upload callback once its session is ending"
            raise SessionStateError(text, self._call.source_id)
        self._ends_session = True
        try:
            if not end.wait(pause_at):
                raise Paused
        finally:
            self._ends_session = False

    def forget_conclusion(self) -> None:
        """Drops the conclusion of a run that will not be read on: its error's traceback may reference it."""
        self._conclusion = None

    def _silent_until(self, idle: float) -> float:
        """Returns until when the runtime may be silent: always the same until something has come."""
        if self._idle_until is None:
            self._idle_until = self._call.now() + idle
        return self._idle_until

    def _idle_error(self, seconds: float) -> AgentRuntimeError:
        """Returns the error for a runtime that sent no message for `seconds`, the `idle_timeout`."""
        return AgentRuntimeError(
            f"No message received from agent runtime for {seconds:g}s",
            {
                "timeout_type": "idle_timeout",
                "idle_timeout": seconds,
                "last_message_type": self._last_message_type,
                "message_count": self.message_count,
                "phase": "waiting_for_message",
            },
        )

    def answer_uploads(self, channel: Channel, pause_at: float = math.inf) -> None:
        """Answers the upload requests that have come.

        Raises:
            Paused: Some are left at `pause_at`, on the call's clock.
            Exception: What ends the run.
        """
        call, self._answers_due = self._call, False
        while channel.uploads.can_be_served and self.error is None:
            call.check()
            call.ask()
            are_taken = channel.wait_until_answers_are_taken(call, pause_at)
            if are_taken:
                channel.uploads.serve_next(call, self._callbacks)
            if not are_taken or call.now() >= pause_at:
                self._answers_due = True
                raise Paused
