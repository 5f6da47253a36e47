"""The received messages of one connection: a bounded queue that can be closed.

Threads: one thread puts, the connection's; one thread at a time takes, the one that has the session's turn. There are
no locks: `append` and `popleft` of a deque are atomic, and each of the two byte counts is written by one thread only.

The connection's thread stops reading while the inbox is `full`, so that TCP pushes back on the runtime. The bound is
soft by one batch, since a message that has been received is never dropped. `done` tells the taker that it has made room
again; the taker then wakes the connection's thread.

An interrupt may hit the taker between any two steps, and no message is lost or skipped: a batch stays first in the
queue until all of it is used, it holds its own position, and removing it (`done`) may be repeated.

Closing is final. What was put before can still be taken; `closed` says why no more will come.
"""

import sys
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Union

from .._call import Wakeup
from .._interrupts import failed_here
from .closed import ConnectionClosed

Item = Union[str, Dict[str, Any]]


class Batch:
    """Messages that were put at the same time.

    Attributes:
        items: The messages: as JSON texts, or parsed if a custom transport has done that.
        position: How many of them have been used.
        end: How many bytes the inbox had been given with this batch. It is greater for each later batch that is not
            empty, so it tells batches apart.
    """

    __slots__ = ("end", "items", "position")

    def __init__(self, items: List[Item], end: int) -> None:
        self.items: List[Item] = items
        self.position: int = 0
        self.end: int = end


class Inbox:
    """Batches of received messages, in order.

    Attributes:
        listener: The wake-up of the thread that waits for messages; `None` while none waits.
        closed: Why no more messages will come; `None` while they may.
        max_bytes: How many bytes may be queued before the inbox is `full`.
    """

    def __init__(self, max_bytes: int) -> None:
        self.listener: Optional[Wakeup] = None
        self.closed: Optional[ConnectionClosed] = None
        self._batches: Deque[Batch] = deque()
        self.max_bytes = max_bytes
        self._put_bytes = 0
        self._taken_bytes = 0
        self._failed = False

    def put(self, items: List[Item], *, wake: bool = True) -> None:
        """Adds a batch of messages.

        Args:
            items: The messages.
            wake: Whether to wake the listener; if not, the caller must do so by `wake_listener`.
        """
        # Either all are texts or none is: only a WebSocket puts several at once, and those are texts.
        are_texts = bool(items) and isinstance(items[0], str)
        self._put_bytes += sum(map(sys.getsizeof if are_texts else size, items))
        self._batches.append(Batch(items, self._put_bytes))
        if wake:
            self.wake_listener()

    def close(self, reason: ConnectionClosed) -> None:
        """Notes why no more messages will come; only the first reason counts."""
        if self.closed is None:
            self.closed = reason
        self.wake_listener()

    def fail(self, reason: ConnectionClosed) -> None:
        """Closes the inbox and discards what has not been taken; only for the thread that takes."""
        self.closed = reason
        self._failed = True
        self.wake_listener()

    def first(self) -> Optional[Batch]:
        """Returns the first batch, which stays in the queue until `done`; `None` if there is none."""
        if self._failed:
            return None
        try:
            return self._batches[0]
        except IndexError as error:
            if failed_here(error):
                return None
            raise

    def done(self, batch: Batch) -> bool:
        """Removes a used-up batch from the queue; has no effect if it has been removed already.

        Returns:
            Whether the inbox may have been full and has room now. The connection's thread must be woken then: it may
            have looked before the count changed. If it looks later, it sees the room by itself.
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
        """How many bytes have been put in all: the `end` of the latest batch."""
        return self._put_bytes

    @property
    def full(self) -> bool:
        """Whether more than `max_bytes` are queued."""
        return self._put_bytes - self._taken_bytes > self.max_bytes

    @property
    def exhausted(self) -> bool:
        """Whether the inbox is closed and nothing is left to take."""
        return self.closed is not None and (self._failed or not self._batches)

    def wake_listener(self) -> None:
        """Wakes the listener."""
        listener = self.listener
        if listener is not None:
            listener.wake()


def size(item: Item) -> int:
    """Returns how many bytes of memory a queued message takes."""
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
