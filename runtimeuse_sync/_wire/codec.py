"""The wire codec: turns JSON text into checked messages, and requests into JSON text (PROTOCOL.md's tables).

`parse` turns text into a JSON object, `decode` turns that into a dataclass. `dataclasses-json` validates nothing, so
`decode` checks every field itself; an error names the field.

Threads: pure functions; each runs in its caller's thread.
"""

import re
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from ..messages import (
    ArtifactUploadRequestMessageInterface,
    AssistantMessageInterface,
    CommandExecutionResultMessageInterface,
    CommandInterface,
    CommandOutputMessageInterface,
    EndSessionConfirmMessage,
    ErrorMessageInterface,
    HeartbeatMessageInterface,
    ResultMessageInterface,
    RuntimeEnvironmentDownloadableInterface,
    announce_as,
    announced_as,
)
from ..options import ExecuteCommandsOptions, Options, QueryOptions
from ..results import CommandResultItem, StructuredOutputResult, TextResult
from .json_size import TooDense, check_density
from .json_text import encode_json, encode_long_strings, load_json
from .surrogates import Halves, may_have_half, mended, mended_value

Wire = Dict[str, Any]

_MESSAGE_TYPE = re.compile(r'"message_type"\s*:\s*"(\w{1,40})"')

#: From how many characters on a variable makes its message one that is encoded for long strings.
_LARGE_VARIABLE = 16 * 1024

CANCEL: Wire = {"message_type": "cancel_message"}
END_SESSION: Wire = {"message_type": "end_session_message"}


class MalformedMessage(Exception):
    """The message does not conform to its type. The text names the field and repeats no payload."""


def parse(item: Any) -> Wire:
    """Returns the JSON object of a message.

    Args:
        item: The message's text; from a custom transport possibly the object itself.

    Raises:
        MalformedMessage: The text is not JSON, not an object, nested too deeply, has too many values for its size, or
            has no `message_type`.
    """
    try:
        if isinstance(item, str):
            check_density(item)
            message = load_json(item)
        else:
            message = item
    except TooDense as problem:
        raise MalformedMessage(str(problem)) from None
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON ({type(error).__name__})") from None
    if not isinstance(message, dict):
        raise MalformedMessage(f"a JSON object was expected, not {type(message).__name__}")
    if not isinstance(message.get("message_type"), str):
        raise MalformedMessage("message_type is missing or not a string")
    return message


def unparsed_type(item: Any) -> str:
    """Returns the apparent `message_type` of a text that `parse` has rejected; `""` if there is none.

    A result that JSON's parser rejects (a number of 10,000 digits, 10,000 brackets) still ends its request.
    """
    found = _MESSAGE_TYPE.search(item) if isinstance(item, str) else None
    return found.group(1) if found else ""


def decode(message: Wire, item: Any = None, halves: Optional[Halves] = None) -> Any:
    """Returns a parsed message as its dataclass, checked and without surrogates in its texts.

    Returns `None` for an unknown type, and for output that is empty once a half character at its end is kept back.

    Args:
        message: What `parse` returned.
        item: What `parse` was given. If it is text, it may show that large values need no search for surrogates.
        halves: The half characters at the ends of earlier output; `None` decodes the message by itself.

    Raises:
        MalformedMessage: A field is missing or has the wrong type.
    """
    decoder = _DECODERS.get(message["message_type"])
    return None if decoder is None else decoder(message, item, halves)


def _field(message: Wire, name: str, wanted: Union[type, Tuple[type, ...]], described: str, where: str = "") -> Any:
    value = message.get(name)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        problem = f"must be {described}, not {_json_type(value)}" if name in message else "is missing"
        raise MalformedMessage(f"{where or message.get('message_type', 'message')}: {name} {problem}")
    return value


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _string(message: Wire, name: str, where: str = "") -> str:
    return mended(str(_field(message, name, str, "a string", where)))


