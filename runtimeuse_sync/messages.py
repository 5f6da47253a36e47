"""The messages on the wire as dataclasses, with the names of the async client.

The subclasses of `AgentRuntimeMessageInterface`, and `EndSessionConfirmMessage`, are what the runtime sends; the other
messages are what the client sends. Their fields are those of PROTOCOL.md's tables. `_wire/codec.py` converts messages
to and from JSON text.

Threads: plain data; nothing is shared.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Literal, Mapping, NamedTuple, Optional, Tuple, Union

from ._wire.artifact_paths import NO_DIRECTORIES, ArtifactDirectories, relative_path
from ._wire.dataclass_json import JsonMixin, env_field, json_field
from ._wire.safe_repr import SafeRepr
from ._wire.validation import SandboxPath, path_text
from .results import CommandResultItem, StructuredOutputResult, TextResult, data_from_json, data_to_json


@dataclass
class AgentRuntimeMessageInterface(JsonMixin):
    """Base class of what the runtime sends.

    Args:
        message_type: The type of the message, such as `"assistant_message"`.
    """

    message_type: str


@dataclass
class AssistantMessageInterface(AgentRuntimeMessageInterface):
    """Text that the agent sends while it runs.

    Args:
        message_type: `"assistant_message"`.
        text_blocks: The blocks of text, in order.
    """

    message_type: Literal["assistant_message"]
    text_blocks: List[str]

    @property
    def text(self) -> str:
        """The blocks as one text, with a line break between every two of them."""
        return "\n".join(self.text_blocks)


@dataclass
class CommandOutputMessageInterface(AgentRuntimeMessageInterface):
    """A chunk of a command's output, sent while the command runs.

    Args:
        message_type: `"command_output_message"`.
        stream: `"stdout"` or `"stderr"`.
        text: The chunk, which may start and end in the middle of a line.
        command: The command that printed it.
    """

    message_type: Literal["command_output_message"]
    stream: Literal["stdout", "stderr"]
    text: str
    command: str


@dataclass
class HeartbeatMessageInterface(AgentRuntimeMessageInterface):
    """A sign of life, sent every 15 s while a request is in flight.

    Args:
        message_type: `"heartbeat_message"`.
        phase: What the runtime is doing.
        elapsed_ms: Milliseconds since the request started.
    """

    message_type: Literal["heartbeat_message"]
    phase: str
    elapsed_ms: int


@dataclass
class ArtifactUploadRequestMessageInterface(AgentRuntimeMessageInterface):
    """An upload request: the runtime has an artifact and asks where to upload it.

    Args:
        message_type: `"artifact_upload_request_message"`.
        filename: The file's base name.
        filepath: The file's path in the sandbox. Bytes that cannot be decoded appear as U+FFFD; the answer to the
            runtime contains its original path all the same.
    """

    message_type: Literal["artifact_upload_request_message"]
    filename: str
    filepath: str

    @property
    def relative_path(self) -> str:
        """The file's path below its artifact directory, such as `charts/today.png`; never leads out of it.

        A file that is in several artifact directories, one inside the other, counts to the innermost. If the client
        knows no directory that the file is in, this is the whole path without its root. That is so for a request that
        no call received, and for a relative directory without a name (`.`, `..`), as the client does not know the
        runtime's working directory. Files in different artifact directories may have the same relative path.

        Raises:
            ValueError: The path names no file.
        """
        place = directories_of(self).place(self.filepath)
        return relative_path(self.filepath if place is None else "/".join(place.below))


def announce_in(request: ArtifactUploadRequestMessageInterface, directories: ArtifactDirectories) -> None:
    """Stores the artifact directories that the calls on the request's connection have named."""
    vars(request)["_directories"] = directories


def directories_of(request: ArtifactUploadRequestMessageInterface) -> ArtifactDirectories:
    """Returns the artifact directories that the calls on the request's connection have named; none if unknown."""
    directories = vars(request).get("_directories")
    return directories if isinstance(directories, ArtifactDirectories) else NO_DIRECTORIES


