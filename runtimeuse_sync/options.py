"""The options of `query` and `execute_commands`: dataclasses that check themselves. No threads run here.

Options are checked when they are made and once more when they are used (they are mutable). Callbacks and the logger
stay out of their JSON; secrets stay out of their `repr`.
"""

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Type, TypeVar, Union

from ._logs import METHODS, LoggerLike
from ._wire import validation as check
from ._wire.dataclass_json import JsonMixin, env_field, json_field, made_of
from ._wire.safe_repr import SafeRepr
from .messages import (
    ArtifactUploadRequestMessageInterface,
    AssistantMessageInterface,
    CommandInterface,
    CommandOutputMessageInterface,
    HeartbeatMessageInterface,
    RuntimeEnvironmentDownloadableInterface,
)
from .results import ArtifactUploadResult

OnAssistantMessageCallback = Callable[[AssistantMessageInterface], None]
OnCommandOutputCallback = Callable[[CommandOutputMessageInterface], None]
OnArtifactUploadRequestCallback = Callable[[ArtifactUploadRequestMessageInterface], ArtifactUploadResult]
OnHeartbeatCallback = Callable[[HeartbeatMessageInterface], None]

#: How long, in seconds, the end of a session may take: late uploads and the runtime's confirmation.
END_SESSION_TIMEOUT = 60.0

_NOT_JSON = json_field(exclude=True)
_SECRET = {"secret": "values"}


_Read = TypeVar("_Read", bound="_OptionsJson")

_ARTIFACT_FIELDS = ("artifacts_dirs", "artifacts_dir")


class _OptionsJson(JsonMixin):
    """JSON of options: artifact directories are read without the callback that belongs to them.

    A callback cannot be in the JSON. It is given with the call, as a keyword, and there the pair is checked.
    """

    def to_dict(self, encode_json: bool = False) -> Dict[str, Any]:
        return JsonMixin.to_dict(self._without_callbacks(), encode_json)

    def to_json(self, **dumps: Any) -> str:
        return JsonMixin.to_json(self._without_callbacks(), **dumps)

    def _without_callbacks(self: _Read) -> _Read:
        # dataclasses-json copies deeply before it leaves out: a callback's object may hold locks and sockets.
        plain = copy.copy(self)
        for name in (
            "on_assistant_message",
            "on_command_output",
            "on_artifact_upload_request",
            "on_heartbeat",
            "logger",
        ):
            setattr(plain, name, None)
        return plain

    @classmethod
    def from_dict(cls: Type[_Read], kvs: Mapping[str, Any], *, infer_missing: bool = False) -> _Read:
        check.check_type("options in JSON", kvs, Mapping, "an object")
        _check_json(kvs, cls)
        rest = {name: value for name, value in kvs.items() if name not in _ARTIFACT_FIELDS}
        options = super().from_dict(rest, infer_missing=infer_missing)
        for name in _ARTIFACT_FIELDS:
            if kvs.get(name) is not None:
                setattr(options, name, kvs[name])
        _check_fields(options, pairing=False)
        return options