def _metadata(message: Wire) -> Optional[Dict[str, Any]]:
    if message.get("metadata") is None:
        return None
    # Search the metadata, not the message's text: metadata are small, the text may be large.
    metadata: Dict[str, Any] = mended_value(_field(message, "metadata", dict, "an object"))
    return metadata


def _assistant(message: Wire, *_: Any) -> AssistantMessageInterface:
    blocks = _field(message, "text_blocks", list, "an array of strings")
    all_ascii = True
    for block in blocks:
        if not isinstance(block, str):
            raise MalformedMessage("assistant_message: text_blocks must be an array of strings")
        all_ascii = all_ascii and block.isascii()
    return AssistantMessageInterface("assistant_message", blocks if all_ascii else [mended(block) for block in blocks])


def _command_output(message: Wire, _: Any, halves: Optional[Halves]) -> Optional[CommandOutputMessageInterface]:
    stream, text, command = message.get("stream"), message.get("text"), message.get("command")
    if type(text) is str and type(command) is str and (stream == "stdout" or stream == "stderr"):
        if not text.isascii() or not command.isascii() or (halves is not None and halves.kept):
            command = mended(command)
            was_empty = not text
            text = mended(text) if halves is None else halves.join(stream, command, text)
            if not (text or was_empty):
                return None
        return CommandOutputMessageInterface("command_output_message", stream, text, command)
    stream, text, command = (_string(message, name) for name in ("stream", "text", "command"))
    if stream not in ("stdout", "stderr"):
        raise MalformedMessage('command_output_message: stream must be "stdout" or "stderr"')
    return CommandOutputMessageInterface(
        "command_output_message", "stdout" if stream == "stdout" else "stderr", text, command
    )


def _heartbeat(message: Wire, *_: Any) -> HeartbeatMessageInterface:
    elapsed = _field(message, "elapsed_ms", (int, float), "a number")
    if elapsed != elapsed or elapsed in (float("inf"), float("-inf")):
        raise MalformedMessage("heartbeat_message: elapsed_ms must be a finite number")
    return HeartbeatMessageInterface("heartbeat_message", _string(message, "phase"), int(elapsed))


def _artifact_request(message: Wire, *_: Any) -> ArtifactUploadRequestMessageInterface:
    request = ArtifactUploadRequestMessageInterface(
        "artifact_upload_request_message", _string(message, "filename"), _string(message, "filepath")
    )
    if (request.filename, request.filepath) != (message["filename"], message["filepath"]):
        announce_as(request, str(message["filename"]), str(message["filepath"]))
    return request


def _result(message: Wire, item: Any, _: Any) -> ResultMessageInterface:
    data = _field(message, "data", dict, "an object")
    where = "result_message: data"
    kind = _string(data, "type", where)
    if kind == "text":
        return ResultMessageInterface("result_message", TextResult(_string(data, "text", where)), _metadata(message))
    if kind == "structured_output":
        output = _field(data, "structured_output", dict, "an object", where)
        if not isinstance(item, str) or may_have_half(item):
            output = mended_value(output)
        return ResultMessageInterface("result_message", StructuredOutputResult(output), _metadata(message))
    raise MalformedMessage('result_message: data: type must be "text" or "structured_output"')


def _command_results(message: Wire, *_: Any) -> CommandExecutionResultMessageInterface:
    items = []
    for index, item in enumerate(_field(message, "results", list, "an array")):
        where = f"command_execution_result_message: results[{index}]"
        if not isinstance(item, dict):
            raise MalformedMessage(f"{where} must be an object, not {_json_type(item)}")
        stdout = None if item.get("stdout") is None else _string(item, "stdout", where)
        exit_code = _field(item, "exit_code", int, "an integer", where)
        items.append(CommandResultItem(_string(item, "command", where), exit_code, stdout))
    return CommandExecutionResultMessageInterface("command_execution_result_message", items)


def _error(message: Wire, *_: Any) -> ErrorMessageInterface:
    # Do not reject the message for invalid metadata: the error itself matters more.
    metadata = _metadata(message) if isinstance(message.get("metadata"), dict) else None
    return ErrorMessageInterface("error_message", _string(message, "error"), metadata)


