"""The keywords that calls accept: their types, for type checkers and editors, and how signatures list them.

A function that passes keywords on can use them, too: `**keywords: Unpack[QueryKeywords]` (PEP 692).

Threads: nothing is shared; signatures are made on import.
"""

import inspect
from typing import TYPE_CHECKING, Any, Callable, Generic, List, Mapping, Optional, Sequence, Type, TypedDict, TypeVar

from ._logs import LoggerLike
from ._wire.late_types import LateModule
from ._wire.validation import SandboxPath, Seconds
from .messages import CommandInterface, RuntimeEnvironmentDownloadableInterface
from .options import (
    CancelWhen,
    OnArtifactUploadRequestCallback,
    OnAssistantMessageCallback,
    OnCommandOutputCallback,
    OnHeartbeatCallback,
)

_Keywords = TypeVar("_Keywords")

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Unpack
else:
    ssl = LateModule("ssl")
    try:
        from typing import Unpack
    except ImportError:

        class Unpack(Generic[_Keywords]):
            """`typing.Unpack`, which Python has since 3.11: `Unpack[QueryKeywords]` annotates `**keywords`.

            On older versions this takes its place, so that annotations can be evaluated and shown.
            """


__all__ = [
    "CallKeywords",
    "ClientKeywords",
    "CommandsKeywords",
    "QueryKeywords",
    "Unpack",
    "WebSocketKeywords",
    "lists_keywords",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class CallKeywords(TypedDict, total=False):
    """The keywords that queries and commands share. `QueryOptions` documents them."""

    source_id: Optional[str]
    secrets_to_redact: List[str]
    artifacts_dirs: Optional[Sequence[SandboxPath]]
    artifacts_ignore_content: Optional[str]
    on_assistant_message: Optional[OnAssistantMessageCallback]
    on_command_output: Optional[OnCommandOutputCallback]
    on_artifact_upload_request: Optional[OnArtifactUploadRequestCallback]
    timeout: Optional[Seconds]
    idle_timeout: Optional[Seconds]
    assistant_callback_timeout: Optional[Seconds]
    artifact_upload_callback_timeout: Optional[Seconds]
    logger: Optional[LoggerLike]
    artifacts_dir: Optional[SandboxPath]
    on_heartbeat: Optional[OnHeartbeatCallback]
    end_session_timeout: Optional[Seconds]
    cancel_when: Optional[CancelWhen]
    cancel_poll_interval: Seconds


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
    ssl_context: "Optional[ssl.SSLContext]"
    proxy: Optional[str]
    connect_timeout: Optional[Seconds]
    handshake_timeout: Optional[Seconds]
    max_message_size: int
    max_buffered: int
    ping_interval: Optional[Seconds]
    ping_timeout: Seconds


class ClientKeywords(QueryKeywords, CommandsKeywords, WebSocketKeywords, total=False):
    """The keywords of `RuntimeUseClient`: settings of its WebSocket, and defaults for the options of its calls.

    `WebSocketTransport`, `QueryOptions` and `ExecuteCommandsOptions` document them.
    """


def lists_keywords(keywords: Type[Any], defaults: Mapping[str, Any]) -> Callable[[_Function], _Function]:
    """Returns a decorator that makes a function's signature list the keywords that its `**keywords` accepts.

    `help`, `inspect.signature`, completion in IPython and `mock.create_autospec` then know them.

    Args:
        keywords: The typed dictionary of the keywords.
        defaults: The keywords in the order to list them in, with their default values.
    """
    types = keywords.__annotations__
    listed = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            # A type that is not loaded yet is shown by its text.
            annotation=getattr(types[name], "__forward_arg__", types[name]),
        )
        for name, default in defaults.items()
        if name in types
    ]

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        vars(function)["__signature__"] = signature.replace(parameters=own + listed)
        return function

    return decorate
