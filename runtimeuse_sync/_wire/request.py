"""The request of a call: its options, the client's defaults added and all checked, and the message to send.

The options of a call are the client's defaults, overridden by the options object, overridden by the keywords. A keyword
always overrides. A field of the options object overrides if it differs from what the field is by default, since nothing
else tells whether it was set. Environments are merged, and secrets are added: a call cannot reveal what its client
masks. The classes of the options check the values (`options.py`).

Threads: a client checks and copies its defaults when created, and calls only read them. Calls without options share one
object, which nobody changes. Any other call copies its own options before it checks them.
"""

import dataclasses
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Type,
    TypeVar,
    Union,
    cast,
)

from ..messages import CommandInterface
from ..options import NEVER_NONE, ExecuteCommandsOptions, Options, QueryOptions, check_command, checked_option
from . import codec
from . import validation as check
from .validation import SandboxPath

if TYPE_CHECKING:
    # Imported by the first query that has an output type.
    from .output_type import OutputType

#: The largest message that runtimes accept, in bytes (PROTOCOL.md, "Frame level").
MAX_REQUEST_SIZE = 100 * 1024 * 1024

#: Commands as an argument: a list of them, or a single one.
Commands = Union[str, CommandInterface, Sequence[Union[str, CommandInterface]]]

#: How many bytes of output the client keeps of each command and stream, and of the agent's messages, by default.
DEFAULT_KEEP_OUTPUT = 1024 * 1024

_OptionsType = TypeVar("_OptionsType", QueryOptions, ExecuteCommandsOptions)

#: The options that contain environments, which each call copies.
_COPIED = ("agent_env", "pre_agent_invocation_commands", "post_agent_invocation_commands")

#: The options for which `None` sets nothing, so that it does not override a default.
_NONE_IS_UNSET = frozenset({"model", "system_prompt"})

_CALLBACK, _DIRECTORIES = "on_artifact_upload_request", ("artifacts_dirs", "artifacts_dir")

_MISSING = object()


def _defaults_of(kind: Type[Any]) -> Dict[str, Any]:
    """Returns the fields of an options class with their default values."""
    return {
        field.name: [] if field.default is dataclasses.MISSING else field.default for field in dataclasses.fields(kind)
    }


#: The options of each kind of call, with the values that they have by default.
QUERY_OPTIONS: Mapping[str, Any] = _defaults_of(QueryOptions)
COMMANDS_OPTIONS: Mapping[str, Any] = _defaults_of(ExecuteCommandsOptions)
ALL_OPTIONS: Mapping[str, Any] = {**QUERY_OPTIONS, **COMMANDS_OPTIONS}

_FIELDS: Mapping[Type[Any], Mapping[str, Any]] = {QueryOptions: QUERY_OPTIONS, ExecuteCommandsOptions: COMMANDS_OPTIONS}


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


# Options.


class Defaults:
    """A client's defaults, for what a call does not set. Checked and copied when created.

    Args:
        options: Options by name, of either kind of call.
        keep_output: How many bytes of output to keep of each command and stream, and of the agent's messages.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value.
    """

    def __init__(self, options: Mapping[str, Any], keep_output: int = DEFAULT_KEEP_OUTPUT) -> None:
        check.check_size("keep_output", keep_output, allow_zero=True)
        self.keep_output = keep_output
        self._options: Dict[Type[Any], Dict[str, Any]] = {kind: {} for kind in _FIELDS}
        for name, value in options.items():
            if _is(ALL_OPTIONS[name], value):
                continue
            if value is not None or name in NEVER_NONE:
                value = checked_option(name, _copied(value))
            for kind, fields in _FIELDS.items():
                if name in fields:
                    self._options[kind][name] = value
        self._of_plain_calls: Dict[Type[Any], Any] = {}

    def of_commands(self, name: str) -> Any:
        """Returns the default of one option of commands; `None` if the client has none."""
        return self._options[ExecuteCommandsOptions].get(name)

    def merged(
        self, kind: Type[_OptionsType], options: Optional[_OptionsType], keywords: Dict[str, Any], call: str
    ) -> _OptionsType:
        """Returns the options of one call.

        Args:
            kind: The class of the options.
            options: The options object; `None` if the call has none.
            keywords: The call's keywords; changed by this.
            call: The name of the called method, for error messages.

        Raises:
            TypeError: `options` is not a `kind`, a keyword is not an option, or an option has the wrong type.
            ValueError: An option has an invalid value.
        """
        if options is None and not keywords:
            # They share one object, which nobody changes.
            shared = self._of_plain_calls.get(kind)
            if shared is None:
                shared = self._of_plain_calls[kind] = self._merged(kind, None, {})
            return cast("_OptionsType", shared)
        fields = _FIELDS[kind]
        for keyword in keywords:
            if keyword not in fields:
                raise unknown_name(call, "option", keyword, fields)
        if options is not None:
            check.check_type("options", options, kind, f"a {kind.__name__}")
        return self._merged(kind, options, keywords)

    def _merged(
        self, kind: Type[_OptionsType], options: Optional[_OptionsType], keywords: Dict[str, Any]
    ) -> _OptionsType:
        fields, defaults = _FIELDS[kind], self._options[kind]
        if defaults:
            self._add_defaults(defaults, fields, options, keywords)
        # Copy what the caller could change during the call, and check the copy.
        for name in _COPIED:
            if name in fields:
                keywords[name] = _copied(keywords[name] if name in keywords else getattr(options, name, None))
        # The class checks the values.
        return kind(**keywords) if options is None else dataclasses.replace(options, **keywords)

    def _add_defaults(
        self, defaults: Mapping[str, Any], fields: Mapping[str, Any], options: Any, keywords: Dict[str, Any]
    ) -> None:
        def own(name: str) -> Any:
            return keywords[name] if name in keywords else getattr(options, name, fields[name])

        for name, default in defaults.items():
            value = own(name)
            if _is(fields[name], value) and (name not in keywords or name in _NONE_IS_UNSET):
                keywords[name] = default
            elif isinstance(value, Mapping) and isinstance(default, Mapping):
                keywords[name] = {**default, **value}
            elif name == "secrets_to_redact" and isinstance(value, (list, tuple)):
                keywords[name] = [*default, *value]
        if keywords.get(_CALLBACK) is defaults.get(_CALLBACK, _MISSING) and not any(map(own, _DIRECTORIES)):
            # The client's callback serves calls with artifacts, and this one has none.
            del keywords[_CALLBACK]


def unknown_name(call: str, what: str, name: str, known: Iterable[str]) -> TypeError:
    """Returns the error for an argument that does not exist; it suggests a similar one, or lists all."""
    import difflib

    similar = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    hint = f"did you mean {similar[0]}?" if similar else f"valid {what}s are {', '.join(sorted(known))}"
    return TypeError(f"{call} got an unknown {what} {name!r}; {hint}")


def copied_command(command: CommandInterface) -> CommandInterface:
    """Returns a copy of a command with its own copy of the environment."""
    return dataclasses.replace(command, env=_copied(command.env))


def _copied(value: Any) -> Any:
    """Returns a copy of an environment or of a list, commands included; any other value unchanged."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        copies: List[Any] = [copied_command(item) if isinstance(item, CommandInterface) else item for item in value]
        return copies
    return value


def _is(default: Any, value: Any) -> bool:
    """Returns whether a value is the given default."""
    return value is default or (type(value) is type(default) and isinstance(value, (list, float)) and value == default)


# Requests.


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
    if typed is not None:
        keywords["output_format_json_schema_str"] = typed.schema_text
    merged = defaults.merged(QueryOptions, options, keywords, call)
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
