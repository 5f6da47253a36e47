"""The options of `query` and `execute_commands`: dataclasses that check themselves.

Options are checked when created and, as they are mutable, again by each call that uses them. A `timedelta` becomes a
number of seconds, a path its text. The JSON of options leaves out the callbacks and the logger; their `repr` masks
secrets. How a call's options come together is in `_wire/request.py`.

Threads: nothing is shared; each function runs in its caller's thread. A call copies its options before it checks them.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, Union

from ._logs import METHODS, LoggerLike
from ._wire import validation as check
from ._wire.dataclass_json import JsonMixin, env_field, instances_of, json_field
from ._wire.safe_repr import SafeRepr
from ._wire.validation import SandboxPath, Seconds
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
"""The type of the option `on_assistant_message`."""

OnCommandOutputCallback = Callable[[CommandOutputMessageInterface], None]
"""The type of the option `on_command_output`."""

OnArtifactUploadRequestCallback = Callable[[ArtifactUploadRequestMessageInterface], ArtifactUploadResult]
"""The type of the option `on_artifact_upload_request`: it returns where the runtime uploads the file."""

OnHeartbeatCallback = Callable[[HeartbeatMessageInterface], None]
"""The type of the option `on_heartbeat`."""

CancelWhen = Callable[[], bool]
"""The type of the option `cancel_when`: it returns whether to cancel the call."""

#: The default time limit, in seconds, for the end of a session: late uploads and the runtime's confirmation.
END_SESSION_TIMEOUT = 60.0

#: The default time, in seconds, between two calls of `cancel_when`.
CANCEL_POLL_INTERVAL = 0.5

_NOT_IN_JSON = json_field(exclude=True)
_SECRET = {"secret": "values"}

#: The fields that are no plain data: JSON leaves them out.
CALLBACKS_AND_LOGGER = (
    "on_assistant_message",
    "on_command_output",
    "on_artifact_upload_request",
    "on_heartbeat",
    "logger",
    "cancel_when",
)

_ARTIFACT_FIELDS = ("artifacts_dirs", "artifacts_dir")

_Self = TypeVar("_Self", bound="_OptionsBase")


class _OptionsBase(SafeRepr, JsonMixin):
    """What both classes of options share: they check their fields, and their JSON has no callbacks and no logger.

    Options read from JSON may have artifact directories without the upload callback that they require. The callback is
    passed to the call as a keyword, and the call checks the pair.
    """

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Checks all fields, and converts those that are a `timedelta` or a path.

        Raises:
            TypeError: A field has the wrong type. The message names the first such field.
            ValueError: A field has an invalid value. The message names the first such field.
        """
        _check_fields(self)

    def to_dict(self, encode_json: bool = False) -> Dict[str, Any]:
        """Returns the fields as a dict, without callbacks and logger.

        Args:
            encode_json: Whether to convert values that JSON lacks as well, so that `json.dumps` accepts the dict.
                Default: `False`.
        """
        return JsonMixin.to_dict(self._without_callbacks(), encode_json)

    def to_json(self, **dumps: Any) -> str:
        """Returns the fields as JSON text, without callbacks and logger.

        Args:
            **dumps: Keyword arguments for `json.dumps`.
        """
        return JsonMixin.to_json(self._without_callbacks(), **dumps)

    def _without_callbacks(self: _Self) -> _Self:
        # dataclasses-json makes a deep copy before it leaves fields out, but callbacks may hold locks and sockets.
        plain = copy.copy(self)
        for name in CALLBACKS_AND_LOGGER:
            setattr(plain, name, None)
        return plain

    @classmethod
    def from_dict(cls: Type[_Self], kvs: Mapping[str, Any], *, infer_missing: bool = False) -> _Self:
        """Returns options with the fields that `to_dict` returned.

        Artifact directories come without the upload callback that they require: pass it to the call as a keyword.

        Args:
            kvs: The fields by name. Unknown names are ignored.
            infer_missing: Whether a missing field becomes `None` if it has no default. Default: `False`.

        Raises:
            KeyError: A command or a download lacks a field.
            TypeError: A field has the wrong type. The message names it.
            ValueError: A field has an invalid value. The message names it.
        """
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
class QueryOptions(_OptionsBase):
    """Options of `query` and `stream`. Each can also be passed to the call as a keyword, which takes precedence.

    Callbacks are plain functions. They run in the calling thread, one at a time, in the order in which messages arrive.
    An exception in a callback cancels the request and is raised by the call.

    Args:
        system_prompt: The agent's system prompt. `None` uses the client's, or an empty one if the client has none.
        model: The model that the agent uses. `None` uses the client's.
        output_format_json_schema_str: JSON text of the form `{"type": "json_schema", "schema": {…}}`. The result is
            then a `StructuredOutputResult`. Any other JSON is passed to the agent unchanged; its meaning is up to the
            agent.
        source_id: An identifier of your own for tracing. It is sent to the runtime, logged, and set on errors.
        agent_env: Environment variables for the agent, added to those of the sandbox. Any mapping of str to str, such
            as `os.environ`; each call copies it.
        secrets_to_redact: Strings that the runtime replaces with `[REDACTED]` in everything it sends. The client masks
            them in logs and in exceptions.
        artifacts_dirs: Directories in the sandbox whose files are uploaded. Requires `on_artifact_upload_request`.
        artifacts_ignore_content: Ignore patterns in gitignore syntax, which replace the directories' `.artifactignore`
            files. `None` leaves these in force.
        pre_agent_invocation_commands: Commands to run before the agent. If one fails, the call raises
            `CommandFailedError`.
        post_agent_invocation_commands: Commands to run after the agent. If one fails, the call raises
            `CommandFailedError`.
        pre_agent_downloadables: Files to download into the sandbox first.
        on_assistant_message: Called with each `AssistantMessageInterface` of the agent.
        on_command_output: Called with each `CommandOutputMessageInterface`, a chunk of output of the pre- and
            post-agent commands.
        on_artifact_upload_request: Called with an `ArtifactUploadRequestMessageInterface` for each file; returns an
            `ArtifactUploadResult`, which says where to upload it. Requires `artifacts_dirs` or `artifacts_dir`.
        timeout: Seconds for the whole call: connecting, every wait and every callback. `None`, the default, is no
            limit. Once it has passed, the call raises `RunTimeoutError`.
        idle_timeout: Seconds for which the runtime may send nothing at all before the call raises `AgentRuntimeError`.
            `None`, the default, is no limit. The runtime sends a heartbeat every 15 s.
        assistant_callback_timeout: Seconds for one call of `on_assistant_message`, which then runs in a helper thread.
            If it takes longer, the call raises `AgentRuntimeError`. `None`, the default, is no limit, and the callback
            runs in the calling thread.
        artifact_upload_callback_timeout: The same for one call of `on_artifact_upload_request`.
        logger: Where the call logs: a `logging.Logger`, a `logging.LoggerAdapter`, or any object with the methods
            `debug`, `info` and `warning`. `None`, the default, is the package's logger, `runtimeuse_sync`.
        artifacts_dir: One artifact directory, in the older spelling of `artifacts_dirs`, for runtimes before 0.14.2.
        on_heartbeat: Called with each `HeartbeatMessageInterface`.
        end_session_timeout: Seconds for which a one-shot call with artifacts waits for late uploads, after which it
            raises `RunTimeoutError`. Default: 60. `None` is no limit but that of `timeout`. Calls on a session ignore
            it: the session has a limit of its own.
        cancel_when: Called without arguments, such as `event.is_set`, before anything is sent and then from time to
            time, in the calling thread: not while that is in a callback, or in a loop's body. A true value cancels the
            call as `abort` does. An exception cancels the request, too, and is raised by the call.
        cancel_poll_interval: Seconds between two calls of `cancel_when`. Default: 0.5.

    Raises:
        TypeError: A field has the wrong type, or a callback is a coroutine function. The message names the field.
        ValueError: A field has an invalid value, or artifact directories and `on_artifact_upload_request` are not set
            together. The message names the field.
    """

    system_prompt: Optional[str] = None
    model: Optional[str] = None
    output_format_json_schema_str: Optional[str] = None
    source_id: Optional[str] = None
    agent_env: Optional[Mapping[str, str]] = field(default=None, metadata=env_field())
    secrets_to_redact: List[str] = field(default_factory=list, metadata=_SECRET)
    artifacts_dirs: Optional[Sequence[SandboxPath]] = None
    artifacts_ignore_content: Optional[str] = None
    pre_agent_invocation_commands: Optional[List[CommandInterface]] = None
    post_agent_invocation_commands: Optional[List[CommandInterface]] = None
    pre_agent_downloadables: Optional[List[RuntimeEnvironmentDownloadableInterface]] = None
    on_assistant_message: Optional[OnAssistantMessageCallback] = field(default=None, metadata=_NOT_IN_JSON)
    on_command_output: Optional[OnCommandOutputCallback] = field(default=None, metadata=_NOT_IN_JSON)
    on_artifact_upload_request: Optional[OnArtifactUploadRequestCallback] = field(default=None, metadata=_NOT_IN_JSON)
    timeout: Optional[Seconds] = None
    idle_timeout: Optional[Seconds] = None
    assistant_callback_timeout: Optional[Seconds] = None
    artifact_upload_callback_timeout: Optional[Seconds] = None
    logger: Optional[LoggerLike] = field(default=None, metadata=_NOT_IN_JSON)
    artifacts_dir: Optional[SandboxPath] = None
    on_heartbeat: Optional[OnHeartbeatCallback] = field(default=None, metadata=_NOT_IN_JSON)
    end_session_timeout: Optional[Seconds] = END_SESSION_TIMEOUT
    cancel_when: Optional[CancelWhen] = field(default=None, metadata=_NOT_IN_JSON)
    cancel_poll_interval: Seconds = CANCEL_POLL_INTERVAL


