"""`LocalRuntime`: the runtime on a background thread of this process.

Owns the thread `runtimeuse-runtime`, in which the event loop runs with everything on it. The caller's threads only ever
wait for it to start or to end, and tell it to stop.
"""

import asyncio
import atexit
import concurrent.futures
import os
import threading
from types import TracebackType
from typing import Iterable, Optional, Type

from . import event_loop
from .agents.base import AgentSpec
from .server import RuntimeServer
from .settings import GIBIBYTE, MEBIBYTE, RuntimeSettings


class LocalRuntime:
    """An agent runtime in this process, for tests, examples and work without a sandbox.

    ```python
    with LocalRuntime(agent="shell") as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        print(client.query("echo hello").text)
    ```

    It runs what clients send with this process's rights: it is no sandbox. Leaving the `with` block ends all that runs.

    Args:
        agent: `"shell"`, `"echo"`, `"module:attribute"`, a function `(invocation, sender)`, or an object with a method
            `run`; see `runtimeuse_sync.runtime.agents`.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        root: What relative paths start from, and where commands and agents run; a directory that exists, by default
            the current one.
        token: What clients must show as `Authorization: Bearer …` header or `?token=…`; never part of `ws_url`.
        no_auth: Allows a host that is not loopback without a token.
        allow_origins: The `Origin` headers that are let in, `"*"` for all; by default none, which keeps browsers out.
        heartbeat_interval: Seconds between heartbeats while a request is in flight.
        kill_grace: Seconds between SIGTERM and SIGKILL for a cancelled command's processes.
        pipe_grace: Seconds for which the output of a command's background children is read once its shell has exited
            and they are silent.
        artifact_settle: Seconds for which a new file must stay the same before it is announced.
        artifact_scan_interval: Seconds between two looks at the watched directories; grows while nothing changes, up to
            eight times as much, but not above `artifact_settle`.
        end_session_delay: Seconds for which a session's end waits for late files, if any directory is watched.
        upload_response_timeout: Seconds for which it waits for the next answer to an upload request.
        upload_timeout: Seconds for which an upload may make no progress before it is broken off; it is tried once more.
        upload_retry_delay: Seconds before an upload's second try; doubles with each further one.
        http_timeout: Seconds for which a download or upload waits for a connection, and a download for more to come.
        stop_timeout: Seconds for which `stop` waits for what runs, before it kills commands, leaves agents behind, and
            tells clients all the same that their requests are cancelled.
        max_message_size: The largest message accepted from a client, in bytes.
        max_stdout: The most characters of a command's stdout that its result has, which then ends with a note that it
            was cut; no limit by default. What is streamed is never cut.
        max_download_size: The most that a download, or what is extracted from it, may have, in bytes.

    Raises:
        ValueError: a setting makes no sense, or the host is not loopback and there is neither token nor `no_auth`.
    """

    def __init__(
        self,
        agent: AgentSpec = "shell",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        root: Optional[str] = None,
        token: Optional[str] = None,
        no_auth: bool = False,
        allow_origins: Iterable[str] = (),
        heartbeat_interval: float = 15.0,
        kill_grace: float = 2.0,
        pipe_grace: float = 0.5,
        artifact_settle: float = 2.0,
        artifact_scan_interval: float = 0.25,
        end_session_delay: float = 3.0,
        upload_response_timeout: float = 60.0,
        upload_timeout: float = 20.0,
        upload_retry_delay: float = 0.5,
        http_timeout: float = 30.0,
        stop_timeout: float = 5.0,
        max_message_size: int = 100 * MEBIBYTE,
        max_stdout: Optional[int] = None,
        max_download_size: int = 10 * GIBIBYTE,
    ) -> None:
        self._agent = agent
        self._settings = RuntimeSettings(
            host=host,
            port=port,
            root=os.getcwd() if root is None else os.fspath(root),
            token=token,
            no_auth=no_auth,
            allow_origins=(allow_origins,) if isinstance(allow_origins, str) else tuple(allow_origins),
            heartbeat_interval=heartbeat_interval,
            kill_grace=kill_grace,
            pipe_grace=pipe_grace,
            artifact_settle=artifact_settle,
            artifact_scan_interval=artifact_scan_interval,
            end_session_delay=end_session_delay,
            upload_response_timeout=upload_response_timeout,
            upload_timeout=upload_timeout,
            upload_retry_delay=upload_retry_delay,
            http_timeout=http_timeout,
            stop_timeout=stop_timeout,
            max_message_size=max_message_size,
            max_stdout=max_stdout,
            max_download_size=max_download_size,
        )
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._pid = 0
        # Set by the thread before it says that it has started, and used only as long as it runs.
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._stop: Optional[asyncio.Event] = None
        self._server: Optional[RuntimeServer] = None
        # Set and taken back by the thread: however it ends, nobody listens there any more.
        self._ws_url: Optional[str] = None

    @property
    def ws_url(self) -> str:
        """Where to connect to, such as `ws://127.0.0.1:41234`.

        Raises:
            RuntimeError: the runtime has not been started, or it has been stopped.
        """
        ws_url = self._ws_url
        if ws_url is None:
            raise RuntimeError(
                "the runtime has not been started, or has been stopped: use it in a `with` statement, or call start()"
            )
        return ws_url

    def start(self) -> "LocalRuntime":
        """Starts the runtime; returns it once it listens.

        Raises:
            RuntimeError: it runs already.
            OSError: the address cannot be listened on.
            ImportError: the extra is not installed, or the agent's module cannot be imported.
            ValueError: there is no agent of this name, or the root is no directory.
            TypeError: what was given is no agent.
        """
        with self._lock:
            if self._thread is not None:
                raise RuntimeError("the runtime runs already")
            started: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, args=(started,), name="runtimeuse-runtime", daemon=True)
            self._thread.start()
        try:
            started.result()
        except BaseException:
            self.stop()
            raise
        # For programs that end without a word: the commands that they run shall not outlive them.
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stops the runtime: cancels what runs, and returns when nothing of it is left. Harmless when it has stopped.

        What runs has `stop_timeout` to end. Then commands are killed, agents that ignore their cancel are left behind,
        which is logged, and clients are told all the same. Called by an agent, it returns at once.
        """
        atexit.unregister(self.stop)
        if os.getpid() != self._pid:
            return  # a forked child has the object, but not the thread
        with self._lock:
            thread = self._thread
            if thread is None:
                return
            loop, stop = self._loop, self._stop
            if loop is not None and stop is not None:
                try:
                    loop.call_soon_threadsafe(stop.set)
                except RuntimeError:
                    loop = None  # closed already: it could not start, or somebody else stopped it
            server = self._server
            here = threading.current_thread()
            if here is thread or (server is not None and server.owns(here)):
                return  # an agent stops its own runtime: it cannot wait for that
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
