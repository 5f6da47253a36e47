"""Whose turn it is on a session: first come, first served.

A turn is a place in one dict, which keeps its order, and whoever's ticket stands first has the turn. Every step is a
single atomic operation on the dict, so there is no lock that an interrupt could leave held: `leave` may be called at
any moment, also twice, also by a caller that never got its turn. None of them raises, so nothing is caught here that
an interrupt could be mistaken for. Threads: callers queue here; a connection's thread takes a turn only if it is free
at once (`try_take`).
"""

import threading
from typing import Dict, Iterable, List, Optional, Set, Tuple

from .._wakeup import Wakeup


class Ticket:
    """A place in the queue.

    Attributes:
        wakeup: Woken when it may be the ticket's turn.
        threads: The user's threads that act for its holder: the caller's, and its callbacks'.
        readings: Who is inside of what its holder does, the thread and a mark of each: of one thread only, more than
            once where a callback goes on by itself. Each step on it is atomic.
        left: Whether its holder was left by a thread that had to leave the rest to the one that is inside.
    """

    __slots__ = ("left", "readings", "threads", "wakeup")

    def __init__(self, wakeup: Wakeup, threads: Iterable[int] = ()) -> None:
        self.wakeup = wakeup
        self.threads: Set[int] = set(threads)
        self.readings: List[Tuple[int, object]] = []
        self.left = False

    @property
    def is_of_this_thread(self) -> bool:
        """Whether this thread acts for its holder, or is inside of what that does."""
        ident = threading.get_ident()
        return ident in self.threads or any(ident == reader for reader, _ in self.readings[:])

    @property
    def is_read_elsewhere(self) -> bool:
        """Whether another thread than this one is inside."""
        readings = self.readings[:1]
        return bool(readings) and readings[0][0] != threading.get_ident()


class Turn:
    """The queue of one session's callers."""

    def __init__(self) -> None:
        self._queue: Dict[Ticket, None] = {}

    def join(self, ticket: Ticket) -> None:
        """Queues a ticket; it has its turn as soon as `has` says so (its wakeup is woken then)."""
        self._queue[ticket] = None

    def has(self, ticket: Ticket) -> bool:
        """Returns whether it is the ticket's turn."""
        return self.first is ticket

    def try_take(self, ticket: Ticket) -> bool:
        """Takes the turn if nobody has it or waits for it; else leaves the queue as it was."""
        if self._queue:
            return False
        self._queue[ticket] = None
        if self.has(ticket):
            return True
        self.leave(ticket)
        return False

    def leave(self, ticket: Ticket) -> None:
        """Gives the turn, or the place in the queue, up; harmless for a ticket that has neither."""
        self._queue.pop(ticket, None)
        first = self.first
        if first is not None:
            first.wakeup.wake()

    def used_by_this_thread(self) -> bool:
        """Returns whether the calling thread has the turn or waits for it already: another wait would never end."""
        return any(ticket.is_of_this_thread for ticket in list(self._queue))

    @property
    def first(self) -> Optional[Ticket]:
        """The ticket whose turn it is, if it is anybody's."""
        # A copy, since others change it meanwhile.
        first = list(self._queue)[:1]
        return first[0] if first else None
