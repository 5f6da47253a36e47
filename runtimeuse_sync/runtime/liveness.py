"""Detects clients that have vanished without closing: their machine froze, or the network is gone.

The system probes an idle connection (TCP keepalive). It does not probe one with unacknowledged data, but retransmits
that for a quarter of an hour. So the runtime checks these connections itself, on Linux, which reports the
retransmissions. TCP's user timeout is no substitute: it also ends the connections of clients that just do not read for
a while.

Threads: runs on the runtime's event loop, with one timer per connection.
"""

import asyncio
import contextlib
import logging
import socket
import struct
import sys
from typing import Any, Optional, Union

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: TCP keepalive: idle time before the first probe and time between probes, in seconds, and probes without an answer
#: until the connection is closed. 50 s in all.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES = 20, 10, 3
#: A client has vanished when it has acknowledged nothing for this long, in seconds, despite this many retransmissions.
SILENCE, SENT_AGAIN = 45.0, 3
#: The time between two checks, in seconds.
LOOK_INTERVAL = 5.0

#: The beginning of Linux's `struct tcp_info`: eight single bytes, then integers of four bytes.
_TCP_INFO = struct.Struct("=8B13I")
_RETRANSMITS, _PROBES, _UNACKED, _LAST_ACK = 2, 3, 8 + 4, 8 + 12

#: A socket, or asyncio's wrapper of one.
Socket = Union[socket.socket, Any]


def keep_alive(connection: Socket) -> None:
    """Enables TCP keepalive, with the options that this system has."""
    options = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
    }
    numbers = {name: getattr(socket, name, None) for name in options}
    if sys.platform == "darwin":
        numbers["TCP_KEEPIDLE"] = 0x10  # TCP_KEEPALIVE, which Python names only from 3.10 on
    with contextlib.suppress(OSError):  # the connection may be closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, number in numbers.items():
            if number is not None:
                connection.setsockopt(socket.IPPROTO_TCP, number, options[name])


def has_vanished(connection: Socket) -> bool:
    """Returns whether the peer has stopped acknowledging data; `False` where the system does not report it.

    A peer that does not read still acknowledges: it answers that its window is full.
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
    # Retransmissions, or probes of a full window, since the last acknowledgement.
    unanswered = fields[_RETRANSMITS] if fields[_UNACKED] else fields[_PROBES]
    return bool(unanswered >= SENT_AGAIN and fields[_LAST_ACK] >= SILENCE * 1000)


class Watch:
    """Checks one connection until `end`, and aborts it if its client has vanished."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._timer: Optional[asyncio.TimerHandle] = None
        keep_alive(self._socket)
        self._schedule()

    def end(self) -> None:
        """Ends the checks; may be called again."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._check)

    def _check(self) -> None:
        if not has_vanished(self._socket):
            self._schedule()
        elif isinstance(self._transport, asyncio.WriteTransport):
            _logger.info("A client has vanished: it no longer acknowledges the data sent to it")
            self._transport.abort()
