"""Owns `LocalRuntime`: the runtime on a background thread of this process.

Threads: the thread `runtimeuse-runtime` runs the event loop with everything on it. The caller's threads only start that
thread, ask it to stop, and wait for its end.
"""

import asyncio
import atexit
import concurrent.futures
import os
import threading
from dataclasses import fields
from types import TracebackType
from typing import Iterable, Optional, Type

from . import event_loop
from .agents.base import AgentSpec
from .server import RuntimeServer
from .settings import RuntimeSettings, documents_settings


@documents_settings
class LocalRuntime:
    """An agent runtime in this process, for tests, examples and work without a sandbox.

    It is not a sandbox: clients' commands and agents run with the rights of this process. Leaving the `with` block ends
    everything that it runs.

    Args:
        agent: `"shell"`, `"echo"`, `"claude"`, `"openai"`, `"module:attribute"`, a function `(invocation, sender)`, or
            an object with such a method `run`, plain or `async` (default: shell). It returns a str, a dict, a
            `TextResult`, a `StructuredOutputResult`, or a pair of one of these and a dict of metadata.
        {settings}

    Raises:
        TypeError: A number of seconds is not a number.
        ValueError: A setting is invalid, or the host is not loopback and there is neither a token nor `no_auth`.

    Examples:
        >>> with LocalRuntime(agent="shell") as runtime:
        ...     client = RuntimeUseClient(runtime.ws_url, model="any")
        ...     print(client.query("echo hello").text)
    """

    def __init__(
        self,
        agent: AgentSpec = "shell",
        *,
        host: str = RuntimeSettings.host,
        port: int = RuntimeSettings.port,
        root: Optional[str] = None,
        token: Optional[str] = RuntimeSettings.token,
        no_auth: bool = RuntimeSettings.no_auth,
        allow_origins: Iterable[str] = RuntimeSettings.allow_origins,
        heartbeat_interval: float = RuntimeSettings.heartbeat_interval,
        kill_grace: float = RuntimeSettings.kill_grace,
        pipe_grace: float = RuntimeSettings.pipe_grace,
        artifact_settle: float = RuntimeSettings.artifact_settle,
        artifact_scan_interval: float = RuntimeSettings.artifact_scan_interval,
        end_session_delay: float = RuntimeSettings.end_session_delay,
        upload_response_timeout: float = RuntimeSettings.upload_response_timeout,
        upload_timeout: float = RuntimeSettings.upload_timeout,
        upload_retry_delay: float = RuntimeSettings.upload_retry_delay,
        http_timeout: float = RuntimeSettings.http_timeout,
        stop_timeout: float = RuntimeSettings.stop_timeout,
        max_message_size: int = RuntimeSettings.max_message_size,
        max_stdout: Optional[int] = RuntimeSettings.max_stdout,
        max_download_size: int = RuntimeSettings.max_download_size,
    ) -> None:
        given = locals()
        settings = {setting.name: given[setting.name] for setting in fields(RuntimeSettings)}
        if root is None:
            settings["root"] = RuntimeSettings.root
        if isinstance(allow_origins, str):
            settings["allow_origins"] = (allow_origins,)
        self._agent = agent
        self._settings = RuntimeSettings(**settings)
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._pid = 0
        # Set by the thread before it reports its start, and used only while it runs.
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._stop: Optional[asyncio.Event] = None
        self._server: Optional[RuntimeServer] = None
        # Set by the thread, and cleared by it however it ends: then nothing serves the URL any more.
        self._ws_url: Optional[str] = None

    @property
    def ws_url(self) -> str:
        """The URL for clients; it contains no token.

        It looks like `ws://127.0.0.1:41234`.

        Raises:
            RuntimeError: The runtime is not running: it was not started, or was stopped.
        """
        ws_url = self._ws_url
        if ws_url is None:
            raise RuntimeError(
                "the runtime is not running (not started, or stopped): use it in a `with` statement, or call start()"
            )
        return ws_url

    def start(self) -> "LocalRuntime":
        """Starts the runtime; returns it when it listens.

        Raises:
            RuntimeError: The runtime is running already.
            OSError: The address cannot be listened on.
            OverflowError: The port is not between 0 and 65535.
            ImportError: The extra `[runtime]` is not installed, or the agent's module cannot be imported.
            ValueError: There is no agent of this name, or the root is not a directory.
            TypeError: `agent` is not an agent.
        """
        with self._lock:
            if self._thread is not None:
                raise RuntimeError("the runtime is running already")
            started: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, args=(started,), name="runtimeuse-runtime", daemon=True)
            self._thread.start()
        try:
            started.result()
        except BaseException:
            self.stop()
            raise
        # If the program exits without a stop, its commands must not outlive it.
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stops the runtime: cancels all requests, and returns when everything has ended. May be called again.

        Requests have `stop_timeout` seconds to end. Then commands are killed, and agents that ignore their cancel are
        abandoned, which is logged. Clients get their terminal messages in any case. In a thread of the runtime, such as
        an agent's, the call returns at once.
        """
        atexit.unregister(self.stop)
        if os.getpid() != self._pid:
            return  # a forked child inherits the object, but not the thread
        with self._lock:
            thread = self._thread
            if thread is None:
                return
            loop, stop = self._loop, self._stop
            if loop is not None and stop is not None:
                try:
                    loop.call_soon_threadsafe(stop.set)
                except RuntimeError:
                    loop = None  # closed already: the start failed, or another thread stopped it
            server = self._server
            here = threading.current_thread()
            if here is thread or (server is not None and server.owns(here)):
                return  # the runtime's own threads cannot wait for its end
        thread.join()
        with self._lock:
            if self._thread is thread:
                self._thread = self._loop = self._stop = self._server = None

    def __enter__(self) -> "LocalRuntime":
        return self.start()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<LocalRuntime {self._ws_url or 'not running'}>"

    def _run(self, started: "concurrent.futures.Future[None]") -> None:
        server = self._server = RuntimeServer(self._agent, self._settings)
        try:
            event_loop.run(self._serve(server, started), self._settings.task_timeout)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            self._ws_url = None
            server.join_threads()

    async def _serve(self, server: RuntimeServer, started: "concurrent.futures.Future[None]") -> None:
        stop = asyncio.Event()
        self._loop, self._stop = asyncio.get_running_loop(), stop
        self._ws_url = await server.start()
        started.set_result(None)
        try:
            await stop.wait()
        finally:
            await server.stop()
