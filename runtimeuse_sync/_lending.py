"""Sending from the caller's thread: the connection's thread lends its socket for as long as it only waits.

To hand a request over to a thread that sleeps costs as much as to send it. So the connection's thread, the owner of the
socket, gives the ownership up while it waits, and takes it back before it does anything else. A caller that finds it
free may send a short request (`Loan`); one that does not, or is not sure, leaves the request to the outbox. Every
operation on the socket is thus made by one owner at a time, and nobody waits for a borrower longer than a non-blocking
send takes. Other messages than requests must not overtake a cancellation, and always go by the outbox.

Interrupts: a `KeyboardInterrupt` may hit the borrower between any two steps, and must leave neither half a frame behind
nor doubt about what was sent. What `send` returned is therefore put into a list by C code alone (`_record`), so that it
is known whatever comes next; `give_back` goes by that list, may be repeated, and comes before anybody else can look.
That holds for CPython and the operating system's own sockets: others are not lent (`can_be_lent`).
"""

import _socket
import math
import sys
from typing import Any, List

from ._call import Call
from ._turn import Ticket, Turn
from ._wakeup import Wakeup
from .transports._link import WebSocketLink

#: The longest request that is sent by its caller, in bytes: for longer ones it makes no difference who sends.
MAX_DIRECT_SIZE = 64 * 1024


def can_be_lent(sock: Any) -> bool:
    """Returns whether a send on this socket is a single step for an interrupt: not on TLS, nor with gevent's."""
    return sys.implementation.name == "cpython" and getattr(type(sock), "send", None) is _socket.socket.send


class Lending:
    """Who may use the socket now: the connection's thread, unless it waits."""

    def __init__(self) -> None:
        self._turn = Turn()
        self._owner = Ticket(Wakeup())
        self._turn.join(self._owner)

    def lend(self) -> None:
        """The connection's thread is about to wait."""
        self._turn.leave(self._owner)

    def take_back(self) -> None:
        """The connection's thread has waited; returns when nobody else uses the socket any more."""
        self._turn.join(self._owner)
        while not self._turn.has(self._owner):
            self._owner.wakeup.wait(math.inf)

    def borrow(self, ticket: Ticket) -> bool:
        """Returns whether the socket is the ticket's now."""
        return self._turn.try_take(ticket)

    def is_borrowed_by(self, ticket: Ticket) -> bool:
        """Returns whether the socket is the ticket's."""
        return self._turn.has(ticket)

    def give_back(self, ticket: Ticket) -> None:
        """Ends a loan; harmless where there is none."""
        self._turn.leave(ticket)


class Loan:
    """One request sent by its caller, as far as the socket takes it at once."""

    def __init__(self, lending: Lending, link: WebSocketLink, payload: bytes, call: Call) -> None:
        self._lending = lending
        self._link = link
        self._frame = link.frame_text(payload)
        self._call = call
        self._ticket = Ticket(Wakeup())
        self._record: List[int] = []

    @property
    def is_partial(self) -> bool:
        """Whether the socket took a part only; the connection's thread must send the rest."""
        return bool(self._record) and self._record[0] < len(self._frame)

    def send(self) -> bool:
        """Sends the request if the socket is free; returns whether it was sent, and be it in part."""
        link = self._link
        if not self._lending.borrow(self._ticket) or link.has_unsent or link.disconnected is not None:
            return False
        if self._call.cancel_wanted:
            return False
        try:
            self._record.extend(map(link.sock.send, (self._frame,)))
        except OSError:
            return False  # Full, or broken, which the connection's thread is to find out.
        return True

    def give_back(self) -> None:
        """Notes what was sent, then gives the socket back; may be repeated."""
        if self._record and self._lending.is_borrowed_by(self._ticket):
            self._call.sent = True
            if self.is_partial:
                self._link.left_over = self._frame[self._record[0] :]
        self._lending.give_back(self._ticket)
