"""Waiting for a socket, in a way that any other thread can end.

`Poller` belongs to the one thread that owns a socket: only that thread waits. `wake` is for all others, and is safe in
signal handlers and finalizers: it takes no lock. All socket operations of this package are non-blocking and happen
outside of `wait`, so that two threads never operate on one TLS object.
"""

import errno
import math
import select
import socket
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

#: A wake-up is on its way already, or nobody waits any more.
_FULL_OR_CLOSED = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED}

#: Seconds after which nobody is still in the middle of a send that does not block.
_LONGEST_SEND = 1.0

#: The longest time that `poll` can be asked to wait, in seconds; whoever waits for longer begins again.
_LONGEST = 2_000_000.0


class Poller:
    """Waits until a socket is ready, a time has passed, or `wake` was called."""

    def __init__(self) -> None:
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        self._closed: bool = False
        self._waking: Dict[object, None] = {}
        # What waits, and for what: mostly the same as the last time.
        self._poller: Any = None
        self._polled: Optional[Tuple[int, int]] = None

    def wake(self) -> None:
        """Ends the current wait, or the next one; never blocks, and does nothing after `close`."""
        if self._closed:
            return
        # Whoever is in here keeps the descriptor open: closed under a running send, its number could be another's.
        this = object()
        try:
            self._waking[this] = None
            if not self._closed:
                self._outer.send(b"\0")
        except OSError as error:
            # An interrupted send runs the signal's handler, which may raise a `TimeoutError`, say: that is the user's.
            if error.errno not in _FULL_OR_CLOSED:
                raise
        finally:
            self._waking.pop(this, None)

    def wait(self, sock: Optional[socket.socket], read: bool, write: bool, seconds: float) -> Tuple[bool, bool]:
        """Waits for the socket, for `seconds` at most (`math.inf`: no limit).

        Returns:
            Whether the socket can be read from, and whether it can be written to (an error shows as both).
        """
        readable, writable, woken = self._poll(sock if read or write else None, read, write, seconds)
        if woken:
            # Before the caller looks at what has changed: a wake-up that comes later ends the next wait.
            self._inner.recv(4096)
        return readable, writable

    def wait_for_any(self, socks: Sequence[socket.socket], seconds: float) -> List[socket.socket]:
        """Waits until one of several sockets can be written to, as one can that has failed; returns those that can."""
        if len(socks) == 1:
            return [sock for sock in socks if self.wait(sock, False, True, seconds)[1]]
        if not hasattr(select, "poll"):
            _, writable, failed = ready = select.select([self._inner], socks, socks, _limit(seconds))
            found = [sock for sock in socks if sock in writable or sock in failed]
            woken = bool(ready[0])
        else:
            poll = select.poll()
            poll.register(self._inner.fileno(), select.POLLIN)
            for sock in socks:
                poll.register(sock.fileno(), select.POLLOUT)
            events = dict(poll.poll(_milliseconds(seconds)))
            found = [sock for sock in socks if sock.fileno() in events]
            woken = self._inner.fileno() in events
        if woken:
            self._inner.recv(4096)
        return found

    def _poll(self, sock: Optional[socket.socket], read: bool, write: bool, seconds: float) -> Tuple[bool, bool, bool]:
        if not hasattr(select, "poll"):
            reads = [self._inner] + ([sock] if sock is not None and read else [])
            writes = [sock] if sock is not None and write else []
            ready = select.select(reads, writes, writes, _limit(seconds))
            return sock in ready[0], sock in ready[1] or sock in ready[2], self._inner in ready[0]
        poll = self._poller_of(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        events = dict(poll.poll(_milliseconds(seconds)))
        event = events.get(sock.fileno(), 0) if sock is not None else 0
        failed = event & ~(select.POLLIN | select.POLLOUT)
        return (
            bool(read and (event & select.POLLIN or failed)),
            bool(write and (event & select.POLLOUT or failed)),
            self._inner.fileno() in events,
        )

    def _poller_of(self, sock: Optional[socket.socket], mask: int) -> Any:
        wanted = None if sock is None else (sock.fileno(), mask)
        if self._poller is None or wanted != self._polled:
            # The one before may have been closed by now, and its number be another's.
            self._poller = select.poll()
            self._poller.register(self._inner.fileno(), select.POLLIN)
            if wanted is not None:
                self._poller.register(*wanted)
            self._polled = wanted
        return self._poller

    def close(self) -> None:
        """Closes what it waits with; nobody may wait afterwards, and later calls of `wake` do nothing."""
        self._closed = True
        self._inner.close()
        # A send that is under way is over at once. One that was interrupted may not say so, which costs this time.
        until = time.monotonic() + _LONGEST_SEND
        while self._waking and time.monotonic() < until:
            time.sleep(0.001)
        self._outer.close()


def _limit(seconds: float) -> Optional[float]:
    """Returns a time as `select` takes it."""
    return None if seconds == math.inf else min(max(0.0, seconds), _LONGEST)


def _milliseconds(seconds: float) -> Optional[int]:
    """Returns a time as `poll` takes it, rounded up: a wait that ends a fraction early would only be begun again."""
    return None if seconds == math.inf else math.ceil(min(max(0.0, seconds), _LONGEST) * 1000)