def _confirm(*_: Any) -> EndSessionConfirmMessage:
    return EndSessionConfirmMessage()


_DECODERS: Dict[str, Callable[[Wire, Any, Optional[Halves]], Any]] = {
    "assistant_message": _assistant,
    "command_output_message": _command_output,
    "heartbeat_message": _heartbeat,
    "artifact_upload_request_message": _artifact_request,
    "result_message": _result,
    "command_execution_result_message": _command_results,
    "error_message": _error,
    "end_session_confirm_message": _confirm,
}


def encode(message: Wire) -> bytes:
    """Returns a message as JSON text in UTF-8. Lone surrogates, which UTF-8 cannot encode, become JSON escapes."""
    if any(map(_is_large, message.get("commands") or ())):
        return encode_long_strings(message)
    return encode_json(message)


def _is_large(command: Wire) -> bool:
    return any(len(value) >= _LARGE_VARIABLE for value in command.get("env", {}).values())


def encode_query(prompt: str, system_prompt: str, model: str, options: QueryOptions) -> Wire:
    """Returns the `invocation_message` of a query, without fields that are not set."""
    message: Wire = {
        "message_type": "invocation_message",
        "system_prompt": system_prompt,
        "user_prompt": prompt,
        "model": model,
        "agent_env": options.agent_env,
        "output_format_json_schema_str": options.output_format_json_schema_str,
        "pre_agent_invocation_commands": _commands(options.pre_agent_invocation_commands),
        "post_agent_invocation_commands": _commands(options.post_agent_invocation_commands),
        "pre_agent_downloadables": _downloadables(options.pre_agent_downloadables),
    }
    return _with_common(message, options)


def encode_commands(commands: Sequence[CommandInterface], options: ExecuteCommandsOptions) -> Wire:
    """Returns the `command_execution_message` of a call, without fields that are not set."""
    message: Wire = {
        "message_type": "command_execution_message",
        "commands": _commands(commands),
        "pre_execution_downloadables": _downloadables(options.pre_execution_downloadables),
    }
    return _with_common(message, options)


def encode_barrier(secrets_to_redact: Sequence[str]) -> Wire:
    """Returns the empty request that an idle runtime answers and a busy one rejects (PROTOCOL.md, "A sure barrier")."""
    return {
        "message_type": "command_execution_message",
        "commands": [],
        "secrets_to_redact": list(secrets_to_redact),
    }


def encode_artifact_response(
    request: ArtifactUploadRequestMessageInterface, presigned_url: str, content_type: str
) -> Wire:
    """Returns the `artifact_upload_response_message` that answers an upload request."""
    filename, filepath = announced_as(request)
    return {
        "message_type": "artifact_upload_response_message",
        "filename": filename,
        "filepath": filepath,
        "presigned_url": presigned_url,
        "content_type": content_type,
    }


def _with_common(message: Wire, options: Options) -> Wire:
    message["secrets_to_redact"] = list(options.secrets_to_redact)
    message["source_id"] = options.source_id
    message["artifacts_dirs"] = list(options.artifacts_dirs) if options.artifacts_dirs else None
    message["artifacts_dir"] = options.artifacts_dir
    message["artifacts_ignore_content"] = options.artifacts_ignore_content
    return {name: value for name, value in message.items() if value is not None}


def _commands(commands: Optional[Sequence[CommandInterface]]) -> Optional[List[Wire]]:
    if not commands:
        return None
    return [
        {
            name: value
            for name, value in (("command", each.command), ("cwd", each.cwd), ("env", each.env))
            if value is not None
        }
        for each in commands
    ]


def _downloadables(items: Optional[Sequence[RuntimeEnvironmentDownloadableInterface]]) -> Optional[List[Wire]]:
    if not items:
        return None
    return [{"download_url": item.download_url, "working_dir": item.working_dir} for item in items]
