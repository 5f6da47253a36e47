"""What a transport is: three small Protocols of blocking methods.

A transport only moves messages (dicts, as PROTOCOL.md's tables have them). Threads, queues, deadlines, cancelling and
the rules of the protocol are the client's, and work over any of these. `WebSocketTransport` is the built-in one.
"""

import queue
from typing import Any, Dict, Iterator, Optional, Protocol

#: A message of the wire, parsed.
Message = Dict[str, Any]


class ConnectedTransport(Protocol):
    """One open connection to a runtime.

    `send` and `receive` are called from two threads, each from one at a time; `close` comes from either, may come more
    than once, and ends both.

    At its end, a session sends `end_session_message` and waits until `receive` returns `end_session_confirm_message`,
    or `None`: for 5 s at most, and for `end_session_timeout` where artifacts were asked for.
    """

    def send(self, message: Message) -> None:
        """Sends one message; may block. An exception means that the connection is lost."""

    def receive(self) -> Optional[Message]:
        """Blocks until the next message and returns it; `None` once the peer has closed or `close` was called.

        JSON text, or bytes in UTF-8, will do as well; anything else ends the call with a `ProtocolError`.
        """

    def close(self) -> None:
        """Closes the connection, so that a blocked `send` or `receive` returns or raises.

        No abort and no deadline waits for that: what is still blocked then is left to threads of the client's own.
        """


class PersistentTransport(Protocol):
    """A transport whose connections serve any number of requests: what `client.session()` needs."""

    def connect(self) -> ConnectedTransport:
        """Opens a connection; may block. An exception means that the runtime could not be reached.

        `wait_until_ready` tries again after those that say that the runtime is not up yet: a `ConnectionError`, a
        `TimeoutError`, `FileNotFoundError` or `socket.gaierror`.
        """


class Transport(Protocol):
    """A transport for one-shot calls: a callable that is given the outgoing messages and yields the incoming ones.

    It is called once per request, in a thread of its own. `send_queue` yields the messages to send, and `None` when the
    call is over: the iterator must then end.
    """

    def __call__(self, send_queue: "queue.Queue[Optional[Message]]") -> Iterator[Message]:
        """Opens a connection, yields what the runtime sends, and closes the connection when it ends."""
