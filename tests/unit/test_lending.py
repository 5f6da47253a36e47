"""The socket that a connection's thread lends while it waits: one user at a time, and whole frames in any case."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from runtimeuse_sync._call import Call
from runtimeuse_sync._cleanup import cleaned_up
from runtimeuse_sync._lending import Lending, Loan, can_be_lent
from runtimeuse_sync._turn import Ticket, Turn
from runtimeuse_sync._wakeup import Wakeup
from runtimeuse_sync.transports._link import Disconnected, WebSocketLink

from .doubles import Interrupt, InThread, at_every_step
from .test_frames import TEXT, unmasked

#: Far more than a socket takes at once.
LONG = b"x" * 50_000


class Desk:
    """A link over a pair of sockets, lent; and its other end."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.link = WebSocketLink(self.ours, b"", 2**20)
        self.lending = Lending()
        self.lending.lend()
        self.call = Call("query", None)

    def loan(self, payload: bytes = b"hello") -> Loan:
        return Loan(self.lending, self.link, payload, self.call)

    def send(self, payload: bytes = b"hello") -> bool:
        loan = self.loan(payload)
        return cleaned_up(loan.send, loan.give_back)

    def is_free(self) -> bool:
        ticket = Ticket(Wakeup())
        try:
            return self.lending.borrow(ticket)
        finally:
            self.lending.give_back(ticket)

    def received(self) -> List[Tuple[int, bytes]]:
        """What the other end gets when the owner has sent all that is left."""
        data = b""
        while True:
            try:
                data += self.theirs.recv(1 << 20)
            except BlockingIOError:
                if not self.link.flush():
                    return unmasked(data)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    with desk.ours, desk.theirs:
        yield desk


def test_a_message_goes_out_at_once(desk: Desk) -> None:
    assert desk.send() is True
    assert unmasked(desk.theirs.recv(1000)) == [(TEXT, b"hello")]
    assert desk.call.sent
    assert desk.is_free()


def test_the_owner_lends_only_while_it_waits(desk: Desk) -> None:
    desk.lending.take_back()
    assert desk.send() is False
    assert not desk.call.sent
    desk.lending.lend()
    assert desk.send() is True


def test_the_owner_waits_for_a_borrower(desk: Desk) -> None:
    ticket = Ticket(Wakeup())
    assert desk.lending.borrow(ticket)
    owner = InThread(desk.lending.take_back)
    assert not desk.lending.borrow(Ticket(Wakeup()))
    assert owner.running
    desk.lending.give_back(ticket)
    owner.result()
    assert not desk.is_free()


def test_the_rest_of_a_message_goes_before_all_else(desk: Desk) -> None:
    loan = desk.loan(LONG)
    assert cleaned_up(loan.send, loan.give_back) is True
    assert loan.is_partial
    assert desk.call.sent
    assert desk.send() is False
    desk.link.queue_text(b"next")
    assert desk.received() == [(TEXT, LONG), (TEXT, b"next")]


def _full(desk: Desk) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            desk.ours.send(LONG)


def _broken(desk: Desk) -> None:
    desk.theirs.close()


def _queued(desk: Desk) -> None:
    desk.link.queue_text(b"before")


def _over(desk: Desk) -> None:
    desk.link.disconnected = Disconnected("it is over")


def _cancelled(desk: Desk) -> None:
    desk.call.abort()


@pytest.mark.parametrize("happens", [_full, _broken, _queued, _over, _cancelled])
def test_what_is_not_sent_at_once_is_left_to_the_owner(desk: Desk, happens: Callable[[Desk], None]) -> None:
    happens(desk)
    assert desk.send() is False
    assert not desk.call.sent
    assert not desk.link.left_over
    assert desk.is_free()


def test_only_sockets_of_the_operating_system_are_lent(desk: Desk) -> None:
    class Patched(socket.socket):
        def send(self, *arguments: Any) -> int:
            return super().send(*arguments)

    assert can_be_lent(desk.ours)
    with Patched() as patched:
        assert not can_be_lent(patched)
    context = ssl.create_default_context()
    with context.wrap_socket(socket.socket(), server_hostname="localhost") as secure:
        assert not can_be_lent(secure)


def interrupt() -> None:
    raise Interrupt


@pytest.mark.parametrize("function", [cleaned_up, Loan.send, Loan.give_back, Lending.borrow, Turn.try_take, Turn.leave])
@pytest.mark.parametrize("payload", [b"hello", LONG], ids=["at once", "in parts"])
def test_interrupted_at_any_step(function: Any, payload: bytes) -> None:
    """Whatever was sent is known and can be completed, and the socket is given back."""
    for run in at_every_step(function, interrupt):
        desk = Desk()
        with desk.ours, desk.theirs:
            try:
                run(lambda desk=desk: desk.send(payload))  # type: ignore[misc]  # bound at once
            except Interrupt:
                pass
            assert desk.is_free()
            sent = desk.call.sent
            desk.link.queue_text(b"next")
            assert desk.received() == ([(TEXT, payload)] if sent else []) + [(TEXT, b"next")]
