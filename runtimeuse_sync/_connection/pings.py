"""The pings that callers ask for, beside those of the keepalive.

A caller asks (`ask`), wakes the connection's thread and waits. The thread sends each ping that is `due`, and hands in
the payload of each pong. Each ping has a payload of its own, so no other pong is taken for its answer; the keepalive's
payloads are shorter. Nothing here changes the keepalive, for which a pong is a sign of life as all bytes are.

Threads: callers add and remove pings; the connection's thread sends them and notes their answers. Each step is one
atomic operation on a dict, so there is no lock that an interrupt could leave held.
"""

import itertools
import struct
from typing import Dict, List

from .._call import Wakeup

_numbers = itertools.count(1)


class AskedPing:
    """A ping that a caller has asked for.

    Attributes:
        payload: What the pong must repeat.
        wakeup: Wakes the caller.
        sent: Whether the connection's thread has sent it (written only there).
        answered: Whether its pong has come (written only by the connection's thread).
    """

    __slots__ = ("answered", "payload", "sent", "wakeup")

    def __init__(self) -> None:
        self.payload = struct.pack("!Q", next(_numbers))
        self.wakeup = Wakeup()
        self.sent = False
        self.answered = False


class AskedPings:
    """The pings of one connection that callers wait for."""

    def __init__(self) -> None:
        self._waiting: Dict[bytes, AskedPing] = {}

    def ask(self, ping: AskedPing) -> None:
        """Adds a ping; `forget` must follow. The caller must then wake the connection's thread."""
        self._waiting[ping.payload] = ping

    def forget(self, ping: AskedPing) -> None:
        """Removes a ping; may be repeated."""
        self._waiting.pop(ping.payload, None)

    def due(self) -> List[bytes]:
        """Returns the payloads of the pings to send now, and takes them for sent; for the connection's thread."""
        if not self._waiting:
            return []
        due = [ping for ping in list(self._waiting.values()) if not ping.sent]
        for ping in due:
            ping.sent = True
        return [ping.payload for ping in due]

    def answer(self, payload: bytes) -> None:
        """Notes a pong and wakes who waits for it; for the connection's thread."""
        ping = self._waiting.get(payload)
        if ping is not None and ping.sent:
            ping.answered = True
            ping.wakeup.wake()

    def wake_all(self) -> None:
        """Wakes all callers: the connection is closed."""
        for ping in list(self._waiting.values()):
            ping.wakeup.wake()