def announce_as(request: ArtifactUploadRequestMessageInterface, filename: str, filepath: str) -> None:
    """Stores the file name and path that the runtime sent, if they contain surrogates and so differ from the fields."""
    vars(request)["_announced"] = (filename, filepath)


def announced_as(request: ArtifactUploadRequestMessageInterface) -> Tuple[str, str]:
    """Returns the file name and path that the runtime sent, which the answer must repeat."""
    names: Tuple[str, str] = vars(request).get("_announced", (request.filename, request.filepath))
    return names


@dataclass
class ResultMessageInterface(AgentRuntimeMessageInterface):
    """The terminal message of a query: its result.

    Args:
        message_type: `"result_message"`.
        data: The result, `TextResult` or `StructuredOutputResult`.
        metadata: What the runtime reports about the run, such as token usage; `None` if nothing.
    """

    message_type: Literal["result_message"]
    data: Union[TextResult, StructuredOutputResult] = field(
        metadata=json_field(encoder=data_to_json, decoder=data_from_json)
    )
    metadata: Optional[Dict[str, Any]] = None


@dataclass
class CommandExecutionResultMessageInterface(AgentRuntimeMessageInterface):
    """The terminal message of a request to execute commands: their results.

    Args:
        message_type: `"command_execution_result_message"`.
        results: The commands that ran, in order.
    """

    message_type: Literal["command_execution_result_message"]
    results: List[CommandResultItem]


@dataclass
class ErrorMessageInterface(AgentRuntimeMessageInterface):
    """An error, usually the terminal message of its request (PROTOCOL.md, "Two terminals").

    Args:
        message_type: `"error_message"`.
        error: What went wrong.
        metadata: Details, such as `error_name` and `stack`; `None` if there are none.
    """

    message_type: Literal["error_message"]
    error: str
    metadata: Optional[Dict[str, Any]] = None


@dataclass
class EndSessionConfirmMessage(JsonMixin):
    """The runtime's answer to `EndSessionMessage`: all uploads are done, and it closes the connection next.

    Args:
        message_type: `"end_session_confirm_message"`.
    """

    message_type: Literal["end_session_confirm_message"] = "end_session_confirm_message"


@dataclass(repr=False)
class RuntimeEnvironmentDownloadableInterface(SafeRepr, JsonMixin):
    """A file that the runtime downloads into the sandbox before the run.

    Args:
        download_url: The file's URL. A `.zip` archive is extracted; any other file is saved under the last segment of
            the URL's path. `repr` masks the URL's user, password and query string.
        working_dir: The directory in the sandbox to put the file in; created if missing.
    """

    download_url: str = field(metadata={"secret": "url"})
    working_dir: SandboxPath

    def __post_init__(self) -> None:
        self.working_dir = path_text(self.working_dir)


@dataclass(repr=False)
class CommandInterface(SafeRepr, JsonMixin):
    """A shell command to run in the sandbox.

    Args:
        command: The command, run by the sandbox's shell.
        cwd: The working directory, created if missing. `None`, the default, is the runtime's own.
        env: Environment variables for this command only, added to the runtime's environment. Any mapping of str to str,
            such as `os.environ`; each call copies it. Default: `None`. `repr` masks the values.
    """

    command: str
    cwd: Optional[SandboxPath] = None
    env: Optional[Mapping[str, str]] = field(default=None, metadata=env_field())

    def __post_init__(self) -> None:
        self.cwd = path_text(self.cwd)


