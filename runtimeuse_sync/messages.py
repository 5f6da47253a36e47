"""The messages of the wire as dataclasses, under the names of the async client.

What the runtime sends (`…MessageInterface`) and what the client sends (`InvocationMessage` and so on). Field by field
they are PROTOCOL.md's tables; turning them into JSON text and back, checked, is `_codec.py`'s. No threads run here.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Literal, Mapping, Optional, Tuple, Union

from ._wire.dataclass_json import JsonMixin, env_field, json_field
from ._wire.safe_repr import SafeRepr
from .results import CommandResultItem, StructuredOutputResult, TextResult, data_from_json, data_to_json


@dataclass
class AgentRuntimeMessageInterface(JsonMixin):
    """Anything that the runtime sends."""

    message_type: str


@dataclass
class AssistantMessageInterface(AgentRuntimeMessageInterface):
    """Text that the agent says while it runs."""

    message_type: Literal["assistant_message"]
    text_blocks: List[str]


@dataclass
class CommandOutputMessageInterface(AgentRuntimeMessageInterface):
    """A chunk of a command's output, as it comes.

    Attributes:
        stream: `"stdout"` or `"stderr"`.
        text: The chunk; not necessarily whole lines.
        command: The command that prints it.
    """

    message_type: Literal["command_output_message"]
    stream: Literal["stdout", "stderr"]
    text: str
    command: str


@dataclass
class HeartbeatMessageInterface(AgentRuntimeMessageInterface):
    """A sign of life, every 15 s while a request is in flight.

    Attributes:
        phase: What the runtime is doing.
        elapsed_ms: Milliseconds since the request began.
    """

    message_type: Literal["heartbeat_message"]
    phase: str
    elapsed_ms: int


@dataclass
class ArtifactUploadRequestMessageInterface(AgentRuntimeMessageInterface):
    """The runtime has a file and asks where to upload it.

    Attributes:
        filename: The file's base name.
        filepath: Its path inside the sandbox. Bytes of it that are no text are U+FFFD here; the runtime gets its own
            path back.
    """

    message_type: Literal["artifact_upload_request_message"]
    filename: str
    filepath: str


def announce_as(request: ArtifactUploadRequestMessageInterface, filename: str, filepath: str) -> None:
    """Notes the names in a request as the runtime has them, where they are no text that can be printed."""
    vars(request)["_announced"] = (filename, filepath)


def announced_as(request: ArtifactUploadRequestMessageInterface) -> Tuple[str, str]:
    """Returns file name and path of a request as the runtime has them: what its answer repeats."""
    names: Tuple[str, str] = vars(request).get("_announced", (request.filename, request.filepath))
    return names


@dataclass
class ResultMessageInterface(AgentRuntimeMessageInterface):
    """The end of a query."""

    message_type: Literal["result_message"]
    data: Union[TextResult, StructuredOutputResult] = field(
        metadata=json_field(encoder=data_to_json, decoder=data_from_json)
    )
    metadata: Optional[Dict[str, Any]] = None


@dataclass
class CommandExecutionResultMessageInterface(AgentRuntimeMessageInterface):
    """The end of a request to execute commands."""

    message_type: Literal["command_execution_result_message"]
    results: List[CommandResultItem]


@dataclass
class ErrorMessageInterface(AgentRuntimeMessageInterface):
    """An error: usually the end of the request (PROTOCOL.md, "Two terminals")."""

    message_type: Literal["error_message"]
    error: str
    metadata: Optional[Dict[str, Any]] = None


@dataclass
class EndSessionConfirmMessage(JsonMixin):
    """The runtime has drained its uploads; it closes the connection next."""

    message_type: Literal["end_session_confirm_message"] = "end_session_confirm_message"


@dataclass(repr=False)
class RuntimeEnvironmentDownloadableInterface(SafeRepr, JsonMixin):
    """A file to fetch into the sandbox before the run.

    Attributes:
        download_url: Where it is; a `.zip` is extracted, anything else is saved under the URL path's last segment.
        working_dir: The directory inside the sandbox to put it in; created if missing.
    """

    download_url: str = field(metadata={"secret": "url"})
    working_dir: str


@dataclass(repr=False)
class CommandInterface(SafeRepr, JsonMixin):
    """A shell command to run in the sandbox.

    Attributes:
        command: Run by the sandbox's shell.
        cwd: Its working directory, created if missing; `None` for the runtime's own.
        env: Merged over the runtime's environment, for this command only. Any mapping, `os.environ` for one; each call
            copies it.
    """

    command: str
    cwd: Optional[str] = None
    env: Optional[Mapping[str, str]] = field(default=None, metadata=env_field())


@dataclass(repr=False)
class InvocationMessage(SafeRepr, JsonMixin):
    """The request to run the agent."""

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
    """The request to execute commands."""

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
    """The answer to an upload request; `filename` and `filepath` are the request's."""

    message_type: Literal["artifact_upload_response_message"]
    filename: str
    filepath: str
    presigned_url: str = field(metadata={"secret": "url"})
    content_type: str


@dataclass
class CancelMessage(JsonMixin):
    """Cancels the request in flight; a no-op where there is none."""

    message_type: Literal["cancel_message"] = "cancel_message"


@dataclass
class EndSessionMessage(JsonMixin):
    """Ends the session: the runtime drains its uploads, confirms and closes."""

    message_type: Literal["end_session_message"] = "end_session_message"


#: What a run yields while it is under way.
StreamedMessage = Union[AssistantMessageInterface, CommandOutputMessageInterface, HeartbeatMessageInterface]
