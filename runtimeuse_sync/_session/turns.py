"""Whose turn it is on a session, first come, first served; and which thread reads a run.

The queue is one dict, which keeps the order of insertion: the first ticket in it has the turn. Each step is a single
atomic operation on the dict, so there is no lock that an interrupt could leave held. `leave` may be called at any
moment, twice, and for a ticket that never had the turn. No step raises, so no `except` here could catch an interrupt.

Threads: callers queue here. A connection's thread takes the turn only if it is free at once (`try_take`).
"""

import threading
from typing import Callable, Dict, Iterable, List, Optional, Set, Tuple

from .._call import Call, Wakeup

#: One reading of a run: the reading thread's identifier, and an object that makes the reading unique.
Reading = Tuple[int, object]


class Readers:
    """The threads that are reading one run.

    Only one thread may read at a time. It may do so several times over: a callback of the run may read on. Each step is
    a single atomic operation.

    Attributes:
        left: Whether a thread that does not read has left the run. The thread that reads then closes the run.
    """

    __slots__ = ("_readings", "left")

    def __init__(self) -> None:
        self._readings: List[Reading] = []
        self.left = False

    def enter(self, reading: Reading) -> bool:
        """Adds a reading. Whatever this returns or raises, `exit` must follow.

        Args:
            reading: The reading, made by the caller, so that `exit` can undo this wherever an interrupt comes.

        Returns:
            Whether this thread may read: no other thread does.
        """
        self._readings.append(reading)
        return not self.elsewhere

    def exit(self, reading: Reading) -> bool:
        """Removes a reading, if it was added; returns whether the caller must close the run, because it was left."""
        if reading in self._readings:
            self._readings.remove(reading)
        return self.left and not self._readings

    @property
    def here(self) -> bool:
        """Whether this thread is reading."""
        ident = threading.get_ident()
        return any(ident == reader for reader, _ in self._readings[:])

    @property
    def elsewhere(self) -> bool:
        """Whether another thread is reading."""
        first = self._readings[:1]
        return bool(first) and first[0][0] != threading.get_ident()


class Ticket:
    """A place in the queue.

    Attributes:
        abort: Aborts the holder, if that is a run; never blocks.
        wakeup: Woken when it may be the ticket's turn.
        threads: Identifiers of the user's threads that act for the ticket's holder: the caller's and its callbacks'.
        readers: The threads that read the holder's run.
    """

    __slots__ = ("abort", "readers", "threads", "wakeup")

    def __init__(self, wakeup: Wakeup, threads: Iterable[int] = (), abort: Optional[Callable[[], None]] = None) -> None:
        self.abort = abort
        self.wakeup = wakeup
        self.threads: Set[int] = set(threads)
        self.readers = Readers()

    @property
    def is_of_this_thread(self) -> bool:
        """Whether this thread acts for the holder or reads its run."""
        return threading.get_ident() in self.threads or self.readers.here


class Turn:
    """The queue of one session's callers."""

    def __init__(self) -> None:
        self._queue: Dict[Ticket, None] = {}

    def join(self, ticket: Ticket) -> None:
        """Queues a ticket. Its wakeup is woken when it may have the turn; `has` says whether it does."""
        self._queue[ticket] = None

    def has(self, ticket: Ticket) -> bool:
        """Returns whether it is the ticket's turn."""
        return self.first is ticket

    def wait(self, ticket: Ticket, call: Call) -> None:
        """Waits until it is the turn of a ticket that has joined; raises as `Call.wait`."""
        while not self.has(ticket):
            call.held_up = "it was still waiting for its turn on the session"
            call.wait()
        call.held_up = ""

    def try_take(self, ticket: Ticket) -> bool:
        """Takes the turn if the queue is empty; otherwise leaves the queue unchanged. Returns whether it was taken."""
        if self._queue:
            return False
        self._queue[ticket] = None
        if self.has(ticket):
            return True
        self.leave(ticket)
        return False

    def leave(self, ticket: Ticket) -> None:
        """Gives up the turn or the place in the queue. No effect for a ticket that has neither."""
        self._queue.pop(ticket, None)
        first = self.first
        if first is not None:
            first.wakeup.wake()

    def abort_all(self) -> None:
        """Aborts all runs in the queue, the one that has the turn and those that wait for it; never blocks."""
        for ticket in list(self._queue):
            if ticket.abort is not None:
                ticket.abort()

    def used_by_this_thread(self) -> bool:
        """Returns whether this thread has the turn or waits for it: if it queued again, it would wait for itself."""
        return any(ticket.is_of_this_thread for ticket in list(self._queue))

    @property
    def length(self) -> int:
        """How many tickets there are."""
        return len(self._queue)

    @property
    def first(self) -> Optional[Ticket]:
        """The ticket that has the turn; `None` if the queue is empty."""
        # A copy, because other threads change the queue meanwhile.
        first = list(self._queue)[:1]
        return first[0] if first else None