@dataclass(repr=False)
class ExecuteCommandsOptions(_OptionsBase):
    """Options of `execute_commands` and `stream_commands`. Each can also be passed to the call as a keyword.

    A keyword takes precedence over the options object. Callbacks are plain functions. They run in the calling thread,
    one at a time, in the order in which messages arrive. An exception in a callback cancels the request and is raised
    by the call.

    Args:
        secrets_to_redact: Strings that the runtime replaces with `[REDACTED]` in everything it sends. The client masks
            them in logs and in exceptions.
        source_id: An identifier of your own for tracing. It is sent to the runtime, logged, and set on errors.
        artifacts_dirs: Directories in the sandbox whose files are uploaded. Requires `on_artifact_upload_request`.
        artifacts_ignore_content: Ignore patterns in gitignore syntax, which replace the directories' `.artifactignore`
            files. `None` leaves these in force.
        pre_execution_downloadables: Files to download into the sandbox first.
        on_assistant_message: Called with each `AssistantMessageInterface`. Commands alone cause none.
        on_command_output: Called with each `CommandOutputMessageInterface`, a chunk of a command's output.
        on_artifact_upload_request: Called with an `ArtifactUploadRequestMessageInterface` for each file; returns an
            `ArtifactUploadResult`, which says where to upload it. Requires `artifacts_dirs` or `artifacts_dir`.
        timeout: Seconds for the whole call: connecting, every wait and every callback. `None`, the default, is no
            limit. Once it has passed, the call raises `RunTimeoutError`.
        idle_timeout: Seconds for which the runtime may send nothing at all before the call raises `AgentRuntimeError`.
            `None`, the default, is no limit. The runtime sends a heartbeat every 15 s.
        assistant_callback_timeout: Seconds for one call of `on_assistant_message`, which then runs in a helper thread.
            If it takes longer, the call raises `AgentRuntimeError`. `None`, the default, is no limit, and the callback
            runs in the calling thread.
        artifact_upload_callback_timeout: The same for one call of `on_artifact_upload_request`.
        logger: Where the call logs: a `logging.Logger`, a `logging.LoggerAdapter`, or any object with the methods
            `debug`, `info` and `warning`. `None`, the default, is the package's logger, `runtimeuse_sync`.
        artifacts_dir: One artifact directory, in the older spelling of `artifacts_dirs`, for runtimes before 0.14.2.
        on_heartbeat: Called with each `HeartbeatMessageInterface`.
        end_session_timeout: Seconds for which a one-shot call with artifacts waits for late uploads, after which it
            raises `RunTimeoutError`. Default: 60. `None` is no limit but that of `timeout`. Calls on a session ignore
            it: the session has a limit of its own.
        check: Whether a command that exits non-zero makes the call raise `CommandFailedError`. Default: `True`.
            `False` returns the result instead.
        cancel_when: Called without arguments, such as `event.is_set`, before anything is sent and then from time to
            time, in the calling thread: not while that is in a callback, or in a loop's body. A true value cancels the
            call as `abort` does. An exception cancels the request, too, and is raised by the call.
        cancel_poll_interval: Seconds between two calls of `cancel_when`. Default: 0.5.

    Raises:
        TypeError: A field has the wrong type, or a callback is a coroutine function. The message names the field.
        ValueError: A field has an invalid value, or artifact directories and `on_artifact_upload_request` are not set
            together. The message names the field.
    """

    secrets_to_redact: List[str] = field(default_factory=list, metadata=_SECRET)
    source_id: Optional[str] = None
    artifacts_dirs: Optional[Sequence[SandboxPath]] = None
    artifacts_ignore_content: Optional[str] = None
    pre_execution_downloadables: Optional[List[RuntimeEnvironmentDownloadableInterface]] = None
    on_assistant_message: Optional[OnAssistantMessageCallback] = field(default=None, metadata=_NOT_IN_JSON)
    on_command_output: Optional[OnCommandOutputCallback] = field(default=None, metadata=_NOT_IN_JSON)
    on_artifact_upload_request: Optional[OnArtifactUploadRequestCallback] = field(default=None, metadata=_NOT_IN_JSON)
    timeout: Optional[Seconds] = None
    idle_timeout: Optional[Seconds] = None
    assistant_callback_timeout: Optional[Seconds] = None
    artifact_upload_callback_timeout: Optional[Seconds] = None
    logger: Optional[LoggerLike] = field(default=None, metadata=_NOT_IN_JSON)
    artifacts_dir: Optional[SandboxPath] = None
    on_heartbeat: Optional[OnHeartbeatCallback] = field(default=None, metadata=_NOT_IN_JSON)
    end_session_timeout: Optional[Seconds] = END_SESSION_TIMEOUT
    check: bool = True
    cancel_when: Optional[CancelWhen] = field(default=None, metadata=_NOT_IN_JSON)
    cancel_poll_interval: Seconds = CANCEL_POLL_INTERVAL


