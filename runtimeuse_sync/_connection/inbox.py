"""The closable, bounded queue between a connection's thread and the caller.

One thread puts (the connection's), one thread at a time takes (whoever has the session's turn). No locks: a deque whose
`append` and `popleft` are atomic, and two byte counts, each written by one side only. The putter learns from `full`
that it must stop reading, so that TCP pushes back (the bound is soft by one batch: a message that has been received is
never dropped). The taker learns from `done` that there is room again, and wakes the putter.

Taking is interruptible at any instant without losing or skipping a message: a batch stays first in the queue until all
of it is used, it carries its own position, and giving it up (`done`) may be repeated.

Closing is final: what was put before is still taken, then `closed` holds the reason.
"""

import sys
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Union

from .._call import Wakeup
from .._interrupts import failed_here
from .closed import ConnectionClosed

Item = Union[str, Dict[str, Any]]


class Batch:
    """Messages that were put together.

    Attributes:
        items: JSON texts, or messages parsed already.
        position: How many of them have been used.
    """

    __slots__ = ("end", "items", "position")

    def __init__(self, items: List[Item], end: int) -> None:
        self.items = items
        self.position = 0
        self.end = end


class Inbox:
    """Batches of received messages, in order.

    Attributes:
        listener: The wake-up of the thread that waits for messages; `None` while nobody does.
        closed: Why no more will come, once that is so (what was put before can still be taken).
        max_bytes: How much may be queued.
    """

    def __init__(self, max_bytes: int) -> None:
        self.listener: Optional[Wakeup] = None
        self.closed: Optional[ConnectionClosed] = None
        self._batches: Deque[Batch] = deque()
        self.max_bytes = max_bytes
        self._put_bytes = 0
        self._taken_bytes = 0
        self._failed = False

    def put(self, items: List[Item], *, tell: bool = True) -> None:
        """Adds messages, and wakes the listener, or leaves that to `tell`."""
        # All are texts, or none is: one connection has one kind.
        are_texts = bool(items) and isinstance(items[0], str)
        self._put_bytes += sum(map(sys.getsizeof if are_texts else size, items))
        self._batches.append(Batch(items, self._put_bytes))
        if tell:
            self.tell()

    def close(self, reason: ConnectionClosed) -> None:
        """Says that no more will come, and why; only the first reason counts."""
        if self.closed is None:
            self.closed = reason
        self.tell()

    def fail(self, reason: ConnectionClosed) -> None:
        """Says that no more will come, and that what was put before is not to be taken; for the taker."""
        self.closed = reason
        self._failed = True
        self.tell()

    def first(self) -> Optional[Batch]:
        """Returns the first batch that is not used up; it stays in the queue until `done`."""
        if self._failed:
            return None
        try:
            return self._batches[0]
        except IndexError as error:
            if failed_here(error):
                return None
            raise

    def done(self, batch: Batch) -> bool:
        """Takes a used-up batch out of the queue (harmless if it is out already); returns whether that made room.

        Whatever the putter saw before the count changed, it is told; after that, it sees for itself that there is room.
        """
        before = self._taken_bytes
        self._taken_bytes = batch.end
        if self._batches and self._batches[0] is batch:
            self._batches.popleft()
        repeated = before == batch.end
        was_full = self._put_bytes - before > self.max_bytes
        return (was_full or repeated) and not self.full

    @property
    def put_bytes(self) -> int:
        """How many bytes have been put: no batch that was put so far has a greater `end`."""
        return self._put_bytes

    @property
    def full(self) -> bool:
        """Whether more than `max_bytes` are queued."""
        return self._put_bytes - self._taken_bytes > self.max_bytes

    @property
    def exhausted(self) -> bool:
        """Whether it is closed and all has been taken."""
        return self.closed is not None and (self._failed or not self._batches)

    def tell(self) -> None:
        """Wakes the listener."""
        listener = self.listener
        if listener is not None:
            listener.wake()


def size(item: Item) -> int:
    """Returns the bytes that a queued message holds in memory."""
    if isinstance(item, str):
        return sys.getsizeof(item)
    total = 0
    inside: List[Any] = [item]
    while inside:
        value = inside.pop()
        total += sys.getsizeof(value)
        if isinstance(value, dict):
            inside += value.values()
        elif isinstance(value, list):
            inside += value
    return total
