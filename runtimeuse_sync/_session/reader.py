"""Reads the messages of one run: calls its callbacks, answers upload requests, and makes its result or its error.

A caller may read in several goes: for the next message, for that within a time (`Paused`), or to the end. Callbacks may
read on, so each step looks again at what has become of the run. Whatever a pause leaves undone, the next go does first:
answers to upload requests, or the end of the session.

The terminal message concludes the run: it becomes the result or the error (`outcome`), in which secrets are masked.
Only a one-shot that asked for artifacts has a session to end before it returns that (`ending.py`).

Threads: only the thread that reads the run.
"""

import functools
import math
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional

from .._call import Call
from .._logs import Logger
from .._wire import validation as check
from .._wire.error_format import MAX_CHARACTERS, beginning_of
from .._wire.redaction import scrub, scrub_value
from .._wire.request import Request
from ..errors import (
    AgentRuntimeError,
    CommandFailedError,
    OutputProblem,
    OutputValidationError,
    ProtocolError,
    RuntimeUseError,
    SessionStateError,
    carry,
)
from ..messages import ErrorMessageInterface, StreamedMessage
from ..options import ExecuteCommandsOptions
from ..results import CommandExecutionResult, CommandResultItem, QueryResult, TextResult, TypedQueryResult
from .callbacks import Callbacks
from .channel import Channel
from .command_results import failed_command, so_far, stdout_seen, with_output
from .ending import OneShotEnd
from .output import Output
from .protocol import Event
from .turns import Ticket

if TYPE_CHECKING:
    from .._wire.output_type import OutputType

_STREAM = Event.STREAM

#: For how many seconds longer than it may a go be busy with messages that it drops.
_SLACK = 0.1

#: The real runtime kills a command that prints more bytes than this to stdout. The exit code is -1 then.
_MAX_STDOUT = 1024 * 1024


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
        ticket: Its place in the queue of the channel's callers.
        keep_output: How many bytes to keep of each stream that it receives, for its result and its errors.
        logger: Where to log.

    Attributes:
        result: The run's result; `None` before its end.
        error: What ended the run instead, for whoever asks again; `None` if nothing has.
        message_count: How many messages it has received.
    """

    def __init__(self, request: Request, call: Call, ticket: Ticket, keep_output: int, logger: Logger) -> None:
        self._request = request
        self._call = call
        self._callbacks = Callbacks(request.options, call, ticket)
        self._output = Output(request.commands, keep_output, request.secrets)
        call.add_output = functools.partial(_add_output, self._output)
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


# The result or the error.


def outcome(request: Request, terminal: Any, secrets: List[str], output: Output) -> Any:
    """Returns the result for a terminal message.

    Args:
        request: The request that the message ends.
        terminal: The terminal message; an exception in place of a malformed one.
        secrets: The secrets to mask in exceptions.
        output: What the run has received. It completes the result; how the run ended is noted in it.

    Raises:
        AgentRuntimeError: The message is an error.
        CommandFailedError: A command exited non-zero, and the request checks exit codes.
        OutputValidationError: The answer does not fit the request's output type.
        ProtocolError: The message is malformed, ends another kind of request, or is text although the request has a
            JSON schema.
        Exception: What a user's validator for the output type raised.
    """
    if isinstance(terminal, Exception):
        raise terminal
    if isinstance(terminal, ErrorMessageInterface):
        raise _error(terminal, secrets, output)
    if terminal.message_type != request.result_type:
        raise ProtocolError(f"the runtime answered a {request.kind} with a {terminal.message_type}")
    if request.result_type == "result_message":
        output.ended = True
        _check_data(request, terminal.data, secrets)
        if request.output_type is not None:
            return _typed_result(request.output_type, terminal, secrets)
        return QueryResult(data=terminal.data, metadata=terminal.metadata)
    output.results = terminal.results
    _check_exit_codes(request, terminal.results, secrets, output)
    return CommandExecutionResult(results=with_output(terminal.results, output))


def _add_output(output: Output, error: RuntimeUseError, call: Call) -> None:
    """Adds to an error of a call what its run has received: the commands' results, and what the agent has said."""
    results = getattr(error, "results", None) or so_far(output, call.secrets, sent=call.sent)
    carry(error, results=results, assistant_texts=output.texts(call.secrets))


def _error(message: ErrorMessageInterface, secrets: List[str], output: Output) -> AgentRuntimeError:
    output.answered = True
    metadata = None if message.metadata is None else scrub_value(message.metadata, secrets)
    said = scrub(message.error, secrets)
    failed = failed_command(message.error, output, secrets)
    if failed is None:
        return AgentRuntimeError(said, metadata)
    results, command, exit_code = failed
    return CommandFailedError(said, metadata, results, command, exit_code)


def _check_data(request: Request, data: Any, secrets: List[str]) -> None:
    if getattr(request.options, "output_format_json_schema_str", None) is None or not isinstance(data, TextResult):
        return
    text = scrub(data.text, secrets)
    raise ProtocolError(
        f"the runtime answered with text, although the query gave a JSON schema: {beginning_of(text, MAX_CHARACTERS)}",
        {"text": text},
    )


def _typed_result(output_type: "OutputType", message: Any, secrets: List[str]) -> "TypedQueryResult[Any]":
    output = message.data.structured_output
    parsed = output_type.parse(output)
    if not parsed.problems:
        return TypedQueryResult(message.data, message.metadata, parsed.value)
    count = f"{len(parsed.problems)} problem{'s' if len(parsed.problems) > 1 else ''}"
    raise OutputValidationError(
        f"the agent's answer does not fit {output_type.name} ({count})",
        errors=[OutputProblem(scrub(each.path, secrets), scrub(each.reason, secrets)) for each in parsed.problems],
        structured_output=scrub_value(output, secrets),
    )


def _check_exit_codes(request: Request, results: List[CommandResultItem], secrets: List[str], output: Output) -> None:
    if not isinstance(request.options, ExecuteCommandsOptions) or not request.options.check:
        return
    for index, item in enumerate(results):
        if item.exit_code:
            command = scrub(item.command, secrets)
            why = ""
            if item.exit_code == -1 and stdout_seen(results, index, output) >= _MAX_STDOUT:
                why = " (it had printed over 1 MiB to stdout, for which the real runtime kills a command)"
            raise CommandFailedError(
                f"command failed with exit code {item.exit_code}{why}: {beginning_of(command)}",
                {"command": command, "exit_code": item.exit_code},
                with_output(results, output, index, secrets),
                command,
                item.exit_code,
            )
