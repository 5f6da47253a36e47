"""The wait of the thread that owns a socket: for the socket, for the clock, and for a wake-up by another thread.

The wait is made of `poll`, or of `select` where there is no `poll`. The selectors of the standard library do the same,
but they cost an idle session 0.6 KiB more, and a wait for other events than the last one takes at least twice as long.

Threads: only the thread that owns the socket waits, and closes the poller. `wake` is for all other threads, signal
handlers and finalizers: it takes no lock and never blocks. All socket operations of this package are non-blocking and
happen outside of `wait`, so two threads never use one TLS object at the same time.
"""

import errno
import math
import select
import socket
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._call import monotonic

#: The errors of a wake-up when one is pending already, or when the poller is closed.
_FULL_OR_CLOSED = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED}

#: Seconds after which no non-blocking send can be under way any more.
_LONGEST_SEND = 1.0

#: The longest wait that `poll` accepts, in seconds; who wants to wait for longer waits again.
_LONGEST_WAIT = 2_000_000.0


class Poller:
    """Waits until a socket is ready, a time has passed, or `wake` was called."""

    def __init__(self) -> None:
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        self._closed: bool = False
        self._waking: Dict[object, None] = {}
        # Most waits are for the same socket and events as the last one, so its `poll` object is kept.
        self._poll_object: Any = None
        self._polled: Optional[Tuple[int, int]] = None

    def wake(self) -> None:
        """Ends the current wait, or the next one; never blocks, and does nothing after `close`."""
        if self._closed:
            return
        # An entry keeps the descriptor open: if it were closed under a running send, its number could be reused.
        this = object()
        try:
            self._waking[this] = None
            if not self._closed:
                self._outer.send(b"\0")
        except OSError as error:
            # A signal handler that runs during the send may raise an `OSError` of its own: that one is the user's.
            if error.errno not in _FULL_OR_CLOSED:
                raise
        finally:
            self._waking.pop(this, None)

    def wait(self, sock: Optional[socket.socket], read: bool, write: bool, seconds: float) -> Tuple[bool, bool]:
        """Waits until the socket is ready, or `wake` is called.

        Args:
            sock: The socket; `None` waits for a wake-up only.
            read: Whether to wait until it can be read from.
            write: Whether to wait until it can be written to.
            seconds: The longest wait; `math.inf` for no limit.

        Returns:
            Whether the socket can be read from, and whether it can be written to, of what was asked for. A socket with
            an error can be both.
        """
        readable, writable, woken = self._poll(sock if read or write else None, read, write, seconds)
        if woken:
            # Before the caller looks at what has changed: a later wake-up must end the next wait.
            self._inner.recv(4096)
        return readable, writable

    def wait_for_any(self, socks: Sequence[socket.socket], seconds: float) -> List[socket.socket]:
        """Waits until a socket can be written to or has failed, or `wake` is called.

        Args:
            socks: The sockets.
            seconds: The longest wait; `math.inf` for no limit.

        Returns:
            The sockets that can be written to or have failed.
        """
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
        poll = self._poll_object_for(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        events = dict(poll.poll(_milliseconds(seconds)))
        event = events.get(sock.fileno(), 0) if sock is not None else 0
        failed = event & ~(select.POLLIN | select.POLLOUT)
        return (
            bool(read and (event & select.POLLIN or failed)),
            bool(write and (event & select.POLLOUT or failed)),
            self._inner.fileno() in events,
        )

    def _poll_object_for(self, sock: Optional[socket.socket], mask: int) -> Any:
        wanted = None if sock is None else (sock.fileno(), mask)
        if self._poll_object is None or wanted != self._polled:
            # The last socket may be closed by now, and its number reused: the new object knows nothing of it.
            self._poll_object = select.poll()
            self._poll_object.register(self._inner.fileno(), select.POLLIN)
            if wanted is not None:
                self._poll_object.register(*wanted)
            self._polled = wanted
        return self._poll_object

    def close(self) -> None:
        """Closes the poller: `wait` must not be called afterwards, and `wake` does nothing."""
        self._closed = True
        self._inner.close()
        # A send that is under way ends at once. An interrupted `wake` may leave its entry, which costs this time.
        until = monotonic() + _LONGEST_SEND
        while self._waking and monotonic() < until:
            time.sleep(0.001)
        self._outer.close()


def _limit(seconds: float) -> Optional[float]:
    """Returns a time in seconds as a timeout for `select`."""
    return None if seconds == math.inf else min(max(0.0, seconds), _LONGEST_WAIT)


def _milliseconds(seconds: float) -> Optional[int]:
    """Returns a time in seconds as a timeout for `poll`, rounded up: a short wait would be repeated."""
    return None if seconds == math.inf else math.ceil(min(max(0.0, seconds), _LONGEST_WAIT) * 1000)
