"""The client: its settings, and one-shot calls, each over a connection of its own.

Threads: any number of threads may share a client. Calls change nothing in it but the set of calls in progress, which
`abort` reads. Each one-shot call starts the thread of its connection, and waits for its end.
"""

import contextlib
import functools
import logging
import os
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Collection, Dict, Iterator, List, Optional, Set, Type, TypeVar, Union

from ._call import AskedByMany, Call, Deadline, shortened
from ._call_methods.commands import ShellCommands
from ._call_methods.queries import Queries
from ._connection.base import Connection
from ._connection.custom import CustomConnection, connector, is_persistent
from ._connection.defaults import DEFAULT_MAX_BUFFERED, WEBSOCKET_DEFAULTS
from ._interrupts import cleaned_up
from ._logs import LoggerLike
from ._session.channel import Channel
from ._wire import validation as check
from ._wire.late_types import late_class
from ._wire.request import ALL_OPTIONS, DEFAULT_KEEP_OUTPUT, Defaults, Request, unknown_name
from .keywords import ClientKeywords, Unpack, lists_keywords
from .options import END_SESSION_TIMEOUT
from .run import Run
from .session import RuntimeUseSession
from .transports.base import PersistentTransport, Transport
from .transports.websocket import WebSocketTransport

if TYPE_CHECKING:
    from .files import Files
    from .files._operation import Operation
else:
    Files = late_class("runtimeuse_sync.files", "Files")

_logger = logging.getLogger("runtimeuse_sync")

#: The environment variable with the runtime's URL, for clients that are given none.
URL_VARIABLE = "RUNTIMEUSE_WS_URL"

#: The keywords of a client, with the values that they have by default.
_KEYWORDS = {**ALL_OPTIONS, **WEBSOCKET_DEFAULTS}

_Self = TypeVar("_Self", bound="RuntimeUseClient")


