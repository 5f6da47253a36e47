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

#: A thread that reads a run: its number, and what tells this reading from another one of that thread.
Reading = Tuple[int, object]


class Readers:
    """The threads that are reading one run: one at a time, several times over where a callback goes on reading it.

    Each step is a single atomic operation.

    Attributes:
        left: Whether the run was left by another thread than the one that reads it, which has to close it then.
    """

    __slots__ = ("_readings", "left")

    def __init__(self) -> None:
        self._readings: List[Reading] = []
        self.left = False

    def enter(self, reading: Reading) -> bool:
        """Adds a reading; returns whether it may go on: no other thread reads. Either way, `exit` must follow.

        Args:
            reading: The number of this thread, and a mark that makes the reading unique. It is made before, so that
                `exit` knows it wherever an interrupt comes.
        """
        self._readings.append(reading)
        return not self.elsewhere

    def exit(self, reading: Reading) -> bool:
        """Removes a reading, if it is there; returns whether the run is to be closed: it was left, and nobody reads."""
        if reading in self._readings:
            self._readings.remove(reading)
        return self.left and not self._readings

    @property
    def here(self) -> bool:
        """Whether this thread reads."""
        ident = threading.get_ident()
        return any(ident == reader for reader, _ in self._readings[:])

    @property
    def elsewhere(self) -> bool:
        """Whether another thread than this one reads."""
        first = self._readings[:1]
        return bool(first) and first[0][0] != threading.get_ident()


class Ticket:
    """A place in the queue.

    Attributes:
        wakeup: Woken when it may be the ticket's turn.
        threads: The user's threads that act for its holder: the caller's, and its callbacks'.
        readers: The threads that read its holder's run.
    """

    __slots__ = ("readers", "threads", "wakeup")

    def __init__(self, wakeup: Wakeup, threads: Iterable[int] = ()) -> None:
        self.wakeup = wakeup
        self.threads: Set[int] = set(threads)
        self.readers = Readers()

    @property
    def is_of_this_thread(self) -> bool:
        """Whether this thread acts for its holder, or reads its run."""
        return threading.get_ident() in self.threads or self.readers.here


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
