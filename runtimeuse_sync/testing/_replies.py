"""The messages of a fake runtime, and the replies that they make up.

Threads: pure functions; each runs in its caller's thread.
"""

from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Union

from ._steps import Step, Waitable, delay, ignore_cancel, wait_for

Message = Dict[str, Any]
"""A message as it goes over the wire: a dict of JSON values."""

Items = Iterable[Union[Message, Step]]
"""What answers one request, in order: messages, and steps between them."""

Reply = Union[Items, Step, Callable[[Message], Union[Items, Step]]]
"""The reply to one request; or a function (a generator function, too) that gets the request and returns the reply.

A single step is a reply, too: `lost_connection()` is short for `[lost_connection()]`.
"""

#: The types of the messages that end a request.
TERMINAL_TYPES = ("result_message", "command_execution_result_message", "error_message")

HANG: Sequence[Message] = ()
"""The reply of a runtime that does not end the request until it is cancelled."""


def text_result(text: str, metadata: Optional[Dict[str, Any]] = None) -> List[Message]:
    """Returns a reply that ends a query with a text result.

    Args:
        text: The agent's answer.
        metadata: The metadata of the result. Default: none.
    """
    return [{"message_type": "result_message", "data": {"type": "text", "text": text}, "metadata": metadata or {}}]


def structured_result(output: Dict[str, Any], metadata: Optional[Dict[str, Any]] = None) -> List[Message]:
    """Returns a reply that ends a query with structured output.

    Args:
        output: The agent's answer, a JSON object.
        metadata: The metadata of the result. Default: none.
    """
    data = {"type": "structured_output", "structured_output": output}
    return [{"message_type": "result_message", "data": data, "metadata": metadata or {}}]


def command_results(*results: Union[int, str, Message]) -> Callable[[Message], Sequence[Message]]:
    """Returns a reply that ends a request to execute commands.

    Args:
        *results: One for each command that runs: an int is its exit code, a str its stdout with exit code 0. A dict may
            have the keys `"command"`, `"exit_code"`, `"stdout"` and `"stderr"`; its output is also streamed.
    """

    def reply(request: Message) -> Sequence[Message]:
        items = []
        chunks: List[Message] = []
        for command, result in zip(request["commands"], results):
            item: Message = {"command": command["command"], "exit_code": result if isinstance(result, int) else 0}
            if isinstance(result, str):
                item["stdout"] = result
            elif isinstance(result, dict):
                item.update(result)
                printed = {stream: result.get(stream) for stream in ("stdout", "stderr")}
                chunks += [command_output(text, item["command"], stream) for stream, text in printed.items() if text]
                item.pop("stderr", None)
            items.append(item)
        return [*chunks, {"message_type": "command_execution_result_message", "results": items}]

    return reply


def assistant_message(*text_blocks: str) -> Message:
    """Returns a message from the agent, for a reply to send before its result.

    Args:
        *text_blocks: The blocks of text.
    """
    return {"message_type": "assistant_message", "text_blocks": list(text_blocks)}


def command_output(text: str, command: str = "", stream: str = "stdout") -> Message:
    """Returns a chunk of a command's output, for a reply to send before its result.

    Args:
        text: The chunk.
        command: The command that printed it. Default: `""`.
        stream: `"stdout"` (default) or `"stderr"`.
    """
    return {"message_type": "command_output_message", "stream": stream, "text": text, "command": command}


def heartbeat(elapsed_ms: int = 15000, phase: str = "request_in_flight") -> Message:
    """Returns a sign of life, as the runtime sends one every 15 s, for a reply to send before its result.

    Args:
        elapsed_ms: For how long the request has been running, in milliseconds. Default: 15000.
        phase: What the runtime is doing. Default: `"request_in_flight"`.
    """
    return {"message_type": "heartbeat_message", "phase": phase, "elapsed_ms": elapsed_ms}


def error(text: str, metadata: Optional[Dict[str, Any]] = None) -> List[Message]:
    """Returns a reply that ends a request with an error.

    Args:
        text: The error text.
        metadata: The metadata of the error. Default: none.
    """
    return [{"message_type": "error_message", "error": text, "metadata": metadata or {}}]


def upload_request(filepath: str) -> Message:
    """Returns an upload request for an artifact, for a reply to send before its result.

    Args:
        filepath: The file's path in the sandbox.
    """
    return {
        "message_type": "artifact_upload_request_message",
        "filename": filepath.rsplit("/", 1)[-1],
        "filepath": filepath,
    }


def late_terminal(terminal: List[Message], after: Union[float, Waitable]) -> List[Union[Message, Step]]:
    """Returns a reply whose terminal message comes late, whether or not the request is cancelled meanwhile.

    Args:
        terminal: The reply to send then, such as `text_result("late")`.
        after: How many seconds later; or the event to wait for, which a test sets.

    Raises:
        TypeError: `terminal` is not a list, or `after` is neither a number nor an event.
        ValueError: `after` is negative or not finite.
    """
    if not isinstance(terminal, (list, tuple)):
        raise TypeError(f"terminal must be a list of messages, not {type(terminal).__name__}")
    pause = delay(after) if isinstance(after, (int, float)) else wait_for(after)
    return [ignore_cancel(), pause, *terminal]
