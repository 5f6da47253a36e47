"""Options with callbacks, and messages to call them with, for the unit tests of callbacks."""

from __future__ import annotations

import contextvars
import json
from typing import Any, Dict, Optional

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CommandOutputMessageInterface,
    HeartbeatMessageInterface,
    QueryOptions,
)
from runtimeuse_sync._call import Call
from runtimeuse_sync._session.callbacks import Callbacks
from runtimeuse_sync._session.turns import Ticket

from .servers import PATIENCE

ASSISTANT = AssistantMessageInterface("assistant_message", ["hi"])
OUTPUT = CommandOutputMessageInterface("command_output_message", "stdout", "x", "ls")
HEARTBEAT = HeartbeatMessageInterface("heartbeat_message", "agent", 1)
REQUEST = ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "a", "/out/a")
UPLOAD = ArtifactUploadResult("https://store.test/a?sig=1", "text/plain")


def make(options: Any, call: Optional[Call] = None) -> Callbacks:
    call = call or Call("query", None)
    return Callbacks(options, call, Ticket(call.wakeup))


def with_timeout(callback: Any, seconds: float = PATIENCE, **more: Any) -> QueryOptions:
    return QueryOptions(on_assistant_message=callback, assistant_callback_timeout=seconds, **more)


def with_upload(callback: Any, **more: Any) -> QueryOptions:
    return QueryOptions(artifacts_dirs=["/out"], on_artifact_upload_request=callback, **more)


def uploaded(options: Any, call: Optional[Call] = None) -> Dict[str, Any]:
    answer: Dict[str, Any] = json.loads(make(options, call).upload(REQUEST, options))
    return answer


class Failure(Exception):
    pass


#: Of the caller, for callbacks to see and to change.
context: contextvars.ContextVar[str] = contextvars.ContextVar("context", default="unset")