@dataclass(repr=False)
class InvocationMessage(SafeRepr, JsonMixin):
    """The request to run the agent; the fields are those of `QueryOptions`, and the prompt.

    Args:
        message_type: `"invocation_message"`.
        system_prompt: The agent's system prompt.
        user_prompt: The prompt of the query.
        model: The model that the agent uses.
        source_id: The caller's identifier, for tracing.
        agent_env: Environment variables for the agent.
        output_format_json_schema_str: JSON text with the schema of a structured result.
        secrets_to_redact: Strings that the runtime masks in everything it sends.
        artifacts_dirs: Directories whose files are uploaded.
        artifacts_ignore_content: Ignore patterns in gitignore syntax.
        pre_agent_invocation_commands: Commands to run before the agent.
        post_agent_invocation_commands: Commands to run after the agent.
        pre_agent_downloadables: Files to download first.
        artifacts_dir: One artifact directory, in the older spelling of `artifacts_dirs`.
    """

    message_type: Literal["invocation_message"]
    system_prompt: str
    user_prompt: str
    model: str
    source_id: Optional[str] = None
    agent_env: Optional[Mapping[str, str]] = field(default=None, metadata=env_field())
    output_format_json_schema_str: Optional[str] = None
    secrets_to_redact: List[str] = field(default_factory=list, metadata={"secret": "values"})
    artifacts_dirs: Optional[List[str]] = None
    artifacts_ignore_content: Optional[str] = None
    pre_agent_invocation_commands: Optional[List[CommandInterface]] = None
    post_agent_invocation_commands: Optional[List[CommandInterface]] = None
    pre_agent_downloadables: Optional[List[RuntimeEnvironmentDownloadableInterface]] = None
    artifacts_dir: Optional[str] = None


@dataclass(repr=False)
class CommandExecutionMessage(SafeRepr, JsonMixin):
    """The request to execute commands; the fields are those of `ExecuteCommandsOptions`, and the commands.

    Args:
        message_type: `"command_execution_message"`.
        commands: The commands, in order.
        source_id: The caller's identifier, for tracing.
        secrets_to_redact: Strings that the runtime masks in everything it sends.
        artifacts_dirs: Directories whose files are uploaded.
        artifacts_ignore_content: Ignore patterns in gitignore syntax.
        pre_execution_downloadables: Files to download first.
        artifacts_dir: One artifact directory, in the older spelling of `artifacts_dirs`.
    """

    message_type: Literal["command_execution_message"]
    commands: List[CommandInterface]
    source_id: Optional[str] = None
    secrets_to_redact: List[str] = field(default_factory=list, metadata={"secret": "values"})
    artifacts_dirs: Optional[List[str]] = None
    artifacts_ignore_content: Optional[str] = None
    pre_execution_downloadables: Optional[List[RuntimeEnvironmentDownloadableInterface]] = None
    artifacts_dir: Optional[str] = None


@dataclass(repr=False)
class ArtifactUploadResponseMessageInterface(SafeRepr, JsonMixin):
    """The client's answer to an upload request.

    Args:
        message_type: `"artifact_upload_response_message"`.
        filename: The `filename` of the request.
        filepath: The `filepath` of the request.
        presigned_url: The URL that the runtime sends the file to, with PUT. `repr` masks its query string.
        content_type: The media type of the file, such as `"text/plain"`.
    """

    message_type: Literal["artifact_upload_response_message"]
    filename: str
    filepath: str
    presigned_url: str = field(metadata={"secret": "url"})
    content_type: str


@dataclass
class CancelMessage(JsonMixin):
    """Cancels the request in flight, if there is one.

    Args:
        message_type: `"cancel_message"`.
    """

    message_type: Literal["cancel_message"] = "cancel_message"


@dataclass
class EndSessionMessage(JsonMixin):
    """Ends the session: the runtime completes all uploads, confirms, and closes the connection.

    Args:
        message_type: `"end_session_message"`.
    """

    message_type: Literal["end_session_message"] = "end_session_message"


class OutputLine(NamedTuple):
    """A whole line; `Run.lines` yields them.

    Args:
        stream: `"stdout"` or `"stderr"` of a command, or `"assistant"` for a line of the agent's messages.
        text: The line, without its line ending.
        command: The command that printed it; empty for the agent's.
    """

    stream: Literal["stdout", "stderr", "assistant"]
    text: str
    command: str


StreamedMessage = Union[AssistantMessageInterface, CommandOutputMessageInterface, HeartbeatMessageInterface]
"""What iterating over a run yields."""
