"""A valid message of each type, as JSON, with what the codec makes of it."""

from __future__ import annotations

from typing import Any, List

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    AssistantMessageInterface,
    CommandExecutionResultMessageInterface,
    CommandOutputMessageInterface,
    CommandResultItem,
    EndSessionConfirmMessage,
    ErrorMessageInterface,
    HeartbeatMessageInterface,
    ResultMessageInterface,
    StructuredOutputResult,
    TextResult,
)
from runtimeuse_sync._wire.codec import decode, parse


def read(text: str) -> Any:
    return decode(parse(text))


#: JSON objects, each with what it is read as.
VALID: List[Any] = [
    (
        {"message_type": "assistant_message", "text_blocks": ["a", ""]},
        AssistantMessageInterface("assistant_message", ["a", ""]),
    ),
    ({"message_type": "assistant_message", "text_blocks": []}, AssistantMessageInterface("assistant_message", [])),
    (
        {"message_type": "command_output_message", "stream": "stdout", "text": "x\n", "command": "ls"},
        CommandOutputMessageInterface("command_output_message", "stdout", "x\n", "ls"),
    ),
    (
        {"message_type": "command_output_message", "stream": "stderr", "text": "", "command": ""},
        CommandOutputMessageInterface("command_output_message", "stderr", "", ""),
    ),
    (
        {"message_type": "heartbeat_message", "phase": "agent", "elapsed_ms": 15000},
        HeartbeatMessageInterface("heartbeat_message", "agent", 15000),
    ),
    (
        {"message_type": "artifact_upload_request_message", "filename": "a", "filepath": "/out/a"},
        ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "a", "/out/a"),
    ),
    (
        {"message_type": "result_message", "data": {"type": "text", "text": "4"}, "metadata": {"n": 1}},
        ResultMessageInterface("result_message", TextResult("4"), {"n": 1}),
    ),
    (
        {"message_type": "result_message", "data": {"type": "structured_output", "structured_output": {"a": [None]}}},
        ResultMessageInterface("result_message", StructuredOutputResult({"a": [None]}), None),
    ),
    (
        {
            "message_type": "command_execution_result_message",
            "results": [{"command": "a", "exit_code": 0, "stdout": "x"}, {"command": "b", "exit_code": -1}],
        },
        CommandExecutionResultMessageInterface(
            "command_execution_result_message", [CommandResultItem("a", 0, "x"), CommandResultItem("b", -1, None)]
        ),
    ),
    (
        {"message_type": "command_execution_result_message", "results": []},
        CommandExecutionResultMessageInterface("command_execution_result_message", []),
    ),
    (
        {"message_type": "error_message", "error": "no", "metadata": {"stack": "s"}},
        ErrorMessageInterface("error_message", "no", {"stack": "s"}),
    ),
    ({"message_type": "error_message", "error": ""}, ErrorMessageInterface("error_message", "", None)),
    ({"message_type": "end_session_confirm_message"}, EndSessionConfirmMessage()),
]
