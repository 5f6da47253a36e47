"""Owns the client's messages as the runtime sees them: parses the JSON, checks each field, and returns dataclasses.

A field that is `null` counts as unset. Unknown fields are ignored. An error's text names the message and the field.

Threads: no state, no I/O; called on the event loop.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar, Union

from .._wire.json_text import load_json

T = TypeVar("T")


class MalformedMessageError(ValueError):
    """A client's message violates the protocol; the text names the field."""


@dataclass(frozen=True)
class Command:
    """One shell command."""

    command: str
    cwd: Optional[str] = None
    env: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Downloadable:
    """One file to fetch before the work begins."""

    download_url: str
    working_dir: str


@dataclass(frozen=True)
class RequestBase:
    """The fields that both kinds of requests have."""

    secrets: List[str]
    source_id: Optional[str]
    artifacts_dirs: List[str]
    artifacts_ignore_content: Optional[str]
    downloadables: List[Downloadable]


@dataclass(frozen=True)
class InvocationRequest(RequestBase):
    """`invocation_message`."""

    system_prompt: str
    user_prompt: str
    model: str
    agent_env: Dict[str, str]
    output_format: Any
    pre_commands: List[Command]
    post_commands: List[Command]


@dataclass(frozen=True)
class CommandRequest(RequestBase):
    """`command_execution_message`."""

    commands: List[Command]


@dataclass(frozen=True)
class UploadResponse:
    """`artifact_upload_response_message`."""

    filename: str
    filepath: str
    presigned_url: str
    content_type: str


Request = Union[InvocationRequest, CommandRequest]

REQUEST_TYPES = ("invocation_message", "command_execution_message")


def decode(raw: Union[str, bytes]) -> Dict[str, Any]:
    """Returns the JSON object in a frame.

    Raises:
        MalformedMessageError: the frame is not a JSON object, or has no `message_type`.
    """
    try:
        message = load_json(raw) if isinstance(raw, str) else json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(f"Invalid message: not JSON ({error})") from None
    if not isinstance(message, dict):
        raise MalformedMessageError("Invalid message: not a JSON object")
    if not isinstance(message.get("message_type"), str):
        raise MalformedMessageError('Invalid message: "message_type" must be a string')
    return message


def parse_request(message: Dict[str, Any]) -> Request:
    """Returns the request in a message of one of the `REQUEST_TYPES`.

    Raises:
        MalformedMessageError: a field is missing or has the wrong type.
    """
    fields = _Fields(message, f"Invalid {message['message_type']}: ")
    if message["message_type"] == "command_execution_message":
        return CommandRequest(
            **_base(fields, "pre_execution_downloadables"),
            commands=fields.objects("commands", _command, required=True),
        )
    return InvocationRequest(
        **_base(fields, "pre_agent_downloadables"),
        system_prompt=fields.text("system_prompt"),
        user_prompt=fields.text("user_prompt"),
        model=fields.text("model"),
        agent_env=fields.environment("agent_env"),
        output_format=_output_format(fields),
        pre_commands=fields.objects("pre_agent_invocation_commands", _command),
        post_commands=fields.objects("post_agent_invocation_commands", _command),
    )


def parse_upload_response(message: Dict[str, Any]) -> UploadResponse:
    """Returns the upload response in an `artifact_upload_response_message`.

    Raises:
        MalformedMessageError: a field is missing or has the wrong type.
    """
    fields = _Fields(message, f"Invalid {message['message_type']}: ")
    return UploadResponse(
        filename=fields.text("filename"),
        filepath=fields.text("filepath"),
        presigned_url=fields.text("presigned_url"),
        content_type=fields.text("content_type"),
    )


def _base(fields: "_Fields", downloadables: str) -> Dict[str, Any]:
    directories = fields.texts("artifacts_dirs")
    older = fields.optional_text("artifacts_dir")
    if older is not None and older not in directories:
        directories.append(older)
    return {
        "secrets": fields.texts("secrets_to_redact"),
        "source_id": fields.optional_text("source_id"),
        "artifacts_dirs": directories,
        "artifacts_ignore_content": fields.optional_text("artifacts_ignore_content"),
        "downloadables": fields.objects(downloadables, _downloadable),
    }


def _command(fields: "_Fields") -> Command:
    return Command(command=fields.text("command"), cwd=fields.optional_text("cwd"), env=fields.environment("env"))


def _downloadable(fields: "_Fields") -> Downloadable:
    return Downloadable(download_url=fields.text("download_url"), working_dir=fields.text("working_dir"))


def _output_format(fields: "_Fields") -> Any:
    # Any JSON: the agent interprets it.
    name = "output_format_json_schema_str"
    text = fields.optional_text(name)
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise fields.wrong(name, "JSON text") from None


class _Fields:
    """Reads the fields of one JSON object; `null` is the same as unset."""

    def __init__(self, values: Dict[str, Any], where: str) -> None:
        self._values = values
        self._where = where

    def wrong(self, name: str, expected: str) -> MalformedMessageError:
        missing = self._values.get(name) is None
        return MalformedMessageError(f'{self._where}"{name}" {"is missing: it " if missing else ""}must be {expected}')

    def text(self, name: str) -> str:
        value = self.optional_text(name)
        if value is None:
            raise self.wrong(name, "a string")
        return value

    def optional_text(self, name: str) -> Optional[str]:
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, "a string")

    def texts(self, name: str) -> List[str]:
        value = self._list(name, "a list of strings")
        if not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of strings")
        return list(value)

    def environment(self, name: str) -> Dict[str, str]:
        value = self._values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.wrong(name, "an object of strings")
        return dict(value)

    def objects(self, name: str, parse: "Callable[[_Fields], T]", required: bool = False) -> List[T]:
        if required and self._values.get(name) is None:
            raise self.wrong(name, "a list of objects")
        parsed = []
        for index, item in enumerate(self._list(name, "a list of objects")):
            if not isinstance(item, dict):
                raise self.wrong(name, "a list of objects")
            parsed.append(parse(_Fields(item, f"{self._where}{name}[{index}]: ")))
        return parsed

    def _list(self, name: str, expected: str) -> Tuple[Any, ...]:
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong(name, expected)
        return tuple(value)
