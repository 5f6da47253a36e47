"""Waiting for a socket in a way that any other thread can end."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import select
import signal
import socket
import threading
import time
from typing import Iterator, List, Optional, Tuple

import pytest

from runtimeuse_sync._websocket.poller import Waiter

from ...support.doubles import Interrupt, at_every_step, interrupt
from ...support.servers import PATIENCE
from ...support.threads import InThread


@pytest.fixture(params=["poll", "select"])
def waiter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiter]:
    """Once as on Linux, and once as on Windows, which has no `poll`."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")
    waiter = Waiter()
    yield waiter
    waiter.close()


@pytest.fixture
def pair() -> Iterator[Tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Pair = Tuple[socket.socket, socket.socket]


def returns_at_once(waiter: Waiter, sock: Optional[socket.socket], read: bool, write: bool) -> Tuple[bool, bool]:
    start = time.monotonic()
    ready = waiter.wait(sock, read, write, PATIENCE)
    assert time.monotonic() - start < PATIENCE / 2
    return ready


def takes_its_time(waiter: Waiter, sock: Optional[socket.socket], read: bool, write: bool) -> None:
    start = time.monotonic()
    assert waiter.wait(sock, read, write, 0.03) == (False, False)
    assert time.monotonic() - start >= 0.025


def fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        pass


def test_readable(waiter: Waiter, pair: Pair) -> None:
    ours, theirs = pair
    takes_its_time(waiter, ours, True, False)
    theirs.send(b"x")
    assert returns_at_once(waiter, ours, True, False) == (True, False)
    # Only what is asked for.
    takes_its_time(waiter, ours, False, False)


def test_writable(waiter: Waiter, pair: Pair) -> None:
    ours = pair[0]
    assert returns_at_once(waiter, ours, False, True) == (False, True)
    assert returns_at_once(waiter, ours, True, True) == (False, True)
    fill(ours)
    takes_its_time(waiter, ours, False, True)


def test_the_end_can_be_read(waiter: Waiter, pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    assert returns_at_once(waiter, ours, True, False)[0]


def test_a_lost_connection_can_be_written_to(waiter: Waiter, pair: Pair) -> None:
    ours, theirs = pair
    fill(ours)
    theirs.close()
    assert returns_at_once(waiter, ours, False, True)[1]


def test_no_socket(waiter: Waiter) -> None:
    takes_its_time(waiter, None, True, True)


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_no_time(waiter: Waiter, pair: Pair, seconds: float) -> None:
    assert waiter.wait(pair[0], True, False, seconds) == (False, False)
    assert waiter.wait(pair[0], False, True, seconds) == (False, True)


@pytest.mark.parametrize("seconds", [math.inf, 10.0**12])
def test_very_long_waits_are_ended_by_a_wake_up(waiter: Waiter, seconds: float) -> None:
    thread = InThread(lambda: waiter.wait(None, False, False, seconds))
    waiter.wake()
    assert thread.result() == (False, False)


def test_a_wake_up_before_the_wait_is_not_lost(waiter: Waiter) -> None:
    waiter.wake()
    returns_at_once(waiter, None, False, False)


def test_wake_ups_do_not_add_up(waiter: Waiter) -> None:
    for _ in range(1000):
        waiter.wake()
    returns_at_once(waiter, None, False, False)
    takes_its_time(waiter, None, False, False)
    waiter.wake()
    returns_at_once(waiter, None, False, False)


def test_a_wake_up_and_a_ready_socket_at_once(waiter: Waiter, pair: Pair) -> None:
    pair[1].send(b"x")
    waiter.wake()
    assert returns_at_once(waiter, pair[0], True, True) == (True, True)
    assert returns_at_once(waiter, pair[0], True, False) == (True, False)


def test_after_close_wake_does_nothing() -> None:
    waiter = Waiter()
    waiter.wake()
    waiter.close()
    waiter.wake()
    waiter.close()


def test_no_wake_up_is_lost_between_threads(waiter: Waiter) -> None:
    state = [0]
    rounds = 500
    done = threading.Event()

    def wait() -> None:
        for number in range(1, rounds + 1):
            while state[0] < number:
                waiter.wait(None, False, False, 10 * PATIENCE)
            done.set()

    thread = InThread(wait)
    for number in range(1, rounds + 1):
        state[0] = number
        waiter.wake()
        if number % 5 == 0:
            waiter.wake()
    thread.result()


def wake_often(waiter: Waiter, start: threading.Barrier) -> None:
    start.wait(PATIENCE)
    for _ in range(20):
        waiter.wake()


def test_close_while_many_wake() -> None:
    for _ in range(30):
        waiter = Waiter()
        descriptors = (waiter._inner, waiter._outer)
        start = threading.Barrier(4)
        threads = [InThread(functools.partial(wake_often, waiter, start)) for _ in range(3)]
        start.wait(PATIENCE)
        waiter.close()
        for thread in threads:
            thread.result()
        assert [each.fileno() for each in descriptors] == [-1, -1]


def test_a_signal_handler_may_wake() -> None:
    waiter = Waiter()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: waiter.wake())
    try:
        sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
        sender.start()
        returns_at_once(waiter, None, False, False)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        waiter.close()


def test_an_interrupt_at_any_step_of_wake_does_not_silence_later_ones() -> None:
    # A Ctrl-C in the thread that wakes; what it wanted to say may be lost with it, but not what is said later.
    for run in at_every_step(Waiter.wake, interrupt):
        waiter = Waiter()
        try:
            run(waiter.wake)
        except Interrupt:
            pass
        waiter.wake()
        try:
            returns_at_once(waiter, None, False, False)
        finally:
            waiter.close()
            waiter._outer.close()


def test_a_handler_that_wakes_in_the_middle_of_wake() -> None:
    # As a signal handler may: whatever the step, the wait ends.
    waiters: List[Waiter] = []
    for run in at_every_step(Waiter.wake, lambda: waiters[-1].wake()):
        waiters.append(Waiter())
        run(waiters[-1].wake)
        returns_at_once(waiters[-1], None, False, False)
        waiters[-1].close()


class Interrupted:
    """A socket that is told of a signal while it sends, whose handler raises."""

    def __init__(self, raised: OSError) -> None:
        self._raised = raised

    def send(self, _: bytes) -> int:
        raise self._raised


@pytest.mark.parametrize("raised", [TimeoutError("an alarm"), FileNotFoundError(errno.ENOENT, "a handler's own")])
def test_what_a_signal_handler_raises_comes_out(monkeypatch: pytest.MonkeyPatch, raised: OSError) -> None:
    waiter = Waiter()
    with contextlib.closing(waiter), monkeypatch.context() as patch:
        patch.setattr(waiter, "_outer", Interrupted(raised))
        with pytest.raises(type(raised)):
            waiter.wake()
