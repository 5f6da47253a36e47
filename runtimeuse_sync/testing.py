"""An in-memory runtime, for tests of code that uses this client: no socket, no process, no waiting.

    from runtimeuse_sync import RuntimeUseClient
    from runtimeuse_sync.testing import FakeRuntime, text_result

    fake = FakeRuntime([text_result("4")])
    client = RuntimeUseClient(transport=fake, model="any")
    assert client.query("What is 2 + 2?").text == "4"
    assert fake.requests[0]["user_prompt"] == "What is 2 + 2?"

It follows the protocol: one request at a time, cancellation, the barrier, and the end of a session, which it confirms
once its upload requests are answered. For real processes and a real WebSocket, use
`runtimeuse_sync.runtime.LocalRuntime`.

Threads: it starts none. Replies, and functions that return them, run in the thread that sends for the connection.
"""

import queue
import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence, Union

from ._wire.fixed_texts import BUSY_ERROR, CANCELLED_ERROR

Message = Dict[str, Any]

#: The messages that answer one request, in order; or a function (a generator function, too) from the request to these.
Reply = Union[Iterable[Message], Callable[[Message], Iterable[Message]]]

#: The reply of a runtime that does not end the request until it is cancelled.
HANG: Sequence[Message] = ()


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


class FakeRuntime:
    """A transport with a runtime that answers each request with the next of the given replies.

    Args:
        replies: One reply for each request, in order. Further requests end with an error that says so.

    Attributes:
        requests: The requests received so far, in order.
        uploads: The answers to its upload requests, in order.
        cancelled: How many requests were cancelled.

    Raises:
        TypeError: `replies` contains a message instead of a list of messages.
    """

    def __init__(self, replies: Sequence[Reply] = ()) -> None:
        for reply in replies:
            if isinstance(reply, dict):
                raise TypeError("replies must be a list of replies, each a list of messages: [text_result('4')]")
        self.requests: List[Message] = []
        self.uploads: List[Message] = []
        self.cancelled = 0
        self._replies: Deque[Reply] = deque(replies)
        self._lock = threading.Lock()

    def connect(self) -> "FakeConnection":
        """Opens a connection."""
        return FakeConnection(self)

    def _reply_to(self, request: Message) -> List[Message]:
        with self._lock:
            self.requests.append(request)
            if not self._replies:
                return error(f"FakeRuntime has no reply left for request number {len(self.requests)}")
            reply = self._replies.popleft()
        # A list, because the caller iterates over it twice, which a generator does not allow.
        return list(reply(request) if callable(reply) else reply)


class FakeConnection:
    """One connection to a `FakeRuntime`."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self._outgoing: queue.Queue[Optional[Message]] = queue.Queue()
        self._busy = False
        self._ending = False
        self._unanswered: List[str] = []

    def send(self, message: Message) -> None:
        """Handles a message from the client and queues the runtime's answers for `receive`."""
        kind = message["message_type"]
        if kind == "cancel_message":
            if self._busy:
                self._busy = False
                self._runtime.cancelled += 1
                self._send(error(CANCELLED_ERROR))
        elif kind == "end_session_message":
            self._ending = True
            self._confirm_if_ended()
        elif kind == "artifact_upload_response_message":
            self._runtime.uploads.append(message)
            if message["filepath"] in self._unanswered:
                self._unanswered.remove(message["filepath"])
            self._confirm_if_ended()
        elif self._busy:
            self._send(error(BUSY_ERROR))
        elif kind == "command_execution_message" and not message["commands"]:
            self._send([{"message_type": "command_execution_result_message", "results": []}])
        else:
            reply = self._runtime._reply_to(message)
            self._busy = not any(each["message_type"] in _TERMINAL_TYPES for each in reply)
            self._send(reply)

    def receive(self) -> Optional[Message]:
        """Blocks until the runtime sends a message, and returns it; returns `None` once the connection is closed."""
        return self._outgoing.get()

    def close(self) -> None:
        """Closes the connection."""
        self._outgoing.put(None)

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message["message_type"] == "artifact_upload_request_message":
                self._unanswered.append(message["filepath"])
            self._outgoing.put(message)

    def _confirm_if_ended(self) -> None:
        if self._ending and not self._unanswered:
            self._outgoing.put({"message_type": "end_session_confirm_message"})
            self._outgoing.put(None)


_TERMINAL_TYPES = ("result_message", "command_execution_result_message", "error_message")
