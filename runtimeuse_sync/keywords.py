"""The types of the keywords that calls accept, for type checkers and editors.

A function that passes keywords on can use them, too: `**keywords: Unpack[QueryKeywords]` (PEP 692).

Threads: types only; nothing runs here.
"""

import ssl
from typing import TYPE_CHECKING, List, Mapping, Optional, TypedDict

from ._logs import LoggerLike
from .messages import CommandInterface, RuntimeEnvironmentDownloadableInterface
from .options import (
    OnArtifactUploadRequestCallback,
    OnAssistantMessageCallback,
    OnCommandOutputCallback,
    OnHeartbeatCallback,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack
else:
    # Python before 3.11 has no `Unpack`. With this stand-in, `typing.get_type_hints` still works.
    Unpack = List

__all__ = ["CallKeywords", "CommandsKeywords", "QueryKeywords", "Unpack", "WebSocketKeywords"]


class CallKeywords(TypedDict, total=False):
    """The keywords that queries and commands share. `QueryOptions` documents them."""

    source_id: Optional[str]
    secrets_to_redact: List[str]
    artifacts_dirs: Optional[List[str]]
    artifacts_ignore_content: Optional[str]
    on_assistant_message: Optional[OnAssistantMessageCallback]
    on_command_output: Optional[OnCommandOutputCallback]
    on_artifact_upload_request: Optional[OnArtifactUploadRequestCallback]
    timeout: Optional[float]
    idle_timeout: Optional[float]
    assistant_callback_timeout: Optional[float]
    artifact_upload_callback_timeout: Optional[float]
    logger: Optional[LoggerLike]
    artifacts_dir: Optional[str]
    on_heartbeat: Optional[OnHeartbeatCallback]
    end_session_timeout: Optional[float]


class QueryKeywords(CallKeywords, total=False):
    """The keywords of `query` and `stream`: the fields of `QueryOptions`, which documents them."""

    system_prompt: Optional[str]
    model: Optional[str]
    output_format_json_schema_str: Optional[str]
    agent_env: Optional[Mapping[str, str]]
    pre_agent_invocation_commands: Optional[List[CommandInterface]]
    post_agent_invocation_commands: Optional[List[CommandInterface]]
    pre_agent_downloadables: Optional[List[RuntimeEnvironmentDownloadableInterface]]


class CommandsKeywords(CallKeywords, total=False):
    """The keywords of `execute_commands` and `stream_commands`: the fields of `ExecuteCommandsOptions`.

    That class documents them.
    """

    pre_execution_downloadables: Optional[List[RuntimeEnvironmentDownloadableInterface]]
    check: bool


class WebSocketKeywords(TypedDict, total=False):
    """The keywords of `RuntimeUseClient` for its WebSocket. `WebSocketTransport` documents them."""

    headers: Optional[Mapping[str, str]]
    ssl_context: Optional[ssl.SSLContext]
    proxy: Optional[str]
    connect_timeout: Optional[float]
    handshake_timeout: Optional[float]
    max_message_size: int
    max_buffered: int
    ping_interval: Optional[float]
    ping_timeout: float
