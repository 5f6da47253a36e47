"""The built-in transport: where and how to connect to a runtime by WebSocket.

`WebSocketTransport` holds the settings, from which the client creates its connections (`_connection/websocket.py`: one
thread each, which owns the socket). `connect` and the call operator offer such a connection to code that uses or wraps
the transport without the client.
"""

import math
import queue
import ssl
import threading
from typing import Dict, Iterator, List, Mapping, Optional
from urllib.parse import urlsplit

from .._call import Call, Deadline
from .._connection.closed import Ending, connection_error
from .._connection.connecting import Limits
from .._connection.websocket import WebSocketConnection, WebSocketSettings
from .._interrupts import surely, undone_on_failure
from .._threads import join_thread, new_thread, start_thread
from .._websocket.http import basic_authorization
from .._websocket.opening import USER_AGENT, Target
from .._wire import codec
from .._wire import validation as check
from .._wire.urls import url_origin
from .base import Message


class Default(float):
    """A number of seconds that nobody has chosen."""


DEFAULT_CONNECT_TIMEOUT = Default(10.0)
DEFAULT_HANDSHAKE_TIMEOUT = Default(60.0)
DEFAULT_MAX_MESSAGE_SIZE = 256 * 1024 * 1024
DEFAULT_MAX_BUFFERED = 16 * 1024 * 1024
DEFAULT_PING_INTERVAL = 20.0
DEFAULT_PING_TIMEOUT = 20.0


