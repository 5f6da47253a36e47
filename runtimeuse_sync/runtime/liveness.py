"""Notices clients that have vanished without a word: a machine that froze, a network that is gone.

Runs on the runtime's event loop: one timer per connection.

A connection that is idle is probed by the system (TCP keepalive). One with something on its way is not: the system
sends that again and again, for a quarter of an hour. So the runtime looks for itself, where the system tells (Linux).
TCP's user timeout would not do, as it also ends the connections of clients that are there and do not read for a while.
"""

import asyncio
import contextlib
import logging
import socket
import struct
import sys
from typing import Any, Optional, Union

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: An idle client is probed after so long, so often and so many times before it is given up, in seconds: 50 s in all.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES = 20, 10, 3
#: How long a client may confirm nothing, in seconds, and how often what was sent must have been sent again meanwhile.
SILENCE, SENT_AGAIN = 45.0, 3
#: How often to look, in seconds.
LOOK_INTERVAL = 5.0

#: The beginning of Linux's `struct tcp_info`: eight single bytes, then numbers of four.
_TCP_INFO = struct.Struct("=8B13I")
_RETRANSMITS, _PROBES, _UNACKED, _LAST_ACK = 2, 3, 8 + 4, 8 + 12

#: A socket, or what asyncio shows of one.
Socket = Union[socket.socket, Any]


def keep_alive(connection: Socket) -> None:
    """Has the system probe an idle connection, as far as this system can."""
    options = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
    }
    numbers = {name: getattr(socket, name, None) for name in options}
    if sys.platform == "darwin":
        numbers["TCP_KEEPIDLE"] = 0x10  # TCP_KEEPALIVE, which Python names only from 3.10 on
    with contextlib.suppress(OSError):  # the other side may have gone already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, number in numbers.items():
            if number is not None:
                connection.setsockopt(socket.IPPROTO_TCP, number, options[name])


def has_vanished(connection: Socket) -> bool:
    """Returns whether the other side confirms nothing any more; `False` where the system does not tell.

    One that is there and does not read confirms all the same: that it has no room.
    """
    if sys.platform != "linux":
        return False
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return False  # closed since
    return len(info) == _TCP_INFO.size and is_silent(info)


def is_silent(info: bytes) -> bool:
    """Returns whether Linux's `tcp_info` is that of a connection whose other side has vanished."""
    fields = _TCP_INFO.unpack(info)
    # What was sent again, or asked where there was no room for more, since the last answer.
    unanswered = fields[_RETRANSMITS] if fields[_UNACKED] else fields[_PROBES]
    return bool(unanswered >= SENT_AGAIN and fields[_LAST_ACK] >= SILENCE * 1000)


class Watch:
    """Watches one connection from its beginning to its `end`, and aborts it if its client has vanished."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._timer: Optional[asyncio.TimerHandle] = None
        keep_alive(self._socket)
        self._schedule()

    def end(self) -> None:
        """Ends the watching; may be called again."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._check)

    def _check(self) -> None:
        if not has_vanished(self._socket):
            self._schedule()
        elif isinstance(self._transport, asyncio.WriteTransport):
            _logger.info("A client has vanished: it confirms nothing of what was sent")
            self._transport.abort()
