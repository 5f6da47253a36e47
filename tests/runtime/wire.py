"""Talks the wire protocol to a runtime, message by message."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from websockets.sync.client import connect
from websockets.sync.connection import Connection

from runtimeuse_sync.runtime import LocalRuntime

from ..support.servers import PATIENCE

Message = Dict[str, Any]

TERMINALS = ("result_message", "command_execution_result_message", "error_message")
CANCELLED = {"message_type": "error_message", "error": "Request cancelled", "metadata": {}}
BUSY = "Received request while another is in flight!"

#: What an object with a number is, and an output format that asks for one.
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}}}
FORMAT = json.dumps({"type": "json_schema", "schema": SCHEMA})


class Wire:
    """A client that says and hears exactly what a test writes down."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, message_type: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"message_type": message_type, **fields}))

    def receive(self, timeout: float = PATIENCE) -> Message:
        message: Message = json.loads(self.connection.recv(timeout))
        return message

    def expect(self, message_type: str) -> Message:
        message = self.receive()
        assert message["message_type"] == message_type, message
        return message

    def receive_until(self, *message_types: str) -> List[Message]:
        """Returns everything up to and with the first message of one of the types; of a terminal, by default."""
        received: List[Message] = []
        while not received or received[-1]["message_type"] not in (message_types or TERMINALS):
            received.append(self.receive())
        return received

    def send_query(self, prompt: str = "", **fields: Any) -> None:
        fields = {"system_prompt": "s", "model": "m", "secrets_to_redact": [], **fields}
        self.send("invocation_message", user_prompt=prompt, **fields)

    def query(self, prompt: str = "", **fields: Any) -> List[Message]:
        self.send_query(prompt, **fields)
        return self.receive_until()

    def send_commands(self, *commands: Any, **fields: Any) -> None:
        listed = [{"command": command} if isinstance(command, str) else command for command in commands]
        self.send("command_execution_message", **{"commands": listed, "secrets_to_redact": [], **fields})

    def commands(self, *commands: Any, **fields: Any) -> List[Message]:
        self.send_commands(*commands, **fields)
        return self.receive_until()

    def cancel(self) -> None:
        self.send("cancel_message")

    def end(self) -> List[Message]:
        """Ends the session; returns what came until the runtime had closed the socket."""
        self.send("end_session_message")
        received = self.receive_until("end_session_confirm_message")
        assert_closed(self.connection)
        return received

    def end_unconfirmed(self) -> Tuple[List[Message], str]:
        """Ends the session; returns what came until the runtime gave it up, and what it said then."""
        self.send("end_session_message")
        return self.until_given_up()

    def until_given_up(self) -> Tuple[List[Message], str]:
        """Returns what comes until the runtime gives the end of the session up, and what it says then."""
        from websockets.exceptions import ConnectionClosed

        received: List[Message] = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                received.append(self.receive())
        close = self.connection.protocol.close_rcvd
        assert close is not None
        assert close.code == 1011, close
        return received, close.reason

    def assert_idle(self) -> None:
        """Checks by the barrier that nothing is in flight, and that nothing else was waiting to be received."""
        assert self.commands() == [{"message_type": "command_execution_result_message", "results": []}]

    def ping(self) -> List[Message]:
        """Returns what the runtime sends until it answers a ping.

        The messages have to be received meanwhile: `websockets` reads no pong behind messages that nobody takes.
        """
        answered, received, deadline = self.connection.ping(), [], time.monotonic() + PATIENCE
        while not answered.is_set():
            assert time.monotonic() < deadline, "no pong"
            with contextlib.suppress(TimeoutError):
                received.append(self.receive(0.01))
        return received

    def answer(self, request: Message, presigned_url: str, content_type: str = "text/plain") -> None:
        self.send(
            "artifact_upload_response_message",
            filename=request["filename"],
            filepath=request["filepath"],
            presigned_url=presigned_url,
            content_type=content_type,
        )


def assert_closed(connection: Connection) -> None:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        message = connection.recv(PATIENCE)
        raise AssertionError(f"the runtime sent {message!r} instead of closing")


@contextlib.contextmanager
def wire_to(runtime: LocalRuntime, **options: Any) -> Iterator[Wire]:
    with connect(runtime.ws_url, compression=None, max_size=None, **options) as connection:
        yield Wire(connection)


def output(messages: List[Message], stream: str = "stdout") -> str:
    """Returns what the command_output_messages among these say."""
    return "".join(message["text"] for message in messages if message.get("stream") == stream)


def named(messages: List[Message]) -> List[Tuple[str, Optional[str]]]:
    """Returns type and file name of each message: what a test of artifacts looks at."""
    return [(message["message_type"], message.get("filename")) for message in messages]
