"""From what a user calls to a request ready to be sent: defaults, merging, checks. No threads run here."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

from ..messages import CommandInterface
from ..options import ExecuteCommandsOptions, Options, QueryOptions, check_command, copied_command, merge_options
from . import codec
from . import validation as check

#: The longest message that runtimes accept, in bytes (PROTOCOL.md, "Frame level").
MAX_REQUEST_SIZE = 100 * 1024 * 1024

#: How many bytes of output the client keeps per command and stream by default.
DEFAULT_KEEP_OUTPUT = 1024 * 1024


class RequestedCommands(NamedTuple):
    """The commands that the runtime was asked to run.

    Attributes:
        commands: Their texts, in order; a query's pre-agent commands, then its post-agent ones.
        before_agent: How many are to run before the agent; `None` where there is no agent.
        secrets: What the runtime masks in them.
    """

    commands: Sequence[str] = ()
    before_agent: Optional[int] = None
    secrets: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"RequestedCommands({len(self.commands)} commands)"


class Request(NamedTuple):
    """What a run asks of the runtime.

    Attributes:
        kind: "query" or "command execution".
        payload: The message, as it goes out.
        result_type: The `message_type` of the result that ends it.
        options: The call's options, complete.
        secrets: What must not appear in an exception's text.
        commands: The commands that are to run.
    """

    kind: str
    payload: bytes
    result_type: str
    options: Options
    secrets: List[str]
    commands: RequestedCommands = RequestedCommands()

    def __repr__(self) -> str:
        return f"Request({self.kind!r}, {len(self.payload)} bytes)"


class Defaults:
    """What a client fills in where a call says nothing."""

    def __init__(
        self, model: Optional[str], system_prompt: Optional[str], keep_output: int = DEFAULT_KEEP_OUTPUT
    ) -> None:
        if model is not None:
            check.check_text("model", model)
        if system_prompt is not None:
            check.check_str("system_prompt", system_prompt)
        check.check_size("keep_output", keep_output, none_at_all=True)
        self.keep_output = keep_output
        self.model = model
        self.system_prompt = system_prompt


def query_request(
    prompt: str, options: Optional[QueryOptions], keywords: Dict[str, Any], defaults: Defaults, call: str
) -> Request:
    """Returns the request of a query.

    Raises:
        TypeError: an argument has the wrong type, or a keyword is no option.
        ValueError: an argument has a value that cannot be, or no model is known.
    """
    check.check_text("prompt", prompt)
    merged = merge_options(QueryOptions, options, keywords, call)
    model = merged.model if merged.model is not None else defaults.model
    if model is None:
        raise ValueError("model is not set: pass model=… to the call, or to RuntimeUseClient")
    system_prompt = merged.system_prompt if merged.system_prompt is not None else defaults.system_prompt
    message = codec.encode_query(prompt, system_prompt or "", model, merged)
    before, after = merged.pre_agent_invocation_commands or [], merged.post_agent_invocation_commands or []
    texts = [command.command for command in (*before, *after)]
    requested = RequestedCommands(texts, len(before), list(merged.secrets_to_redact))
    return Request("query", _encode(message), "result_message", merged, merged.secret_values(), requested)


def commands_request(
    commands: Sequence[Union[str, CommandInterface]],
    options: Optional[ExecuteCommandsOptions],
    keywords: Dict[str, Any],
    call: str,
) -> Request:
    """Returns the request to execute commands; raises as `query_request`."""
    checked = _checked_commands(commands)
    merged = merge_options(ExecuteCommandsOptions, options, keywords, call)
    secrets = merged.secret_values()
    for command in checked:
        secrets += command.secret_values()
    message = codec.encode_commands(checked, merged)
    requested = RequestedCommands([command.command for command in checked], None, list(merged.secrets_to_redact))
    return Request(
        "command execution", _encode(message), "command_execution_result_message", merged, secrets, requested
    )


def _checked_commands(commands: Sequence[Union[str, CommandInterface]]) -> List[CommandInterface]:
    if isinstance(commands, (str, CommandInterface)):
        raise TypeError('commands must be a list of commands, such as ["ls", "pwd"]')
    check.check_type("commands", commands, (list, tuple), "a list of str or CommandInterface")
    if not commands:
        raise ValueError("commands must not be empty")
    checked = []
    for index, command in enumerate(commands):
        if isinstance(command, str):
            command = CommandInterface(command)
        check.check_type(f"commands[{index}]", command, CommandInterface, "a str or a CommandInterface")
        command = copied_command(command)
        check_command(f"commands[{index}]", command)
        checked.append(command)
    return checked


def _encode(message: codec.Wire) -> bytes:
    payload = codec.encode(message)
    if len(payload) > MAX_REQUEST_SIZE:
        raise ValueError(f"the request has {len(payload)} bytes; a runtime accepts {MAX_REQUEST_SIZE} at most")
    return payload