Options = Union[QueryOptions, ExecuteCommandsOptions]


def _check_fields(options: Any, *, pairing: bool = True) -> None:
    fields = vars(options)
    for name, value in fields.items():
        if (value is not None or name in NEVER_NONE) and name in _CHECKS:
            fields[name] = checked_option(name, value)
    if pairing:
        check.check_artifact_pairing(options.artifacts_dirs, options.artifacts_dir, options.on_artifact_upload_request)


def checked_option(name: str, value: Any) -> Any:
    """Returns the value of an option, which is not `None`, in the form that options store.

    Raises:
        TypeError: The value has the wrong type. The message names the option.
        ValueError: The value is invalid. The message names the option.
    """
    convert = _CONVERSIONS.get(name)
    if convert is not None:
        value = convert(value)
    _CHECKS[name](name, value)
    return value


def _check_json(kvs: Mapping[str, Any], kind: Type[Any]) -> None:
    """Checks the fields before dataclasses-json coerces them: it would turn the string "abc" into a list of three."""
    for name, value in kvs.items():
        if (value is not None or name in NEVER_NONE) and name in _CHECKS and name in kind.__dataclass_fields__:
            _CHECKS[name](name, instances_of(_ITEMS[name], name, value) if name in _ITEMS else value)


def _check_logger(name: str, logger: Any) -> None:
    if not all(callable(getattr(logger, method, None)) for method in METHODS):
        kind = type(logger).__name__
        raise TypeError(f"{name} must be a logging.Logger, or have its methods {', '.join(METHODS)}; {kind} does not")


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
    """Raises `TypeError` or `ValueError` for the first invalid field of a command. The message names it."""
    check.check_text(f"{name}.command", command.command)
    if command.cwd is not None:
        check.check_text(f"{name}.cwd", command.cwd)
    check.check_env(f"{name}.env", command.env)


