"""Calls that make several requests and have one span: operations on files, and a command with a large input.

The requests of an operation are runs of their own, which know by their logger that they are parts; they only tell the
operation's span where they go. A command with a large input is a run, too, with an operation before it that writes the
input to a file, and perhaps one after it that removes the file: the span of the call covers all of them, and its main
run shows in it what it would show in its own.

Both calls are functions that return when the call has ended. So those that stand in their place need no state of their
own, and one that has begun goes on when the instrumentation is turned off.

Threads: those that make the calls.
"""

from typing import Any, Callable, List, NamedTuple, Optional, TypeVar

from opentelemetry import context as otel_context

from .._interrupts import cleaned_up
from .._logs import PARTS_LOGGER
from .._wire.redaction import scrub
from .._wire.request import Request
from ..run import Run
from . import _attributes as attributes
from ._runs import TracedRun, begin_span
from ._telemetry import CallSpan, Telemetry

_T = TypeVar("_T")

#: The keys of the context under which requests find the operation, or the command, that they are parts of.
_OPERATION = "runtimeuse_sync.operation"
_COMMAND = "runtimeuse_sync.command"


class _Command(NamedTuple):
    """A command with a large input: its span, and its main request."""

    span: CallSpan
    payload: bytes


def _current_command() -> Optional[_Command]:
    command = otel_context.get_value(_COMMAND)
    return command if isinstance(command, _Command) else None


def traced_runs(telemetry: Telemetry) -> Callable[..., "Run[Any]"]:
    """Returns the method of clients and sessions that makes their runs."""

    def new_run(owner: Any, request: Request, *arguments: Any, **keywords: Any) -> "Run[Any]":
        if request.options.logger is PARTS_LOGGER:
            whole = otel_context.get_value(_OPERATION)
            if isinstance(whole, CallSpan):
                whole.show(attributes.of_server(owner._origin))
            return Run(request, *arguments, **keywords)
        command = _current_command()
        whole = command.span if command is not None and command.payload is request.payload else None
        return TracedRun(telemetry, owner._origin, whole, request, *arguments, **keywords)

    return new_run


def traced_operations(telemetry: Telemetry, perform: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Returns what stands in the place of `Operation.perform`."""

    def traced_perform(operation: Any, body: Any) -> Any:
        if _current_command() is not None:
            return perform(operation, body)
        name = attributes.FILE_OPERATIONS.get(operation._kind, "files")
        return _within(
            lambda: telemetry.begin(name, {attributes.CALL: name}),
            lambda: perform(operation, body),
            _OPERATION,
            lambda span: span,
        )

    return traced_perform


def traced_inputs(telemetry: Telemetry, run: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what stands in the place of `ShellCommands._run_after_writing`."""

    def traced_run(owner: Any, request: Request, *arguments: Any) -> Any:
        source_id = request.options.source_id
        masked = None if source_id is None else scrub(source_id, request.secrets)
        return _within(
            lambda: begin_span(telemetry, owner._origin, request, masked),
            lambda: run(owner, request, *arguments),
            _COMMAND,
            lambda span: _Command(span, request.payload),
        )

    return traced_run


def _within(
    begin: Callable[[], Optional[CallSpan]], body: Callable[[], _T], key: str, value: Callable[[CallSpan], object]
) -> _T:
    """Returns what `body` returns, and makes a span of it.

    Args:
        begin: Begins the span; `None` if there is none.
        body: The call.
        key: A key of the context under which `body` finds a value.
        value: Returns that value, given the span.
    """
    begun: List[CallSpan] = []

    def inside() -> _T:
        span = begin()
        if span is None:
            return body()
        begun.append(span)
        try:
            return span.during(body, key, value(span))
        except BaseException as error:
            span.show(attributes.of_error(type(error)))
            raise

    def end() -> None:
        for span in begun:
            span.end()

    return cleaned_up(inside, end)
