"""Owns the WebSocket server: decides who may connect, and starts and stops everything below it.

Threads: runs on the runtime's event loop. `local.py` runs that loop in a background thread, `__main__.py` in the main
thread.
"""

import asyncio
import hmac
import logging
import os
import socket
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, List, Optional, Set, cast
from urllib.parse import unquote, urlsplit

from .._wire.urls import host_in_url
from .agents.base import AgentSpec, load_agent
from .agents.builtin import built_in_agents
from .agents.loop import AgentLoop
from .commands.processes import ProcessRunner
from .connection import ClientConnection
from .extras import needs_extra
from .listening import DescriptorReserve, Listener, listen
from .liveness import Watch
from .pacing import PacedTransport
from .request_run import RuntimeParts
from .settings import RuntimeSettings
from .workers import Workers

if TYPE_CHECKING:
    from websockets.asyncio.server import Server, ServerConnection
    from websockets.http11 import Request, Response

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: How many frames of one client, each of up to `max_message_size`, may be queued.
_UNREAD_FRAMES = 4
#: The remaining commands are killed this long before a stop's deadline, in seconds; less if `stop_timeout` is short.
_KILL_LEAD = 0.5
#: How long clients may take to receive the last messages of a stop before they are disconnected, in seconds.
_NOTIFY_TIMEOUT = 4.0
#: How long aborted connections and worker threads may take to end, in seconds.
_ABORT_TIMEOUT = 1.0


