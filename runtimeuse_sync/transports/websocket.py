"""The built-in transport: connects to a runtime by WebSocket.

`WebSocketTransport` checks its settings and makes connections with them (`_connection/websocket.py`). The client takes
these connections as they are. `connect` and the call operator wrap one in a `ConnectedWebSocketTransport`, for users
who want to use or wrap the transport without the client.

Threads: each connection has its own thread, which owns the socket. The call operator starts one more, which takes what
is to be sent from the queue. Everything else runs in the user's threads.
"""

import dataclasses
import math
import queue
import threading
from typing import TYPE_CHECKING, Collection, Iterator, List, Mapping, Optional

from .._call import Deadline, Wakeup
from .._connection.closed import Ending, connection_error
from .._connection.defaults import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_HANDSHAKE_TIMEOUT,
    DEFAULT_MAX_BUFFERED,
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PING_TIMEOUT,
)
from .._interrupts import surely, undone_on_failure
from .._threads import join_thread, new_thread, start_thread
from .._websocket.late_imports import load
from .._wire import codec
from .._wire.late_types import LateModule, late_class
from .._wire.validation import Seconds, seconds
from .base import Message

if TYPE_CHECKING:
    import ssl

    from .._connection.websocket import WebSocketConnection
else:
    ssl = LateModule("ssl")
    WebSocketConnection = late_class("runtimeuse_sync._connection.websocket", "WebSocketConnection")

#: The module that runs connections. It and all it needs are loaded by the first transport, in the thread that makes it:
#: most of the time of an import, for what a program that only imports the client does not use. A connection's own
#: thread must not import.
_MACHINERY = "runtimeuse_sync._connection.websocket"


