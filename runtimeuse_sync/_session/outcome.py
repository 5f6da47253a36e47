"""The outcome of a call: the result or the error for a terminal message. Secrets are masked in errors.

Threads: none. The functions do no I/O.
"""

from typing import TYPE_CHECKING, Any, List

from .._call import Call
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
    carry,
)
from ..messages import ErrorMessageInterface
from ..options import ExecuteCommandsOptions
from ..results import CommandExecutionResult, CommandResultItem, QueryResult, TextResult, TypedQueryResult
from .command_results import failed_command, so_far, stdout_seen, with_output
from .output import Output

if TYPE_CHECKING:
    from .._wire.output_type import OutputType

#: The real runtime kills a command that prints more bytes than this to stdout. The exit code is -1 then.
_MAX_STDOUT = 1024 * 1024


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


def add_output(output: Output, error: RuntimeUseError, call: Call) -> None:
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
