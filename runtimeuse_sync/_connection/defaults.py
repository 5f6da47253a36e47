"""The default values of the settings of a WebSocket connection.

They are apart from `settings.py` because the client's signature needs them, and importing the client must not load all
that opens a connection.

Threads: constants.
"""

from typing import Any, Mapping


class Default(float):
    """A number of seconds that the user did not choose."""


DEFAULT_CONNECT_TIMEOUT = Default(10.0)
DEFAULT_HANDSHAKE_TIMEOUT = Default(60.0)
DEFAULT_MAX_MESSAGE_SIZE = 256 * 1024 * 1024
DEFAULT_MAX_BUFFERED = 16 * 1024 * 1024
DEFAULT_PING_INTERVAL = 20.0
DEFAULT_PING_TIMEOUT = 20.0

#: The settings that users choose, beside the URL, with the values that they have by default.
WEBSOCKET_DEFAULTS: Mapping[str, Any] = {
    "headers": None,
    "ssl_context": None,
    "proxy": None,
    "connect_timeout": DEFAULT_CONNECT_TIMEOUT,
    "handshake_timeout": DEFAULT_HANDSHAKE_TIMEOUT,
    "max_message_size": DEFAULT_MAX_MESSAGE_SIZE,
    "max_buffered": DEFAULT_MAX_BUFFERED,
    "ping_interval": DEFAULT_PING_INTERVAL,
    "ping_timeout": DEFAULT_PING_TIMEOUT,
}
