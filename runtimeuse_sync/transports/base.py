"""The interface of a transport: three small Protocols of blocking methods.

A transport only moves messages: dicts with the fields that PROTOCOL.md lists. The client adds threads, queues,
deadlines, cancellation and the rules of the protocol, for any transport. `WebSocketTransport` is the built-in one.

Threads: the client calls these methods in its own threads; each method says in which.
"""

import queue
from typing import Any, Dict, Iterator, Optional, Protocol

#: A message as parsed JSON.
Message = Dict[str, Any]


class ConnectedTransport(Protocol):
    """One open connection to a runtime.

    One thread calls `send`, another one calls `receive`, at the same time. Any thread may call `close`, more than once;
    it must end a blocked `send` and `receive`.

    At its end, a session sends `end_session_message`, and waits until `receive` returns `end_session_confirm_message`
    or `None`. It waits for 5 s at most, or for `end_session_timeout` if artifacts were requested.
    """

    def send(self, message: Message) -> None:
        """Sends one message; may block. Any exception means that the connection is lost.

        Args:
            message: The message, as a dict.
        """

    def receive(self) -> Optional[Message]:
        """Blocks until the next message, and returns it; `None` once the peer has closed or `close` was called.

        JSON may also be returned as text, or as bytes in UTF-8. Anything else ends the call with a `ProtocolError`.
        """

    def close(self) -> None:
        """Closes the connection, so that a blocked `send` or `receive` returns or raises.

        No abort and no deadline waits for that: a method that stays blocked only keeps a thread of the client.
        """


class PersistentTransport(Protocol):
    """A transport whose connections serve any number of requests, as `client.session()` needs."""

    def connect(self) -> ConnectedTransport:
        """Opens a connection, and returns it; may block. Any exception means that the runtime could not be reached.

        `wait_until_ready` tries again after an exception that means that the runtime is not up yet: a
        `ConnectionError`, `TimeoutError`, `FileNotFoundError` or `socket.gaierror`.
        """


class Transport(Protocol):
    """A transport for one-shot calls: a callable that takes the messages to send, and yields those it receives.

    It is called once per request, in a thread of the client.
    """

    def __call__(self, send_queue: "queue.Queue[Optional[Message]]") -> Iterator[Message]:
        """Opens a connection, yields the messages that the runtime sends, and closes the connection at its end.

        Args:
            send_queue: The messages to send. `None` means that the call is over: the iterator must end.
        """
