"""The blocking, thread-based client for the RuntimeUse agent runtime.

For example::

    from runtimeuse_sync import RuntimeUseClient

    client = RuntimeUseClient("ws://localhost:8080", model="gpt-4.1")
    print(client.query("What is 2 + 2?").text)

All public names can be imported from here, except those of `artifacts` (ready-made upload callbacks), `batch` (many
runs), `files` (files in the sandbox, and their errors), `testing` (a fake runtime for tests), `keywords` (types of
keywords), `sandboxes` (where runtimes run), `sse` (a run as server-sent events), `asgi` (calls and events beside an
event loop), `runtime` (the embedded runtime, with the extra `[runtime]`), `opentelemetry` (spans and metrics of calls,
with the extra `[otel]`) and `django` (the Django app, with the extra `[django]`).

The private parts: `_session` has the requests on one connection, `_connection` a connection and the thread that owns
it, `_websocket` the WebSocket itself, and `_wire` the JSON that goes over it. `_call`, `_threads`, `_interrupts` and
`_logs` serve all of them.

The client is imported with the first use of a public name, so that the pytest plugin, which is a module of this package
and loaded wherever pytest runs, costs nothing where it is not used. Nor does pytest warn where the package was imported
before it (PYTEST_DONT_REWRITE).

Threads: importing the package starts none.
"""

import importlib
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
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
    from .futures import RunFuture
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
else:

    def __getattr__(name: str) -> Any:
        if name == "RunFuture":
            # Only when it is used itself: it needs `concurrent.futures`.
            from .futures import RunFuture

            return RunFuture
        if name in _MODULES or name in _OTHER_MODULES:
            return importlib.import_module(f".{name}", __name__)
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for each in _MODULES:
            found = vars(importlib.import_module(f".{each}", __name__))
            for public in __all__:
                if public in found:
                    # A test may have put something else in its place already.
                    globals().setdefault(public, found[public])
        return globals()[name]

    def __dir__() -> List[str]:
        return sorted({*globals(), *__all__, *_MODULES, *_OTHER_MODULES})


__version__ = "0.1.0"
"""The version of this package."""

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

#: The modules that the names above, but `RunFuture`, are from.
_MODULES = ("client", "errors", "messages", "options", "results", "run", "session", "transports")

#: Further modules for users.
_OTHER_MODULES = ("artifacts", "batch", "files", "futures", "keywords", "sandboxes", "sse", "testing")