class RuntimeServer:
    """One runtime, on the event loop that `start` is called on.

    Args:
        agent: The agent, or its name.
        settings: The runtime's settings.
    """

    def __init__(self, agent: AgentSpec, settings: RuntimeSettings) -> None:
        self._agent = agent
        self._settings = settings
        self._workers = Workers()
        self._processes = ProcessRunner(settings, self._workers)
        self._agent_loop = AgentLoop(self._workers)
        self._stopping = False
        self._connections: Set[ClientConnection] = set()
        self._transports: Set[PacedTransport] = set()
        self._reserve = DescriptorReserve()
        self._listener: Optional[Listener] = None

    async def start(self) -> str:
        """Starts listening; returns the WebSocket URL.

        Raises:
            OSError: the address cannot be listened on.
            ImportError: a package of the extra is not installed, or the agent's module cannot be imported.
            OverflowError: the port is not between 0 and 65535.
            ValueError: there is no agent of this name, or the root is not a directory.
            TypeError: the object is not an agent.
        """
        settings = self._settings
        if not os.path.isdir(settings.root):  # noqa: ASYNC240 (nothing else runs on the loop yet)
            # Not created if missing: a mistyped root would otherwise be noticed only when files turn up in the wrong
            # place.
            raise ValueError(f"root {settings.root!r} is not a directory")
        agent = load_agent(self._agent, built_in_agents(self._processes, settings.max_stdout))
        self._parts = RuntimeParts(settings, self._workers, self._processes, agent, self._agent_loop)
        with needs_extra():
            from websockets.asyncio.server import serve
        # At DEBUG, websockets logs every frame and handshake: prompts, results and tokens.
        quiet = logging.getLogger("runtimeuse_sync.runtime.websockets")
        quiet.setLevel(logging.WARNING)
        quiet.addFilter(_handshake_filter)
        asyncio.get_running_loop().set_exception_handler(self._reserve.on_loop_exception)

        async def serve_on(bound: socket.socket) -> "Server":
            """Serves clients on one socket."""
            return await serve(
                self._handle,
                sock=bound,
                process_request=self._admit,
                create_connection=self._connection_class(),
                compression=None,
                ping_interval=None,
                max_size=settings.max_message_size,
                max_queue=_UNREAD_FRAMES,
                server_header="runtimeuse_sync",
                logger=quiet,
            )

        self._listener = await listen(settings.host, settings.port, self._reserve, serve_on)
        return self._url()

    async def stop(self) -> None:
        """Stops the server: refuses connections, cancels requests, closes connections, and ends processes.

        Requests have `stop_timeout` to end. Then commands are killed and agents abandoned, which is logged. Each client
        gets the terminal message of its request and the close code 1001 in any case.
        """
        if self._listener is None:
            return
        loop = asyncio.get_running_loop()
        timeout = self._settings.stop_timeout
        deadline = loop.time() + timeout
        # Leaves requests the time to report that their commands were killed.
        self._processes.kill_no_later_than(deadline - min(_KILL_LEAD, timeout / 4))
        self._listener.close()
        try:
            await self._end_connections(deadline)
        finally:
            self._agent_loop.stop()
            await self._processes.end_all()

    async def _end_connections(self, deadline: float) -> None:
        assert self._listener is not None
        self._stopping = True
        stopping: List[asyncio.Future[Any]] = [
            asyncio.ensure_future(connection.stop(deadline)) for connection in self._connections
        ]
        if stopping:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            await asyncio.wait(stopping, timeout=left + _NOTIFY_TIMEOUT)
        # Clients that do not answer the closing handshake, or have not finished the opening handshake.
        for transport in list(self._transports):
            transport.abort()
        closed = asyncio.ensure_future(self._listener.wait_closed())
        await asyncio.wait({closed, *stopping}, timeout=_ABORT_TIMEOUT)

    def owns(self, thread: threading.Thread) -> bool:
        """Returns whether the thread is a worker, which cannot wait for the runtime's stop."""
        return self._workers.owns(thread)

    def join_threads(self) -> None:
        """Waits for the worker threads to end; to be called after the loop has ended."""
        left = self._workers.join(_ABORT_TIMEOUT)
        if left:
            _logger.warning("Abandoned when the runtime stopped: threads that did not end: %s", ", ".join(left))

    async def _handle(self, connection: "ServerConnection") -> None:
        if self._stopping:  # the stop began during the opening handshake
            await connection.close(1001, "the runtime stops")
            return
        served = ClientConnection(connection, self._parts)
        self._connections.add(served)
        try:
            await served.run()
        finally:
            self._connections.discard(served)

    def _admit(self, connection: "ServerConnection", request: "Request") -> "Optional[Response]":
        """Returns the response that refuses an opening handshake; `None` to accept it."""
        if self._reserve.is_reached(connection.transport.get_extra_info("socket").fileno()):
            self._reserve.log_refusal()
            refusal = connection.respond(
                HTTPStatus.SERVICE_UNAVAILABLE, "The runtime has no file descriptors left for one more connection.\n"
            )
            refusal.headers["Retry-After"] = "1"
            return refusal
        allowed = self._settings.allow_origins
        if "*" not in allowed and not all(origin in allowed for origin in request.headers.get_all("Origin")):
            # A web page in a browser on this machine can also reach loopback, and every client can run commands.
            _logger.warning(
                "Refused a connection with an Origin header, from a browser or another client that sends one"
            )
            return connection.respond(HTTPStatus.FORBIDDEN, "Connections with this Origin are not allowed.\n")
        if self._settings.token is not None and not _shows_token(request, self._settings.token):
            _logger.warning("Refused a connection without the right token")
            return connection.respond(HTTPStatus.UNAUTHORIZED, "A token is needed.\n")
        return None

    def _connection_class(self) -> "type[ServerConnection]":
        from websockets.asyncio.server import ServerConnection

        transports = self._transports

        class Connection(ServerConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self._paced = PacedTransport(cast(asyncio.Transport, transport))
                transports.add(self._paced)
                self._watch = Watch(self._paced)
                super().connection_made(self._paced)

            def pause_writing(self) -> None:
                self._paced.pause()
                if not self.paused:
                    super().pause_writing()

            def resume_writing(self) -> None:
                if self._paced.resume():
                    super().resume_writing()

            def connection_lost(self, exc: Optional[Exception]) -> None:
                self._watch.end()
                self._paced.lose()
                super().connection_lost(exc)
                transports.discard(self._paced)

        return Connection

    def _url(self) -> str:
        assert self._listener is not None
        return f"ws://{host_in_url(self._settings.host)}:{self._listener.port}"


class _HandshakeFilter(logging.Filter):
    """Logs failed and refused opening handshakes in one line, where `websockets` logs a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg != "opening handshake failed":
            return True
        _logger.info("A connection ended before its opening handshake was complete")
        return False


#: One object: adding the same filter again changes nothing.
_handshake_filter = _HandshakeFilter()


def _shows_token(request: "Request", token: str) -> bool:
    headers = [value.partition(" ") for value in request.headers.get_all("Authorization")]
    candidates = [shown.strip() for scheme, _, shown in headers if scheme.lower() == "bearer"]
    # Decoded as a URL, not as an HTML form, where `+` is a space: tokens have no spaces.
    pairs = [pair.partition("=") for pair in urlsplit(request.path).query.split("&")]
    candidates += [unquote(value) for name, _, value in pairs if unquote(name) == "token"]
    # In constant time, so that the delay of the answer reveals nothing about the token.
    right = [hmac.compare_digest(candidate.encode(errors="replace"), token.encode()) for candidate in candidates]
    return any(right)