@dataclass(repr=False)
class QueryOptions(SafeRepr, _OptionsJson):
    """Options of `query` and `stream`; all may also be given as keywords of the call.

    Attributes:
        system_prompt: The agent's system prompt; `None` takes the client's, or else an empty one.
        model: The model that the agent shall use; `None` takes the client's.
        output_format_json_schema_str: JSON text `{"type": "json_schema", "schema": {…}}`; the result is then a
            `StructuredOutputResult`. Any other JSON goes to the agent as it is: what it makes of that is its own.
        source_id: An identifier of yours, for tracing.
        agent_env: Environment variables of the agent, merged over the sandbox's. Any mapping, `os.environ` for one;
            each call copies it.
        secrets_to_redact: Strings that the runtime replaces by `[REDACTED]` in all that it sends.
        artifacts_dirs: Directories of the sandbox whose files are to be uploaded; needs `on_artifact_upload_request`.
        artifacts_ignore_content: Ignore patterns (gitignore syntax), instead of the directories' `.artifactignore`.
        pre_agent_invocation_commands: Commands to run before the agent; a failing one ends the run.
        post_agent_invocation_commands: Commands to run after the agent; a failing one ends the run.
        pre_agent_downloadables: Files to fetch into the sandbox first.
        on_assistant_message: Called with each message of the agent.
        on_command_output: Called with each chunk of output of the pre- and post-agent commands.
        on_artifact_upload_request: Called with each file to upload; returns an `ArtifactUploadResult`.
        timeout: Seconds for the whole call, callbacks included; `None` is no limit.
        idle_timeout: Seconds that the runtime may send nothing at all; `None` is no limit.
        assistant_callback_timeout: Seconds for one `on_assistant_message`, which then runs in a helper thread.
        artifact_upload_callback_timeout: Seconds for one `on_artifact_upload_request`, likewise.
        logger: Where the call logs: a `logging.Logger`, an adapter, or anything with the methods `debug`, `info` and
            `warning`; `None` for the package's logger.
        artifacts_dir: The older spelling of `artifacts_dirs`, for runtimes before 0.14.2.
        on_heartbeat: Called with each heartbeat.
        end_session_timeout: Seconds that a one-shot call with artifacts waits for late uploads (default 60).

    Raises:
        TypeError: a field has the wrong type, or a callback is a coroutine function.
        ValueError: a field has a value that cannot be; the message names the field.
    """

    system_prompt: Optional[str] = None
    model: Optional[str] = None
    output_format_json_schema_str: Optional[str] = None
    source_id: Optional[str] = None
    agent_env: Optional[Mapping[str, str]] = field(default=None, metadata=env_field())
    secrets_to_redact: List[str] = field(default_factory=list, metadata=_SECRET)
    artifacts_dirs: Optional[List[str]] = None
    artifacts_ignore_content: Optional[str] = None
    pre_agent_invocation_commands: Optional[List[CommandInterface]] = None
    post_agent_invocation_commands: Optional[List[CommandInterface]] = None
    pre_agent_downloadables: Optional[List[RuntimeEnvironmentDownloadableInterface]] = None
    on_assistant_message: Optional[OnAssistantMessageCallback] = field(default=None, metadata=_NOT_JSON)
    on_command_output: Optional[OnCommandOutputCallback] = field(default=None, metadata=_NOT_JSON)
    on_artifact_upload_request: Optional[OnArtifactUploadRequestCallback] = field(default=None, metadata=_NOT_JSON)
    timeout: Optional[float] = None
    idle_timeout: Optional[float] = None
    assistant_callback_timeout: Optional[float] = None
    artifact_upload_callback_timeout: Optional[float] = None
    logger: Optional[LoggerLike] = field(default=None, metadata=_NOT_JSON)
    artifacts_dir: Optional[str] = None
    on_heartbeat: Optional[OnHeartbeatCallback] = field(default=None, metadata=_NOT_JSON)
    end_session_timeout: Optional[float] = END_SESSION_TIMEOUT

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raises `TypeError` or `ValueError` for the first field that cannot be, and names it."""
        _check_fields(self)


@dataclass(repr=False)
class ExecuteCommandsOptions(SafeRepr, _OptionsJson):
    """Options of `execute_commands` and `stream_commands`; all may also be given as keywords of the call.

    The attributes are those of `QueryOptions` as far as they apply, and:

    Attributes:
        pre_execution_downloadables: Files to fetch into the sandbox first.
        check: Whether a command that exits non-zero raises `CommandFailedError` (default), or is just returned.

    Raises:
        TypeError: a field has the wrong type, or a callback is a coroutine function.
        ValueError: a field has a value that cannot be; the message names the field.
    """

    secrets_to_redact: List[str] = field(default_factory=list, metadata=_SECRET)
    source_id: Optional[str] = None
    artifacts_dirs: Optional[List[str]] = None
    artifacts_ignore_content: Optional[str] = None
    pre_execution_downloadables: Optional[List[RuntimeEnvironmentDownloadableInterface]] = None
    on_assistant_message: Optional[OnAssistantMessageCallback] = field(default=None, metadata=_NOT_JSON)
    on_command_output: Optional[OnCommandOutputCallback] = field(default=None, metadata=_NOT_JSON)
    on_artifact_upload_request: Optional[OnArtifactUploadRequestCallback] = field(default=None, metadata=_NOT_JSON)
    timeout: Optional[float] = None
    idle_timeout: Optional[float] = None
    assistant_callback_timeout: Optional[float] = None
    artifact_upload_callback_timeout: Optional[float] = None
    logger: Optional[LoggerLike] = field(default=None, metadata=_NOT_JSON)
    artifacts_dir: Optional[str] = None
    on_heartbeat: Optional[OnHeartbeatCallback] = field(default=None, metadata=_NOT_JSON)
    end_session_timeout: Optional[float] = END_SESSION_TIMEOUT
    check: bool = True

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raises `TypeError` or `ValueError` for the first field that cannot be, and names it."""
        _check_fields(self)


Options = Union[QueryOptions, ExecuteCommandsOptions]
_OptionsType = TypeVar("_OptionsType", QueryOptions, ExecuteCommandsOptions)


def merge_options(
    kind: Type[_OptionsType], options: Optional[_OptionsType], keywords: Dict[str, Any], call: str
) -> _OptionsType:
    """Returns the options of one call: the object's, with the keywords over them.

    Raises:
        TypeError: `options` is not of `kind`, or a keyword is no option; the message names `call` and the keyword.
        ValueError: an option has a value that cannot be.
    """
    for keyword in keywords:
        if keyword not in kind.__dataclass_fields__:
            names = ", ".join(sorted(kind.__dataclass_fields__))
            raise TypeError(f"{call} got an unknown option {keyword!r}; it takes {names}")
    if options is not None:
        check.check_type("options", options, kind, f"a {kind.__name__}")
    # What can change while the call is under way is copied before it is looked at.
    for name in _COPIED:
        if name in kind.__dataclass_fields__:
            keywords[name] = _copied(keywords[name] if name in keywords else getattr(options, name, None))
    return kind(**keywords) if options is None else dataclasses.replace(options, **keywords)