class RuntimeUseClient(Queries, ShellCommands):
    """Talks to a RuntimeUse agent runtime. Each call blocks until the runtime has answered.

    Args:
        ws_url: The runtime's URL, `ws://` or `wss://`; or `http://` or `https://`, which mean the same, as providers of
            sandboxes give it. Default: the environment variable `RUNTIMEUSE_WS_URL`. Ignored if a transport is given.
        transport: A custom transport, instead of a WebSocket. A transport that is callable and has `connect` is called
            for one-shot calls, and connects for sessions. A subclass of `WebSocketTransport` works, too: the client
            uses the `connect` or `__call__` that it overrides.
        keep_output: How many bytes to keep for results and exceptions, of each command's stdout, of its stderr, and of
            what the agent says (default 1 MiB; 0: nothing). The last bytes are kept; of all commands of a call
            together, 16 times as many.
        **keywords: Settings of the WebSocket (`headers`, `ssl_context`, `proxy`, `connect_timeout`,
            `handshake_timeout`, `ping_interval`, `ping_timeout`, `max_message_size`, `max_buffered`), which
            `WebSocketTransport` documents; and defaults for the options of calls, such as `model`, `timeout` or
            `agent_env`, which `QueryOptions` and `ExecuteCommandsOptions` document. What a call sets itself takes
            precedence; environments are merged, and secrets to redact are added. An upload callback serves those calls
            that name artifact directories.

    As a context manager it cancels, on leaving the context, what is in flight: one-shot calls and the calls on its
    sessions, of any thread, those that wait for their turn, too. It can be used again afterwards.

    Raises:
        TypeError: An argument is unknown or has the wrong type; the message names it.
        ValueError: An argument has an invalid value, or neither a URL nor a transport is given.
    """

    #: What `session` makes; a subclass of clients may have sessions of its own.
    _session_type: ClassVar[Type[RuntimeUseSession]] = RuntimeUseSession

    @lists_keywords(ClientKeywords, _KEYWORDS)
    def __init__(
        self,
        ws_url: Optional[str] = None,
        transport: Union[Transport, PersistentTransport, None] = None,
        *,
        keep_output: int = DEFAULT_KEEP_OUTPUT,
        **keywords: "Unpack[ClientKeywords]",
    ) -> None:
        settings: Dict[str, Any] = {}
        options: Dict[str, Any] = {}
        for name, value in keywords.items():
            if name in WEBSOCKET_DEFAULTS:
                settings[name] = value
            elif name in ALL_OPTIONS:
                options[name] = value
            else:
                raise unknown_name("RuntimeUseClient", "argument", name, _KEYWORDS)
        try:
            self._defaults = Defaults(options, keep_output)
            self._transport = _transport(ws_url, transport, settings)
        except (TypeError, ValueError) as error:
            raise shortened(error)  # noqa: B904  # the same exception
        self._begin_with_nothing()

    def _begin_with_nothing(self) -> None:
        self._calls: Set[Call] = set()
        self._operations: Set[Operation] = set()
        # Not a `WeakSet`: iterating over one fails if another thread adds to it meanwhile.
        self._sessions: Set[weakref.ref[RuntimeUseSession]] = set()

    def __getstate__(self) -> Dict[str, Any]:
        # What is in progress stays here: a copy, in another process, say, is one of the settings.
        return {name: self.__dict__[name] for name in ("_defaults", "_transport")}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin_with_nothing()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.abort()
        for reference in list(self._sessions):
            session = reference()
            if session is not None:
                session._abort_all()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._origin!r})"

    def _described(self) -> Dict[str, str]:
        return {"runtime": self._origin, "one-shot calls": f"{len(self._calls)} in progress"}

    @property
    def _origin(self) -> str:
        transport = getattr(self, "_transport", None)
        return transport.origin if isinstance(transport, WebSocketTransport) else type(transport).__name__

    def _secrets(self) -> List[str]:
        return self._transport.secrets() if isinstance(self._transport, WebSocketTransport) else []

    def session(
        self, *, end_session_timeout: Optional[check.Seconds] = END_SESSION_TIMEOUT, reconnect: bool = False
    ) -> RuntimeUseSession:
        """Returns a session: many calls over one connection. Use it as a context manager.

        Args:
            end_session_timeout: The most seconds that ending the session may take (default 60; `None`: no limit). If no
                artifacts were asked for, the session waits at most 5 s for the runtime's confirmation, and ends without
                an error if none comes.
            reconnect: Whether a call that finds the connection gone opens a new one (default: it raises
                `ConnectionLostError`). It does so only if nothing of its request was sent, so no request is ever sent
                twice; and not once artifacts were asked for, since some may have been lost with the connection. The
                time counts towards the call's `timeout`, and `connect_timeout` limits it. If it fails, the next call
                tries again.

        Raises:
            TypeError: The transport does not support sessions, `end_session_timeout` is not a number, or `reconnect` is
                not a bool.
            ValueError: `end_session_timeout` is not positive.
        """
        if not is_persistent(self._transport):
            raise TypeError(
                "The configured transport does not support persistent sessions: it has no connect method "
                "(PersistentTransport)"
            )
        session = self._session_type(
            self._connection, self._origin, self._secrets(), self._defaults, end_session_timeout, reconnect
        )
        self._sessions.add(weakref.ref(session, self._sessions.discard))
        return session

    @property
    def files(self) -> "Files":
        """Reads and writes files in the sandbox, over nothing but commands.

        Each operation, such as `client.files.read("report.txt")`, opens a session of its own.
        """
        default = self._defaults.of_commands
        return self._files(default("timeout"), default("logger"))

    def abort(self) -> None:
        """Cancels all one-shot calls and file operations of this client that are in progress.

        Each raises `CancelledException`.

        Never blocks; safe from any thread, callback, signal handler and finalizer. Sessions have an `abort` of their
        own. If no call is in progress, this has no effect, not on later calls either.
        """
        for call in list(self._calls):
            call.abort()
        for operation in list(self._operations):
            operation.abort()

    def wait_until_ready(self, timeout: Optional[check.Seconds] = 60.0, *, also_retry: Collection[int] = ()) -> None:
        """Blocks until the runtime accepts connections, such as one in a sandbox that is still booting.

        Args:
            timeout: The most seconds to wait, handshakes included (default 60; `None`: no limit). It takes the place of
                `connect_timeout`. A handshake that takes longer than `handshake_timeout` is started again.
            also_retry: HTTP statuses that here, too, mean that the runtime is not up yet, besides 429, 502, 503 and
                504: `[404]` for a proxy that does not know a sandbox before its port is open, say.

        Raises:
            CancelledException: `abort` was called.
            RunTimeoutError: The runtime was not ready within `timeout`, or its server asks, by `Retry-After`, for a
                longer pause than is left. The message says how the last attempt failed.
            RuntimeConnectionError: The failure is permanent, such as an invalid certificate, or a refusal with the
                status 401 or 404.
            TypeError: `timeout` is not a number, `also_retry` not a list of statuses, or the transport did not return a
                connection.
            ValueError: `timeout` is not positive, or a status is none that refuses.
        """
        limit: Optional[float] = check.seconds(timeout)
        check.check_seconds("timeout", limit)
        check.check_statuses("also_retry", also_retry)
        from ._connection.readiness import Readiness

        call = Call("waiting for the runtime", None)
        # The connection gets the deadline: it knows how the last attempt failed, and says so at the deadline.
        deadline = Deadline(limit)
        connect = functools.partial(self._connection, deadline, also_retry)
        repeat = self._websocket is None
        readiness = Readiness(
            call, connect, deadline, self._origin, self._secrets(), repeat=repeat, also_retry=also_retry
        )

        def wait() -> None:
            self._calls.add(call)
            readiness.wait()

        def forget() -> None:
            self._calls.discard(call)
            call.own_error = None  # Its traceback references the call: drop it to avoid a reference cycle.

        try:
            cleaned_up(wait, forget)
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception

    def _run(self, request: Request, keep_output: Optional[int] = None) -> "Run[Any]":
        def acquire(call: Call) -> Channel:
            # Not before the run starts: the time limits of connecting begin with the connection.
            self._calls.add(call)
            return Channel(self._one_shot_connection(), self._origin, self._secrets(), _logger, persistent=False)

        keep = self._defaults.keep_output if keep_output is None else keep_output
        # A `Run`; while calls are traced, a subclass of it.
        return self._new_run(request, acquire, self._calls.discard, keep)

    def _files(
        self, timeout: Optional[float], logger: Optional[LoggerLike], asked: Optional[AskedByMany] = None
    ) -> "Files":
        from .files import Files

        return Files(functools.partial(self._open_file_commands, asked), self._operations, timeout, logger, asked)

    @contextlib.contextmanager
    def _open_file_commands(self, asked: Optional[AskedByMany], seconds: Optional[float]) -> Iterator[ShellCommands]:
        if not is_persistent(self._transport):
            yield self
            return
        session = self.session()
        opening = Call("opening the session", seconds)
        if asked is not None:
            opening.ask_every(asked.interval, asked)
        with session._ending_within(opening.deadline):
            try:
                self._calls.add(opening)
                session._open(opening)
            finally:
                self._calls.discard(opening)
            yield session

    def _one_shot_connection(self) -> Connection:
        transport = self._transport
        if isinstance(transport, WebSocketTransport) and not transport.overrides("__call__"):
            return self._connection()
        # Called if it can be, as the async client does, even if it can also connect.
        return CustomConnection(connector(transport, one_shot=True), DEFAULT_MAX_BUFFERED)

    def _connection(self, connect_deadline: Optional[Deadline] = None, also_retry: Collection[int] = ()) -> Connection:
        websocket = self._websocket
        if websocket is not None:
            return websocket.connection(connect_deadline, also_retry)
        return CustomConnection(connector(self._transport), DEFAULT_MAX_BUFFERED)

    @property
    def _websocket(self) -> Optional[WebSocketTransport]:
        """The transport if it makes the connections; `None` for a custom one, or one with a `connect` of its own."""
        transport = self._transport
        return transport if isinstance(transport, WebSocketTransport) and not transport.overrides("connect") else None


def _transport(
    ws_url: Optional[str], transport: Union[Transport, PersistentTransport, None], settings: Dict[str, Any]
) -> Union[Transport, PersistentTransport]:
    """Returns the transport of a client, given the arguments of its constructor."""
    if transport is not None:
        if settings:
            raise TypeError(
                f"{', '.join(settings)}: settings of the WebSocket cannot be combined with a custom transport"
            )
        connector(transport)
        return transport
    if ws_url is None:
        ws_url = os.environ.get(URL_VARIABLE) or None
        if ws_url is None:
            raise ValueError(f"Either ws_url or transport must be provided (or {URL_VARIABLE} be set)")
        check.check_ws_url(f"the environment's {URL_VARIABLE}", ws_url)
    return WebSocketTransport(ws_url, **settings)
