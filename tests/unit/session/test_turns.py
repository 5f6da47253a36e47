"""Whose turn it is: first come, first served, and no wake-up lost."""

from __future__ import annotations

import functools
import threading
from typing import List

import pytest

from runtimeuse_sync._call import Wakeup
from runtimeuse_sync._session.turns import Readers, Reading, Ticket, Turn

from ...support.doubles import Interrupt, at_every_step
from ...support.servers import PATIENCE
from ...support.threads import InThread


def make(count: int) -> List[Ticket]:
    return [Ticket(Wakeup()) for _ in range(count)]


def was_woken(ticket: Ticket) -> bool:
    woken: bool = ticket.wakeup._lock.acquire(blocking=False)
    return woken


def test_first_come_first_served() -> None:
    turn = Turn()
    first, second, third = make(3)
    for ticket in (first, second, third):
        turn.join(ticket)
    assert [turn.has(ticket) for ticket in (first, second, third)] == [True, False, False]
    turn.leave(first)
    assert [turn.has(ticket) for ticket in (first, second, third)] == [False, True, False]
    assert was_woken(second)
    assert not was_woken(third)
    turn.leave(second)
    assert turn.has(third)
    assert was_woken(third)
    turn.leave(third)
    assert not turn.has(third)


def test_leaving_in_the_middle() -> None:
    turn = Turn()
    first, second, third = make(3)
    for ticket in (first, second, third):
        turn.join(ticket)
    turn.leave(second)
    assert turn.has(first)
    turn.leave(first)
    assert turn.has(third)
    assert was_woken(third)
    assert not was_woken(second)


def test_leaving_twice_and_without_having_joined() -> None:
    turn = Turn()
    first, second, stranger = make(3)
    turn.join(first)
    turn.join(second)
    turn.leave(stranger)
    assert turn.has(first)
    turn.leave(first)
    turn.leave(first)
    assert turn.has(second)
    turn.leave(second)
    turn.leave(second)
    assert turn.try_take(stranger)


def test_a_ticket_may_be_used_again() -> None:
    turn = Turn()
    [ticket] = make(1)
    for _ in range(3):
        assert turn.try_take(ticket)
        turn.leave(ticket)


def test_try_take_leaves_the_queue_as_it_was() -> None:
    turn = Turn()
    holder, background, waiting = make(3)
    assert turn.try_take(background)
    turn.leave(background)
    turn.join(holder)
    assert not turn.try_take(background)
    turn.join(waiting)
    assert not turn.try_take(background)
    turn.leave(holder)
    assert turn.has(waiting)


def test_used_by_this_thread() -> None:
    turn = Turn()
    mine = Ticket(Wakeup(), [threading.get_ident()])
    [other] = make(1)
    assert not turn.used_by_this_thread()
    turn.join(other)
    turn.join(mine)
    # Also while it is only queued: a signal handler that queued behind it would wait for its own thread.
    assert turn.used_by_this_thread()
    turn.leave(other)
    assert turn.used_by_this_thread()
    assert InThread(turn.used_by_this_thread).result() is False
    turn.leave(mine)
    assert not turn.used_by_this_thread()


def test_a_callbacks_thread_counts_as_the_holders() -> None:
    turn = Turn()
    [ticket] = make(1)
    turn.join(ticket)

    def callback() -> bool:
        ticket.threads.add(threading.get_ident())
        try:
            return turn.used_by_this_thread()
        finally:
            ticket.threads.discard(threading.get_ident())

    assert InThread(callback).result() is True
    assert not turn.used_by_this_thread()


def new_reading() -> Reading:
    return threading.get_ident(), object()


def test_one_thread_reads_at_a_time() -> None:
    readers = Readers()
    outer, inner = new_reading(), new_reading()
    assert readers.enter(outer)
    # A callback of the run reads on.
    assert readers.enter(inner)
    assert readers.here
    assert not readers.elsewhere

    def read() -> List[bool]:
        mine = new_reading()
        seen = [readers.enter(mine), readers.elsewhere]
        readers.exit(mine)
        return seen

    assert InThread(read).result() == [False, True]
    readers.exit(inner)
    assert readers.here
    readers.exit(outer)
    assert not readers.here


def test_who_reads_last_closes_a_run_that_was_left() -> None:
    readers = Readers()
    outer, inner = new_reading(), new_reading()
    readers.enter(outer)
    readers.enter(inner)
    readers.left = True
    assert not readers.exit(inner)
    assert readers.exit(outer)
    # The same for a reading that was not added because of an interrupt.
    assert readers.exit(new_reading())


def test_a_thread_that_reads_a_run_counts_as_the_holders() -> None:
    turn = Turn()
    [ticket] = make(1)
    turn.join(ticket)
    reading = new_reading()
    ticket.readers.enter(reading)
    assert turn.used_by_this_thread()
    ticket.readers.exit(reading)
    assert not turn.used_by_this_thread()


def wait_for(turn: Turn, ticket: Ticket) -> None:
    turn.join(ticket)
    while not turn.has(ticket):
        # If a wake-up is lost, this exceeds the test's patience.
        ticket.wakeup.wait(10 * PATIENCE)


def test_many_threads_one_at_a_time_and_no_wake_up_lost() -> None:
    turn = Turn()
    inside: List[int] = []
    served: List[int] = []
    start = threading.Barrier(9)

    def caller(number: int) -> None:
        ticket = Ticket(Wakeup())
        start.wait(PATIENCE)
        for _ in range(100):
            wait_for(turn, ticket)
            inside.append(number)
            assert inside == [number]
            inside.remove(number)
            served.append(number)
            turn.leave(ticket)

    def background() -> None:
        ticket = Ticket(Wakeup())
        start.wait(PATIENCE)
        for _ in range(500):
            if turn.try_take(ticket):
                inside.append(-1)
                assert inside == [-1]
                inside.remove(-1)
                turn.leave(ticket)

    threads = [InThread(functools.partial(caller, number)) for number in range(8)]
    threads.append(InThread(background))
    for thread in threads:
        thread.result()
    assert sorted(served) == sorted(list(range(8)) * 100)


def test_a_caller_that_gives_up_wakes_the_next() -> None:
    turn = Turn()
    holder, impatient, patient = make(3)
    turn.join(holder)
    turn.join(impatient)
    waiter = InThread(lambda: wait_for(turn, patient))
    # The holder leaves and wakes the impatient one, which leaves without checking whether it has the turn.
    turn.leave(holder)
    turn.leave(impatient)
    waiter.result()


@pytest.mark.parametrize("operation", ["leave", "try_take", "join"])
def test_an_interrupt_at_any_step_can_be_cleaned_up(operation: str) -> None:
    def interrupt() -> None:
        raise Interrupt

    for run in at_every_step(getattr(Turn, operation), interrupt):
        turn = Turn()
        mine, next_one = make(2)
        if operation == "leave":
            turn.join(mine)
            turn.join(next_one)
        try:
            run(functools.partial(getattr(turn, operation), mine))
        except Interrupt:
            pass
        # A call cleans up like this.
        turn.leave(mine)
        if operation == "leave":
            assert was_woken(next_one)
            assert turn.has(next_one)
        else:
            assert turn.try_take(next_one)