class WebSocketTransport:
    """Connects to a runtime at a `ws://` or `wss://` URL.

    Args:
        ws_url: The URL. A user and password in it go out as `Authorization: Basic`.
        headers: Sent with the handshake, to this host only.
        ssl_context: For `wss://`; default: the system's certificate authorities, host name checked.
        proxy: URL of a proxy, `http://[user:password@]host:port`; or `socks5h://…`, `socks5://…`, `socks4a://…` or
            `socks4://…`, with the extra `[socks]`. `None` (default) asks the environment (`http_proxy`, `https_proxy`,
            `all_proxy`, `no_proxy`), `""` uses none.
        connect_timeout: Seconds until a connection is accepted, retries included (default 10); `None` is no limit.
        handshake_timeout: Seconds for TLS and the WebSocket handshake of a connection that was accepted (default 60);
            `None` is no limit. Where only `connect_timeout` is given, that limits all of it together.
        max_message_size: The longest message to receive, in bytes (default 256 MiB).
        max_buffered: How many bytes of messages are queued before TCP pushes back (default 16 MiB). As many may be kept
            of upload requests that wait for their answers; a runtime that sends more breaks the protocol.
        ping_interval: Seconds of silence before a ping (default 20); `None` for no keepalive.
        ping_timeout: Seconds for a sign of life after a ping (default 20).

    Raises:
        TypeError: an argument has the wrong type; the message names it.
        ValueError: an argument has a value that cannot be; the message names it.
    """

    def __init__(
        self,
        ws_url: str,
        *,
        headers: Optional[Mapping[str, str]] = None,
        ssl_context: Optional[ssl.SSLContext] = None,
        proxy: Optional[str] = None,
        connect_timeout: Optional[float] = DEFAULT_CONNECT_TIMEOUT,
        handshake_timeout: Optional[float] = DEFAULT_HANDSHAKE_TIMEOUT,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_buffered: int = DEFAULT_MAX_BUFFERED,
        ping_interval: Optional[float] = DEFAULT_PING_INTERVAL,
        ping_timeout: float = DEFAULT_PING_TIMEOUT,
    ) -> None:
        check.check_ws_url("ws_url", ws_url)
        if ssl_context is not None:
            check.check_type("ssl_context", ssl_context, ssl.SSLContext, "an ssl.SSLContext")
        if proxy is not None:
            check.check_proxy_url("proxy", proxy)
        check.check_seconds("connect_timeout", connect_timeout)
        check.check_seconds("handshake_timeout", handshake_timeout)
        check.check_type("ping_timeout", ping_timeout, (int, float), "a number of seconds")
        check.check_seconds("ping_timeout", ping_timeout)
        check.check_seconds("ping_interval", ping_interval)
        check.check_size("max_message_size", max_message_size)
        check.check_size("max_buffered", max_buffered)
        # Schemes are case-insensitive (RFC 3986 §3.1); websocket-client's are not.
        scheme, rest = ws_url.split(":", 1)
        self.ws_url = ws_url = f"{scheme.lower()}:{rest}"
        self.connect_timeout = connect_timeout
        self.handshake_timeout = handshake_timeout
        self.max_buffered = max_buffered
        target = Target(ws_url, _headers(ws_url, headers), ssl_context, proxy)
        self._origin = url_origin(ws_url)
        self._secrets = target.secrets()
        self._settings = WebSocketSettings(target, max_message_size, ping_interval, float(ping_timeout))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.origin!r})"

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL: what may be shown of it."""
        return self._origin

    def secrets(self) -> List[str]:
        """Returns what must not be shown of the settings."""
        return list(self._secrets)

    def overrides(self, method: str) -> bool:
        """Returns whether a subclass, or this object, replaces a method: `connect` or `__call__`.

        The client uses such a method as it does a custom transport's, instead of the built-in connection.
        """
        if method == "__call__":
            return type(self).__call__ is not WebSocketTransport.__call__
        return getattr(getattr(self, method), "__func__", None) is not getattr(WebSocketTransport, method)

    def connection(self, connect_deadline: Optional[Deadline] = None) -> WebSocketConnection:
        """Returns a new connection, not yet started; `connect_deadline` instead of the transport's own timeout."""
        alone = isinstance(self.handshake_timeout, Default) and not isinstance(self.connect_timeout, Default)
        if connect_deadline is not None:
            limits = Limits(connect_deadline, self.handshake_timeout, joint=True)
        elif alone:
            limits = Limits(Deadline(self.connect_timeout))
        else:
            limits = Limits(Deadline(self.connect_timeout), self.handshake_timeout, joint=False)
        return WebSocketConnection(self._with_context(), limits, self.max_buffered)

    def _with_context(self) -> WebSocketSettings:
        # Made once: loading the system's certificate authorities takes longer than connecting.
        target = self._settings.target
        if target.ssl_context is None and target.url.startswith("wss:"):
            target = target._replace(ssl_context=ssl.create_default_context())
            self._settings = self._settings._replace(target=target)
        return self._settings

    def connect(self) -> "ConnectedWebSocketTransport":
        """Opens a connection, and waits until it is open.

        Raises:
            RuntimeConnectionError: the runtime could not be reached within `connect_timeout`, or has not answered the
                handshake within `handshake_timeout`.
        """
        connected = ConnectedWebSocketTransport(self.connection(), self.origin, self.secrets())

        def wait() -> ConnectedWebSocketTransport:
            connected.wait_until_open()
            return connected

        return undone_on_failure(wait, connected.close)

    def _not_yet_open(self) -> "ConnectedWebSocketTransport":
        return ConnectedWebSocketTransport(self.connection(), self.origin, self.secrets())

    def __call__(self, send_queue: "queue.Queue[Optional[Message]]") -> Iterator[Message]:
        """Opens a connection for one request: sends what the queue yields, until `None`; yields what is received.

        Raises:
            RuntimeConnectionError: the runtime could not be reached, or the connection was lost.
            ProtocolError, ValueError: as `ConnectedWebSocketTransport.receive`.
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
                # Only now: the queue's end ends the opening as well.
                connected.wait_until_open()
            message = connected.receive()
            while message is not None:
                yield message
                message = connected.receive()
        finally:
            surely(end)


class ConnectedWebSocketTransport:
    """An open WebSocket connection, for use without the client: send and receive messages as they are.

    Made by `WebSocketTransport.connect`. One thread may receive; `send` and `close` are for any.
    """

    def __init__(self, connection: WebSocketConnection, origin: str, secrets: List[str]) -> None:
        self._connection = connection
        self._origin = origin
        self._call = Call("connection", None)
        self._call.secrets = secrets

    def wait_until_open(self) -> None:
        """Opens the connection, and blocks until it is open.

        Raises:
            RuntimeConnectionError: it could not be opened.
        """
        self._connection.start(self._call.wakeup)
        while not self._connection.is_open:
            closed = self._connection.inbox.closed
            if closed is not None:
                raise connection_error(closed, self._origin, self._call.kind, self._call.secrets)
            self._call.wakeup.wait(math.inf)

    def send(self, message: Message) -> None:
        """Sends one message, in the background; never blocks."""
        self._connection.submit(codec.encode(message))

    def receive(self) -> Optional[Message]:
        """Blocks until the next message and returns it; `None` once the connection is closed.

        Raises:
            ConnectionLostError: the connection was reset, the peer is silent, or is gone without a closing handshake.
            ProtocolError: the peer broke the rules of WebSocket.
            ValueError: the peer sent something that is no message.
        """
        inbox = self._connection.inbox
        while True:
            batch = inbox.first()
            if batch is None:
                closed = inbox.closed
                if closed is not None and inbox.exhausted:
                    if closed.ending in (Ending.PROTOCOL_ERROR, Ending.LOST):
                        raise connection_error(closed, self._origin, self._call.kind, self._call.secrets)
                    return None
                self._call.wakeup.wait(math.inf)
                continue
            if batch.position < len(batch.items):
                batch.position += 1
                try:
                    return codec.parse(batch.items[batch.position - 1])
                except codec.MalformedMessage as problem:
                    raise ValueError(f"the peer sent something that is no message: {problem}") from None
            self._connection.used_up(batch)

    def close(self) -> None:
        """Closes the connection; a `receive` that waits returns `None`. May be repeated."""
        self._connection.close()
        self._connection.join()


def _headers(ws_url: str, headers: Optional[Mapping[str, str]]) -> Dict[str, str]:
    merged: Dict[str, str] = {}
    if headers is not None:
        check.check_type("headers", headers, Mapping, "a mapping of str to str")
        for name, value in headers.items():
            check.check_header("headers", name, value)
            merged[name] = value
    lower = {name.lower() for name in merged}
    parts = urlsplit(ws_url)
    if parts.username is not None and "authorization" not in lower:
        merged["Authorization"] = basic_authorization(parts.username, parts.password)
    if "user-agent" not in lower:
        merged["User-Agent"] = USER_AGENT
    return merged