class WebSocketTransport:
    """Connects to a runtime by WebSocket.

    Args:
        ws_url: The URL, `ws://` or `wss://`; `http://` and `https://` mean the same. A user and password in it are sent
            as `Authorization: Basic`.
        headers: HTTP headers to send with the handshake, to this host only.
        ssl_context: The settings of TLS. By default the system's certificate authorities are trusted, and the
            host name is checked.
        proxy: The URL of a proxy: `http://[user:password@]host:port`; or `socks5h://…`, `socks5://…`, `socks4a://…` or
            `socks4://…`, with the extra `[socks]`. `None` (default) reads the environment (`http_proxy`, `https_proxy`,
            `all_proxy`, `no_proxy`); `""` uses no proxy.
        connect_timeout: Seconds until a peer must accept the connection, retries included (default 10). `None` is no
            limit.
        handshake_timeout: Seconds for TLS and the WebSocket handshake, once a peer has accepted the connection
            (default 60). `None` is no limit. If only `connect_timeout` is given, it limits the handshake as well.
        max_message_size: The longest message to receive, in bytes (default 256 MiB).
        max_buffered: The bytes of received messages to queue before TCP pushes back (default 16 MiB). Upload requests
            that wait for their answers may take as many bytes again; a runtime that sends more breaks the protocol.
        ping_interval: Seconds of silence before a ping (default 20). `None` sends no pings.
        ping_timeout: Seconds to wait for a sign of life after a ping (default 20).

    Raises:
        TypeError: An argument has the wrong type; the message names it.
        ValueError: An argument has an invalid value; the message names it.
    """

    def __init__(
        self,
        ws_url: str,
        *,
        headers: Optional[Mapping[str, str]] = None,
        ssl_context: "Optional[ssl.SSLContext]" = None,
        proxy: Optional[str] = None,
        connect_timeout: Optional[Seconds] = DEFAULT_CONNECT_TIMEOUT,
        handshake_timeout: Optional[Seconds] = DEFAULT_HANDSHAKE_TIMEOUT,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_buffered: int = DEFAULT_MAX_BUFFERED,
        ping_interval: Optional[Seconds] = DEFAULT_PING_INTERVAL,
        ping_timeout: Seconds = DEFAULT_PING_TIMEOUT,
    ) -> None:
        load(_MACHINERY)
        from .._connection.settings import WebSocketSettings, checked_target

        target = checked_target(ws_url, headers, ssl_context, proxy)
        self._settings = WebSocketSettings(
            target,
            seconds(connect_timeout),
            seconds(handshake_timeout),
            max_message_size,
            max_buffered,
            seconds(ping_interval),
            seconds(ping_timeout),
        )
        self._secrets = target.secrets()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.origin!r})"

    @property
    def ws_url(self) -> str:
        """The URL, its scheme in lower case."""
        return self._settings.target.url

    @property
    def connect_timeout(self) -> Optional[float]:
        """Seconds until a peer must accept a connection; `None` for no limit. Settable."""
        return self._settings.connect_timeout

    @connect_timeout.setter
    def connect_timeout(self, value: Optional[float]) -> None:
        self._settings = dataclasses.replace(self._settings, connect_timeout=value)

    @property
    def handshake_timeout(self) -> Optional[float]:
        """Seconds for TLS and the WebSocket handshake of an accepted connection; `None` for no limit. Settable."""
        return self._settings.handshake_timeout

    @handshake_timeout.setter
    def handshake_timeout(self, value: Optional[float]) -> None:
        self._settings = dataclasses.replace(self._settings, handshake_timeout=value)

    @property
    def max_buffered(self) -> int:
        """The bytes of received messages that are queued before TCP pushes back. Settable."""
        return self._settings.max_buffered

    @max_buffered.setter
    def max_buffered(self, value: int) -> None:
        self._settings = dataclasses.replace(self._settings, max_buffered=value)

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL, the parts of it that are no secret."""
        return self._settings.origin

    def secrets(self) -> List[str]:
        """Returns the strings in the settings that must not be shown, such as passwords and tokens."""
        return list(self._secrets)

    def overrides(self, method: str) -> bool:
        """Returns whether a subclass, or this object, replaces a method: `connect` or `__call__`.

        The client uses such a method as it does a custom transport's, instead of the built-in connection.

        Args:
            method: The method's name.
        """
        if method == "__call__":
            return type(self).__call__ is not WebSocketTransport.__call__
        return getattr(getattr(self, method), "__func__", None) is not getattr(WebSocketTransport, method)

    def connection(
        self, connect_deadline: Optional[Deadline] = None, also_retry: Collection[int] = ()
    ) -> "WebSocketConnection":
        """Returns a new connection, not started.

        Args:
            connect_deadline: When a peer must have accepted it, instead of the transport's `connect_timeout`.
            also_retry: Further HTTP statuses of a runtime that may not be up yet.
        """
        from .._connection.websocket import WebSocketConnection

        return WebSocketConnection(self._settings, connect_deadline, also_retry)

    def connect(self) -> "ConnectedWebSocketTransport":
        """Opens a connection, and returns it once it is open.

        Raises:
            RuntimeConnectionError: No peer accepted a connection within `connect_timeout`, or the peer did not answer
                the handshake within `handshake_timeout`.
        """
        connected = self._not_yet_open()

        def wait() -> ConnectedWebSocketTransport:
            connected.wait_until_open()
            return connected

        return undone_on_failure(wait, connected.close)

    def _not_yet_open(self) -> "ConnectedWebSocketTransport":
        return ConnectedWebSocketTransport(self.connection(), self.origin, self.secrets())

    def __call__(self, send_queue: "queue.Queue[Optional[Message]]") -> Iterator[Message]:
        """Opens a connection for one request, and yields the messages that it receives.

        Args:
            send_queue: The messages to send; `None` ends the connection.

        Raises:
            RuntimeConnectionError: The runtime could not be reached.
            ConnectionLostError: The connection was reset, the peer is silent, or it left without a closing handshake.
            ProtocolError: The peer broke the rules of WebSocket.
            ValueError: The peer sent something that is not a message.
        """
        overridden = self.overrides("connect")
        connected = self.connect() if overridden else self._not_yet_open()

        def send_all() -> None:
            message = send_queue.get()
            while message is not None:
                connected.send(message)
                message = send_queue.get()
            connected.close()

        sender: Optional[threading.Thread] = None

        def end() -> None:
            connected.close()
            send_queue.put(None)
            if sender is not None:
                join_thread(sender, connected._connection.join_timeout)

        try:
            sender = new_thread(send_all, "runtimeuse-queue-sender")
            start_thread(sender)
            if not overridden:
                # After the sender has started: the end of the queue ends the opening, too.
                connected.wait_until_open()
            message = connected.receive()
            while message is not None:
                yield message
                message = connected.receive()
        finally:
            surely(end)


class ConnectedWebSocketTransport:
    """An open WebSocket connection, for use without the client: sends and receives messages.

    Made by `WebSocketTransport.connect`. Only one thread at a time may call `receive`; any thread may call `send` and
    `close`.
    """

    def __init__(self, connection: "WebSocketConnection", origin: str, secrets: List[str]) -> None:
        self._connection = connection
        self._origin = origin
        self._secrets = secrets
        self._wakeup = Wakeup()

    def wait_until_open(self) -> None:
        """Opens the connection; blocks until it is open.

        Raises:
            RuntimeConnectionError: It could not be opened.
        """
        self._connection.start(self._wakeup)
        while not self._connection.is_open:
            if self._connection.inbox.closed is not None:
                raise self._error()
            self._wakeup.wait(math.inf)

    def send(self, message: Message) -> None:
        """Sends one message in the background; never blocks.

        Args:
            message: The message, as a dict.

        Raises:
            TypeError: It contains something that JSON cannot hold.
        """
        self._connection.submit(codec.encode(message))

    def receive(self) -> Optional[Message]:
        """Blocks until the next message, and returns it; `None` once either side has closed the connection.

        Raises:
            ConnectionLostError: The connection was reset, the peer is silent, or it left without a closing handshake.
            ProtocolError: The peer broke the rules of WebSocket.
            ValueError: The peer sent something that is not a message.
        """
        inbox = self._connection.inbox
        while True:
            batch = inbox.first()
            if batch is None:
                closed = inbox.closed
                if closed is not None and inbox.exhausted:
                    if closed.ending in (Ending.PROTOCOL_ERROR, Ending.LOST):
                        raise self._error()
                    return None
                self._wakeup.wait(math.inf)
                continue
            if batch.position < len(batch.items):
                batch.position += 1
                try:
                    return codec.parse(batch.items[batch.position - 1])
                except codec.MalformedMessage as problem:
                    raise ValueError(f"the peer sent something that is not a message: {problem}") from None
            self._connection.used_up(batch)

    def _error(self) -> Exception:
        closed = self._connection.inbox.closed
        assert closed is not None
        return connection_error(closed, self._origin, "connection", self._secrets)

    def close(self) -> None:
        """Closes the connection; a blocked `receive` returns `None`. May be called again."""
        self._connection.close()
        self._connection.join()
