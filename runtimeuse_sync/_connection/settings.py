"""The settings of a WebSocket connection: their checks, and the timeouts they add up to.

Threads: none run here. A transport makes the settings once, and all of its connections read them.
"""

import dataclasses
import ssl
from typing import Dict, Mapping, Optional
from urllib.parse import urlsplit

from .._call import Deadline
from .._websocket.http import basic_authorization
from .._websocket.opening import USER_AGENT, Target
from .._websocket.tls import TlsSessions, default_context
from .._wire import validation as check
from .connecting import Limits
from .defaults import Default


@dataclasses.dataclass(eq=False)
class WebSocketSettings:
    """Where to connect, and how to open the connection and keep it alive.

    Attributes:
        target: Where to connect, and how.
        connect_timeout: Seconds until a peer must accept the connection, retries included; `None` for no limit.
        handshake_timeout: Seconds for TLS and the WebSocket handshake after that; `None` for no limit.
        max_message_size: The longest message to receive, in bytes.
        max_buffered: The bytes of received messages that may be queued.
        ping_interval: Seconds of silence before a ping; `None` for no keepalive.
        ping_timeout: Seconds to wait for a sign of life after a ping.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is invalid.
    """

    target: Target
    connect_timeout: Optional[float]
    handshake_timeout: Optional[float]
    max_message_size: int
    max_buffered: int
    ping_interval: Optional[float]
    ping_timeout: float

    def __post_init__(self) -> None:
        check.check_seconds("connect_timeout", self.connect_timeout)
        check.check_seconds("handshake_timeout", self.handshake_timeout)
        check.check_type("ping_timeout", self.ping_timeout, (int, float), "a number of seconds")
        check.check_seconds("ping_timeout", self.ping_timeout)
        check.check_seconds("ping_interval", self.ping_interval)
        check.check_size("max_message_size", self.max_message_size)
        check.check_size("max_buffered", self.max_buffered)

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL: what may be shown of it."""
        return self.target.origin

    def limits(self, connect_deadline: Optional[Deadline] = None) -> Limits:
        """Returns how long connecting may take from now on; a deadline replaces `connect_timeout`."""
        if connect_deadline is not None:
            return Limits(connect_deadline, self.handshake_timeout, joint=True)
        deadline = Deadline(self.connect_timeout)
        if isinstance(self.handshake_timeout, Default) and not isinstance(self.connect_timeout, Default):
            # A user who chose only `connect_timeout` wants to limit the handshake by it as well.
            return Limits(deadline)
        return Limits(deadline, self.handshake_timeout, joint=False)

    def loaded_target(self) -> Target:
        """Returns where to connect, with the default settings of TLS loaded if they are needed.

        Raises:
            OSError: a file of certificate authorities cannot be read.
        """
        target = self.target
        return target.with_context(default_context()) if target.secure and target.ssl_context is None else target


def checked_target(
    ws_url: str, headers: Optional[Mapping[str, str]], ssl_context: Optional[ssl.SSLContext], proxy: Optional[str]
) -> Target:
    """Returns where to connect, and how; credentials in the URL become a header.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is invalid.
    """
    check.check_ws_url("ws_url", ws_url)
    if ssl_context is not None:
        check.check_type("ssl_context", ssl_context, ssl.SSLContext, "an ssl.SSLContext")
    if proxy is not None:
        check.check_proxy_url("proxy", proxy)
    # Schemes are case-insensitive (RFC 3986 §3.1); this one is shown in lower case.
    scheme, rest = ws_url.split(":", 1)
    url = f"{scheme.lower()}:{rest}"
    return Target(url, _handshake_headers(url, headers), ssl_context, proxy, TlsSessions())


def _handshake_headers(ws_url: str, headers: Optional[Mapping[str, str]]) -> Dict[str, str]:
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
