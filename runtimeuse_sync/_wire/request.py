"""Turns the arguments of a call into a request ready to be sent: checks them, and encodes the message.

Threads: pure functions; each runs in its caller's thread.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from ..messages import CommandInterface
from ..options import ExecuteCommandsOptions, Options, QueryOptions, check_command
from . import codec
from . import validation as check
from .defaults import Defaults, copied_command
from .validation import SandboxPath

if TYPE_CHECKING:
    # Imported by the first query that has an output type.
    from .output_type import OutputType

#: The largest message that runtimes accept, in bytes (PROTOCOL.md, "Frame level").
MAX_REQUEST_SIZE = 100 * 1024 * 1024


#: Commands as an argument: a list of them, or a single one.
Commands = Union[str, CommandInterface, Sequence[Union[str, CommandInterface]]]


class RequestedCommands(NamedTuple):
    """The commands that the runtime is asked to run.

    Attributes:
        commands: Their texts, in order: for a query, its pre-agent commands and then its post-agent commands.
        before_agent: How many of them run before the agent; `None` for a request without an agent.
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
        payload: The encoded message.
        result_type: The `message_type` of the result that ends the request.
        options: The call's options, keywords included.
        secrets: Strings that must not appear in an exception's text.
        commands: The commands to run.
        output_type: What a query's answer is made into; `None` if it stays as it is.
        first_line_hidden: Whether the first line of the command is the client's own, which users do not see.
    """

    kind: str
    payload: bytes
    result_type: str
    options: Options
    secrets: List[str]
    commands: RequestedCommands = RequestedCommands()
    output_type: "Optional[OutputType]" = None
    first_line_hidden: bool = False

    def __repr__(self) -> str:
        return f"Request({self.kind!r}, {len(self.payload)} bytes)"


def query_request(
    prompt: str,
    options: Optional[QueryOptions],
    keywords: Dict[str, Any],
    defaults: Defaults,
    call: str,
    output_type: Any = None,
) -> Request:
    """Returns the request of a query.

    Args:
        prompt: The user prompt.
        options: The options object; `None` if the call has none.
        keywords: The call's keywords, which take precedence over `options`.
        defaults: The client's defaults.
        call: The name of the called method, for error messages.
        output_type: The type that the answer is made into; `None` for none.

    Raises:
        ImportError: There is an output type, but pydantic 2 is not installed.
        TypeError: An argument has the wrong type, or a keyword is not an option.
        ValueError: An argument has an invalid value, no model is set, the call has both an output type and a schema, or
            the request is too large.
    """
    check.check_text("prompt", prompt)
    typed = None if output_type is None else _output_type(output_type, options, keywords)
    merged = defaults.merged(QueryOptions, options, keywords, call)
    if typed is not None:
        merged.output_format_json_schema_str = typed.schema_text
    if merged.model is None:
        raise ValueError("model is not set: pass model=… to the call, or to RuntimeUseClient")
    message = codec.encode_query(prompt, merged.system_prompt or "", merged.model, merged)
    before, after = merged.pre_agent_invocation_commands or [], merged.post_agent_invocation_commands or []
    texts = [command.command for command in (*before, *after)]
    requested = RequestedCommands(texts, len(before), list(merged.secrets_to_redact))
    return Request("query", _encode(message), "result_message", merged, merged.secret_values(), requested, typed)


def _output_type(kind: Any, options: Optional[QueryOptions], keywords: Dict[str, Any]) -> "OutputType":
    # Only what the call itself says is looked at: an output type wins over a schema that is a client's default.
    name = "output_format_json_schema_str"
    schema = keywords[name] if name in keywords else getattr(options, name, None)
    if schema is not None:
        raise ValueError(f"output_type and {name} cannot both be set: each says what the answer must be")
    from .output_type import output_type_of

    return output_type_of(kind)


def commands_request(
    commands: Commands,
    options: Optional[ExecuteCommandsOptions],
    keywords: Dict[str, Any],
    defaults: Defaults,
    call: str,
) -> Request:
    """Returns the request to execute commands.

    Args:
        commands: The commands, or a single one; a str is a command without working directory and environment.
        options: The options object; `None` if the call has none.
        keywords: The call's keywords, which take precedence over `options`.
        defaults: The client's defaults.
        call: The name of the called method, for error messages.

    Raises:
        TypeError: An argument has the wrong type, or a keyword is not an option.
        ValueError: An argument has an invalid value, there are no commands, or the request is too large.
    """
    checked = checked_commands(commands)
    merged = defaults.merged(ExecuteCommandsOptions, options, keywords, call)
    secrets = merged.secret_values()
    for command in checked:
        secrets += command.secret_values()
    message = codec.encode_commands(checked, merged)
    requested = RequestedCommands([command.command for command in checked], None, list(merged.secrets_to_redact))
    return Request(
        "command execution", _encode(message), "command_execution_result_message", merged, secrets, requested
    )


def command_request(
    command: Union[str, CommandInterface],
    cwd: Optional[SandboxPath],
    env: Optional[Mapping[str, str]],
    first_line: Optional[str],
    variables: Mapping[str, str],
    options: Optional[ExecuteCommandsOptions],
    keywords: Dict[str, Any],
    defaults: Defaults,
) -> Request:
    """Returns the request of `run`: one command, which may have a line before it that provides its input.

    Args:
        command: The command.
        cwd: Its working directory, instead of the one in `command`.
        env: Environment variables, added to those in `command`.
        first_line: The line, which users do not see; `None` if there is none.
        variables: The environment variables that the line reads.
        options: The options object; `None` if the call has none.
        keywords: The call's keywords, which take precedence over `options`.
        defaults: The client's defaults.

    Raises:
        TypeError: An argument has the wrong type, or a keyword is not an option.
        ValueError: An argument has an invalid value, or the request is too large.
    """
    if isinstance(command, str):
        command = CommandInterface(command)
    check.check_type("command", command, CommandInterface, "one command, a str or a CommandInterface")
    check.check_env("env", env)
    if cwd is not None:
        check.check_text("cwd", check.path_text(cwd))
        command = dataclasses.replace(command, cwd=cwd)
    if env is not None:
        command = dataclasses.replace(command, env={**(command.env or {}), **env})
    check_command("command", command)
    if first_line is None:
        return commands_request(command, options, keywords, defaults, "run()")
    text = command.command
    command = dataclasses.replace(command, command=f"{first_line}\n{text}", env={**(command.env or {}), **variables})
    request = commands_request(command, options, keywords, defaults, "run()")
    return request._replace(commands=request.commands._replace(commands=[text]), first_line_hidden=True)


def input_bytes(data: Union[str, bytes]) -> bytes:
    """Returns the input of a command as bytes.

    Raises:
        TypeError: It is neither text nor bytes.
        ValueError: It is text that has no UTF-8.
    """
    check.check_type("input", data, (str, bytes, bytearray, memoryview), "a str or bytes")
    if not isinstance(data, str):
        return bytes(data)
    try:
        return data.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("input contains a lone surrogate, which is half a character") from None


def checked_commands(commands: Commands) -> List[CommandInterface]:
    """Returns copies of the commands, the strings as `CommandInterface`.

    Raises:
        TypeError: `commands` is no list, or a command has the wrong type.
        ValueError: There are no commands, or one has an invalid value.
    """
    if isinstance(commands, (str, CommandInterface)):
        commands = [commands]
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
        raise ValueError(f"the request has {len(payload)} bytes; runtimes accept at most {MAX_REQUEST_SIZE}")
    return payload