def copied_command(command: CommandInterface) -> CommandInterface:
    """Returns a command with an environment that nobody else changes."""
    return dataclasses.replace(command, env=_copied(command.env))


def _copied(value: Any) -> Any:
    """Returns a copy of an environment, or of a list of commands; anything else as it is."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return [copied_command(item) if isinstance(item, CommandInterface) else item for item in value]
    return value


def _check_fields(options: Any, *, pairing: bool = True) -> None:
    for name, value in vars(options).items():
        if (value is not None or name in _NEVER_NONE) and name in _CHECKS:
            _CHECKS[name](name, value)
    if pairing:
        check.check_artifact_pairing(options.artifacts_dirs, options.artifacts_dir, options.on_artifact_upload_request)


def _check_json(kvs: Mapping[str, Any], kind: Type[Any]) -> None:
    """Checks the fields before dataclasses-json makes them fit: of the string "abc" it makes a list of three."""
    for name, value in kvs.items():
        if (value is not None or name in _NEVER_NONE) and name in _CHECKS and name in kind.__dataclass_fields__:
            _CHECKS[name](name, made_of(_ITEMS[name], name, value) if name in _ITEMS else value)


def _check_logger(name: str, logger: Any) -> None:
    if not all(callable(getattr(logger, method, None)) for method in METHODS):
        kind = type(logger).__name__
        raise TypeError(f"{name} must be a logging.Logger, or have its methods {', '.join(METHODS)}; {kind} has not")


def _check_bool(name: str, value: Any) -> None:
    check.check_type(name, value, bool, "a bool")


def _check_directories(name: str, directories: List[str]) -> None:
    check.check_str_list(name, directories)
    for index, directory in enumerate(directories):
        check.check_text(f"{name}[{index}]", directory)


def _check_commands(name: str, commands: List[CommandInterface]) -> None:
    check.check_list_of(name, commands, CommandInterface)
    for index, command in enumerate(commands):
        check_command(f"{name}[{index}]", command)


def check_command(name: str, command: CommandInterface) -> None:
    """Raises `TypeError` or `ValueError` for the first field of a command that cannot be, and names it."""
    check.check_text(f"{name}.command", command.command)
    if command.cwd is not None:
        check.check_text(f"{name}.cwd", command.cwd)
    check.check_env(f"{name}.env", command.env)


def _check_downloadables(name: str, downloadables: List[RuntimeEnvironmentDownloadableInterface]) -> None:
    check.check_list_of(name, downloadables, RuntimeEnvironmentDownloadableInterface)
    for index, item in enumerate(downloadables):
        check.check_text(f"{name}[{index}].download_url", item.download_url)
        check.check_text(f"{name}[{index}].working_dir", item.working_dir)


#: How each option is checked, of both kinds.
_CHECKS: Dict[str, Callable[[str, Any], None]] = {
    "system_prompt": check.check_str,
    "model": check.check_text,
    "output_format_json_schema_str": check.check_schema_text,
    "source_id": check.check_str,
    "agent_env": check.check_env,
    "secrets_to_redact": check.check_str_list,
    "artifacts_dirs": _check_directories,
    "artifacts_ignore_content": check.check_str,
    "pre_agent_invocation_commands": _check_commands,
    "post_agent_invocation_commands": _check_commands,
    "pre_agent_downloadables": _check_downloadables,
    "pre_execution_downloadables": _check_downloadables,
    "on_assistant_message": check.check_callback,
    "on_command_output": check.check_callback,
    "on_artifact_upload_request": check.check_callback,
    "on_heartbeat": check.check_callback,
    "timeout": check.check_seconds,
    "idle_timeout": check.check_seconds,
    "assistant_callback_timeout": check.check_seconds,
    "artifact_upload_callback_timeout": check.check_seconds,
    "end_session_timeout": check.check_seconds,
    "logger": _check_logger,
    "artifacts_dir": check.check_text,
    "check": _check_bool,
}

#: The options that are lists of other dataclasses.
_ITEMS: Dict[str, Type[Any]] = {
    "pre_agent_invocation_commands": CommandInterface,
    "post_agent_invocation_commands": CommandInterface,
    "pre_agent_downloadables": RuntimeEnvironmentDownloadableInterface,
    "pre_execution_downloadables": RuntimeEnvironmentDownloadableInterface,
}

#: The options that hold environments.
_COPIED = ("agent_env", "pre_agent_invocation_commands", "post_agent_invocation_commands")

_NEVER_NONE = frozenset({"secrets_to_redact", "check"})
