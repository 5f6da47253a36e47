"""The blocking, thread-based client for the RuntimeUse agent runtime.

    from runtimeuse_sync import RuntimeUseClient

    client = RuntimeUseClient("ws://localhost:8080", model="gpt-4.1")
    print(client.query("What is 2 + 2?").text)

All public names can be imported from here, except those of `artifacts` (ready-made upload callbacks), `batch` (many
runs), `files` (files in the sandbox, and their errors), `testing` (a fake runtime for tests), `keywords` (types of
keywords) and `runtime` (the embedded runtime, with the extra `[runtime]`).

The private parts: `_session` has the requests on one connection, `_connection` a connection and the thread that owns
it, `_websocket` the WebSocket itself, and `_wire` the JSON that goes over it. `_call`, `_threads`, `_interrupts` and
`_logs` serve all of them.

Threads: importing the package starts none.
"""

from typing import TYPE_CHECKING, Any

from .client import RuntimeUseClient
from .errors import (
    AgentRuntimeError,
    ArtifactUploadError,
    CancelledException,
    CommandFailedError,
    ConnectionLostError,
    OutputProblem,
    OutputValidationError,
    ProtocolError,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseError,
    SessionStateError,
)
from .messages import (
    AgentRuntimeMessageInterface,
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResponseMessageInterface,
    AssistantMessageInterface,
    CancelMessage,
    CommandExecutionMessage,
    CommandExecutionResultMessageInterface,
    CommandInterface,
    CommandOutputMessageInterface,
    EndSessionConfirmMessage,
    EndSessionMessage,
    ErrorMessageInterface,
    HeartbeatMessageInterface,
    InvocationMessage,
    OutputLine,
    ResultMessageInterface,
    RuntimeEnvironmentDownloadableInterface,
)
from .options import (
    ExecuteCommandsOptions,
    OnArtifactUploadRequestCallback,
    OnAssistantMessageCallback,
    OnCommandOutputCallback,
    OnHeartbeatCallback,
    QueryOptions,
)
from .results import (
    ArtifactUploadResult,
    CommandExecutionResult,
    CommandResultItem,
    QueryResult,
    StructuredOutputResult,
    TextResult,
    TypedQueryResult,
)
from .run import Run
from .session import RuntimeUseSession
from .transports import (
    ConnectedTransport,
    ConnectedWebSocketTransport,
    PersistentTransport,
    Transport,
    WebSocketTransport,
)

if TYPE_CHECKING:
    from .futures import RunFuture
else:

    def __getattr__(name: str) -> Any:
        # Imported when it is used: it needs `concurrent.futures`.
        if name == "RunFuture":
            from .futures import RunFuture

            return RunFuture
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"

__all__ = [
    "AgentRuntimeError",
    "AgentRuntimeMessageInterface",
    "ArtifactUploadError",
    "ArtifactUploadRequestMessageInterface",
    "ArtifactUploadResponseMessageInterface",
    "ArtifactUploadResult",
    "AssistantMessageInterface",
    "CancelMessage",
    "CancelledException",
    "CommandExecutionMessage",
    "CommandExecutionResult",
    "CommandExecutionResultMessageInterface",
    "CommandFailedError",
    "CommandInterface",
    "CommandOutputMessageInterface",
    "CommandResultItem",
    "ConnectedTransport",
    "ConnectedWebSocketTransport",
    "ConnectionLostError",
    "EndSessionConfirmMessage",
    "EndSessionMessage",
    "ErrorMessageInterface",
    "ExecuteCommandsOptions",
    "HeartbeatMessageInterface",
    "InvocationMessage",
    "OnArtifactUploadRequestCallback",
    "OnAssistantMessageCallback",
    "OnCommandOutputCallback",
    "OnHeartbeatCallback",
    "OutputLine",
    "OutputProblem",
    "OutputValidationError",
    "PersistentTransport",
    "ProtocolError",
    "QueryOptions",
    "QueryResult",
    "ResultMessageInterface",
    "Run",
    "RunFuture",
    "RunTimeoutError",
    "RuntimeConnectionError",
    "RuntimeEnvironmentDownloadableInterface",
    "RuntimeUseClient",
    "RuntimeUseError",
    "RuntimeUseSession",
    "SessionStateError",
    "StructuredOutputResult",
    "TextResult",
    "Transport",
    "TypedQueryResult",
    "WebSocketTransport",
    "__version__",
]