def _check_downloadables(name: str, downloadables: List[RuntimeEnvironmentDownloadableInterface]) -> None:
    check.check_list_of(name, downloadables, RuntimeEnvironmentDownloadableInterface)
    for index, item in enumerate(downloadables):
        check.check_text(f"{name}[{index}].download_url", item.download_url)
        check.check_text(f"{name}[{index}].working_dir", item.working_dir)


#: The check of each option, for both classes.
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
    "cancel_when": check.check_callback,
    "cancel_poll_interval": check.check_interval,
    "logger": _check_logger,
    "artifacts_dir": check.check_text,
    "check": _check_bool,
}

#: How values become what options store; other values stay as they are.
_CONVERSIONS: Dict[str, Callable[[Any], Any]] = {
    "timeout": check.seconds,
    "idle_timeout": check.seconds,
    "assistant_callback_timeout": check.seconds,
    "artifact_upload_callback_timeout": check.seconds,
    "end_session_timeout": check.seconds,
    "cancel_poll_interval": check.seconds,
    "artifacts_dirs": check.path_texts,
    "artifacts_dir": check.path_text,
}

#: The options that are lists of dataclasses.
_ITEMS: Dict[str, Type[Any]] = {
    "pre_agent_invocation_commands": CommandInterface,
    "post_agent_invocation_commands": CommandInterface,
    "pre_agent_downloadables": RuntimeEnvironmentDownloadableInterface,
    "pre_execution_downloadables": RuntimeEnvironmentDownloadableInterface,
}

#: The options that must not be `None`.
NEVER_NONE = frozenset({"secrets_to_redact", "check", "cancel_poll_interval"})
