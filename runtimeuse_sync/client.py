"""The client: settings, and one-shot calls, each over a connection of its own.

Threads: a client may be shared by any number of threads; it holds nothing that a call changes but the set of calls in
flight, for `abort`. Each one-shot call starts one thread, the connection's, and has ended it when it returns.
"""

import functools
import logging
import os
from typing import Any, List, Optional, Set, Union

from ._call import Call, Deadline
from ._call_methods import Calls
from ._connection.base import Connection
from ._connection.custom import CustomConnection, connector, is_persistent
from ._interrupts import cleaned_up
from ._session.channel import Channel
from ._wire import validation as check
from ._wire.request import DEFAULT_KEEP_OUTPUT, Defaults, Request
from .keywords import Unpack, WebSocketKeywords
from .options import END_SESSION_TIMEOUT
from .run import Run
from .session import RuntimeUseSession
from .transports.base import PersistentTransport, Transport
from .transports.websocket import DEFAULT_MAX_BUFFERED, WebSocketTransport

_logger = logging.getLogger("runtimeuse_sync")

#: The environment variable that names the runtime where no URL is given.
URL_VARIABLE = "RUNTIMEUSE_WS_URL"


class RuntimeUseClient(Calls):
    """Talks to a RuntimeUse agent runtime, and blocks until it has answered.

    Args:
        ws_url: The runtime's `ws://` or `wss://` URL; default: the environment's `RUNTIMEUSE_WS_URL`. Ignored where a
            transport is given.
        transport: A custom transport, instead of a WebSocket. One that both can be called and has `connect` is called
            for one-shots, and connects for sessions. It may be a subclass of `WebSocketTransport`: what it overrides is
            used.
        model: The model for queries that name none.
        system_prompt: The system prompt for queries that have none.
        keep_output: How much is kept of what each command prints to stdout and to stderr, and of what the agent says,
            in bytes, for results and exceptions (default 1 MiB; 0 for nothing). The last is kept; of all commands of a
            call together, 16 times as much.
        **settings: Settings of the WebSocket: `headers`, `ssl_context`, `proxy`, `connect_timeout`,
            `handshake_timeout`, `ping_interval`, `ping_timeout`, `max_message_size`, `max_buffered`, as
            `WebSocketTransport` documents them.

    Raises:
        TypeError: an argument has the wrong type, or is unknown; the message names it.
        ValueError: an argument has a value that cannot be, or there is neither URL nor transport.
    """

    def __init__(
        self,
        ws_url: Optional[str] = None,
        transport: Union[Transport, PersistentTransport, None] = None,
        *,
        model: Optional[str] = None,
        system_prompt: Optional[str] = None,
        keep_output: int = DEFAULT_KEEP_OUTPUT,
        **settings: "Unpack[WebSocketKeywords]",
    ) -> None:
        self._defaults = Defaults(model, system_prompt, keep_output)
        self._transport: Union[Transport, PersistentTransport]
        for name in settings:
            if name not in WebSocketKeywords.__annotations__:
                raise TypeError(f"RuntimeUseClient got an unknown argument {name!r}")
        if transport is not None:
            if settings:
                raise TypeError(
                    f"{', '.join(settings)}: settings of the WebSocket, which a transport of yours replaces"
                )
            connector(transport)
            self._transport = transport
        else:
            url = ws_url
            if url is None:
                url = os.environ.get(URL_VARIABLE) or None
                if url is None:
                    raise ValueError(f"Either ws_url or transport must be provided (or {URL_VARIABLE} be set)")
                check.check_ws_url(f"the environment's {URL_VARIABLE}", url)
            self._transport = WebSocketTransport(url, **settings)
        self._calls: Set[Call] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._origin!r})"

    @property
    def _origin(self) -> str:
        transport = getattr(self, "_transport", None)
        return transport.origin if isinstance(transport, WebSocketTransport) else type(transport).__name__

    def _secrets(self) -> List[str]:
        return self._transport.secrets() if isinstance(self._transport, WebSocketTransport) else []

    def session(self, *, end_session_timeout: Optional[float] = END_SESSION_TIMEOUT) -> RuntimeUseSession:
        """Returns a session, to be used as a context manager: many calls over one connection.

        Args:
            end_session_timeout: Seconds that the end of the session may take (default 60; `None`: no limit). Where no
                artifacts were asked for, the runtime's confirmation is waited for 5 s at most, and not missed then.

        Raises:
            TypeError: the transport does not support sessions.
        """
        if not is_persistent(self._transport):
            raise TypeError(
                "The configured transport does not support persistent sessions: it has no connect method "
                "(PersistentTransport)"
            )
        return RuntimeUseSession(self._connection, self._origin, self._secrets(), self._defaults, end_session_timeout)

    def abort(self) -> None:
        """Cancels all one-shot calls of this client that are in flight: each raises `CancelledException`.

        Never blocks; safe from any thread, callback, signal handler and finalizer. Sessions have an `abort` of their
        own. With nothing in flight it has no effect, on later calls neither.
        """
        for call in list(self._calls):
            call.abort()

    def wait_until_ready(self, timeout: Optional[float] = 60.0) -> None:
        """Blocks until the runtime accepts connections: for a sandbox that is still booting.

        Args:
            timeout: Seconds to wait (default 60), handshakes included, in the place of `connect_timeout`; `None` is no
                limit. A single handshake that takes longer than `handshake_timeout` is begun anew.

        Raises:
            CancelledException: `abort` was called.
            RunTimeoutError: it did not within `timeout`, or its server asks, by `Retry-After`, to be left alone for
                longer than what is left; the message says how the last attempt failed.
            RuntimeConnectionError: it never will: a certificate that is not valid, a refusal such as 401 or 404.
        """
        check.check_seconds("timeout", timeout)
        from ._connection.readiness import Readiness

        call = Call("waiting for the runtime", None)
        # The connection has the deadline: it knows how the last attempt failed, and says so when the time is over.
        deadline = Deadline(timeout)
        connect = functools.partial(self._connection, deadline)
        repeat = self._websocket is None
        readiness = Readiness(call, connect, deadline, self._origin, self._secrets(), repeat=repeat)

        def wait() -> None:
            self._calls.add(call)
            readiness.wait()

        def forget() -> None:
            self._calls.discard(call)
            call.own_error = None  # It would keep itself, by its traceback.

        cleaned_up(wait, forget)

    def _run(self, request: Request) -> "Run[Any]":
        def acquire(call: Call) -> Channel:
            # Not before the run starts: the time limits of connecting begin with the connection.
            self._calls.add(call)
            return Channel(self._one_shot_connection(), self._origin, self._secrets(), _logger, persistent=False)

        return Run(request, acquire, self._calls.discard, self._defaults.keep_output)

    def _one_shot_connection(self) -> Connection:
        transport = self._transport
        if isinstance(transport, WebSocketTransport) and not transport.overrides("__call__"):
            return self._connection()
        # Called if it can be, as the async client does, even if it can also connect.
        return CustomConnection(connector(transport, one_shot=True), DEFAULT_MAX_BUFFERED)

    def _connection(self, connect_deadline: Optional[Deadline] = None) -> Connection:
        websocket = self._websocket
        if websocket is not None:
            return websocket.connection(connect_deadline)
        return CustomConnection(connector(self._transport), DEFAULT_MAX_BUFFERED)

    @property
    def _websocket(self) -> Optional[WebSocketTransport]:
        """The transport if it makes the connections; `None` for a custom one, or one with a `connect` of its own."""
        transport = self._transport
        return transport if isinstance(transport, WebSocketTransport) and not transport.overrides("connect") else None
