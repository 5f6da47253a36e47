"""Makes HTTP requests that another thread can abort at once.

`requests` cannot interrupt a thread that waits for a server. So a `Transfer` keeps every socket that it opens, and
shuts the sockets down to abort.

Threads: a `Transfer` is used in one worker thread and aborted from the event loop.
"""

import logging
import socket
import threading
from typing import TYPE_CHECKING, Any, Dict, List, Optional
from urllib.parse import urlsplit

from .._wire.urls import is_loopback
from .extras import needs_extra

if TYPE_CHECKING:
    import requests

#: The most redirects of one request that are followed.
_MOST_REDIRECTS = 10
#: The redirects that repeat the request at another URL (RFC 9110 §15.4); all others turn a PUT into a GET.
_METHOD_PRESERVING = frozenset((307, 308))


class TransferAbortedError(Exception):
    """The transfer was aborted."""


class Transfer:
    """One download or upload, with all its retries."""

    def __init__(self) -> None:
        self._aborted = threading.Event()
        self._lock = threading.Lock()
        self._sockets: List[socket.socket] = []

    def abort(self) -> None:
        """Aborts the transfer: a thread that waits for the server gets an error at once."""
        self._aborted.set()
        self.shut_down()

    def shut_down(self) -> None:
        """Shuts down the open connections: a thread that waits for the server gets an error at once."""
        for opened in self.open_sockets():
            _shut_down(opened)

    def open_sockets(self) -> List[socket.socket]:
        """Returns the sockets of the open connections."""
        with self._lock:
            return [known for known in self._sockets if known.fileno() >= 0]

    def check(self) -> None:
        """Returns if the transfer goes on.

        Raises:
            TransferAbortedError: the transfer was aborted.
        """
        if self._aborted.is_set():
            raise TransferAbortedError

    def pause(self, seconds: float) -> None:
        """Waits for some seconds.

        Raises:
            TransferAbortedError: the transfer was aborted; raised at once.
        """
        if self._aborted.wait(seconds):
            raise TransferAbortedError

    def open_session(self) -> "requests.Session":
        """Returns a session whose connections `abort` can reach.

        Raises:
            ImportError: `requests` is not installed.
        """
        with needs_extra():
            import requests
            import requests.adapters

        pools = self._pool_classes()

        class Adapter(requests.adapters.HTTPAdapter):
            def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
                super().init_poolmanager(*args, **kwargs)
                self.poolmanager.pool_classes_by_scheme = pools

            def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
                manager = super().proxy_manager_for(*args, **kwargs)
                manager.pool_classes_by_scheme = pools
                return manager

            def send(self, request: "requests.PreparedRequest", *args: Any, **kwargs: Any) -> "requests.Response":
                # Redirects pass here as well. For other hosts, `requests` has applied the environment's proxy settings.
                if is_loopback(urlsplit(request.url or "").hostname or ""):
                    kwargs["proxies"] = {}
                    request.headers.pop("Proxy-Authorization", None)
                return super().send(request, *args, **kwargs)

        class Session(requests.Session):
            def get_redirect_target(self, resp: "requests.Response") -> Optional[str]:
                if resp.request.method != "GET" and resp.status_code not in _METHOD_PRESERVING:
                    return None  # a GET of another page does not show whether the file was stored
                target: Optional[str] = super().get_redirect_target(resp)  # type: ignore[no-untyped-call,unused-ignore]
                return target

            def rebuild_auth(self, prepared_request: "requests.PreparedRequest", response: "requests.Response") -> None:
                old_url, new_url = response.request.url or "", prepared_request.url or ""
                if self.should_strip_auth(old_url, new_url):  # type: ignore[no-untyped-call,unused-ignore]
                    prepared_request.headers.pop("Authorization", None)

        session = Session()
        session.auth = _auth_from_url_only
        session.max_redirects = _MOST_REDIRECTS
        session.mount("http://", Adapter())
        session.mount("https://", Adapter())
        return session

    def _pool_classes(self) -> Dict[str, Any]:
        from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

        _silence_urllib3()
        connected = self._connected

        def remembered(connection: Any) -> Any:
            def connect(self: Any) -> None:
                connection.connect(self)
                connected(self.sock)

            return type(connection.__name__, (connection,), {"connect": connect})

        # The pools' own connection classes: other libraries may have replaced urllib3's.
        class Pool(HTTPConnectionPool):
            ConnectionCls = remembered(HTTPConnectionPool.ConnectionCls)

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = remembered(HTTPSConnectionPool.ConnectionCls)

        return {"http": Pool, "https": TlsPool}

    def _connected(self, opened: socket.socket) -> None:
        """Registers a connection that was just opened."""
        with self._lock:
            self._sockets = [known for known in self._sockets if known.fileno() >= 0]
            self._sockets.append(opened)
        if self._aborted.is_set():
            _shut_down(opened)


def _auth_from_url_only(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    """Authenticates with the URL's credentials only, where `requests` would also read `~/.netrc`.

    Storages refuse a request that has both a signed URL and other credentials.
    """
    request.prepare_auth(None)
    return request


def _shut_down(opened: socket.socket) -> None:
    try:
        # Not the method of a TLS socket, which would remove the TLS layer while another thread reads.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
    except OSError:
        return  # closed, or never connected: no thread waits for it


class _RuntimeThreadFilter(logging.Filter):
    """Drops urllib3's records in the runtime's threads: they contain whole URLs with their signatures."""

    def filter(self, _: logging.LogRecord) -> bool:
        return not threading.current_thread().name.startswith("runtimeuse-")


_runtime_thread_filter = _RuntimeThreadFilter()


def _silence_urllib3() -> None:
    # Adding a filter again has no effect.
    logging.getLogger("urllib3.connectionpool").addFilter(_runtime_thread_filter)
