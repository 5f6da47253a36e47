"""Drives the opening of a connection by `select`, without a connection's thread."""

from __future__ import annotations

import math
import select
import socket
import time
from typing import Any, List, Sequence

from runtimeuse_sync._websocket.http import RETRYABLE_STATUS

from .servers import PATIENCE


class SelectOpener:
    """An `Opener` that waits for `PATIENCE` at most, and then fails the test."""

    def __init__(self) -> None:
        self.accepted_at: List[float] = []

    def wait(self, sock: socket.socket, read: bool, write: bool, seconds: float = math.inf) -> bool:
        ready = select.select([sock] if read else [], [sock] if write else [], [], min(seconds, PATIENCE))
        assert seconds < math.inf or ready[0] or ready[1], "nothing happens"
        return bool(ready[0] or ready[1])

    def wait_for_any(self, socks: Sequence[socket.socket], seconds: float) -> List[socket.socket]:
        return select.select([], socks, [], min(seconds, PATIENCE))[1]

    def now(self) -> float:
        return time.monotonic()

    def look_up(self, host: str, port: int) -> List[Any]:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    def accepted(self) -> None:
        self.accepted_at.append(self.now())

    def may_pass(self, status: int) -> bool:
        return status in RETRYABLE_STATUS
