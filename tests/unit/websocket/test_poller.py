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

from runtimeuse_sync._websocket.poller import Poller

from ...support.doubles import Interrupt, at_every_step, interrupt
from ...support.servers import PATIENCE
from ...support.threads import InThread


@pytest.fixture(params=["poll", "select"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poller]:
    """Once as on Linux, and once as on Windows, which has no `poll`."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[Tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Pair = Tuple[socket.socket, socket.socket]


def returns_at_once(poller: Poller, sock: Optional[socket.socket], read: bool, write: bool) -> Tuple[bool, bool]:
    start = time.monotonic()
    ready = poller.wait(sock, read, write, PATIENCE)
    assert time.monotonic() - start < PATIENCE / 2
    return ready


def takes_its_time(poller: Poller, sock: Optional[socket.socket], read: bool, write: bool) -> None:
    start = time.monotonic()
    assert poller.wait(sock, read, write, 0.03) == (False, False)
    assert time.monotonic() - start >= 0.025


def fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        pass


def test_readable(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    takes_its_time(poller, ours, True, False)
    theirs.send(b"x")
    assert returns_at_once(poller, ours, True, False) == (True, False)
    # Only what is asked for.
    takes_its_time(poller, ours, False, False)


def test_writable(poller: Poller, pair: Pair) -> None:
    ours = pair[0]
    assert returns_at_once(poller, ours, False, True) == (False, True)
    assert returns_at_once(poller, ours, True, True) == (False, True)
    fill(ours)
    takes_its_time(poller, ours, False, True)


def test_the_end_can_be_read(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    assert returns_at_once(poller, ours, True, False)[0]


def test_a_lost_connection_can_be_written_to(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    fill(ours)
    theirs.close()
    assert returns_at_once(poller, ours, False, True)[1]


def test_no_socket(poller: Poller) -> None:
    takes_its_time(poller, None, True, True)


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_no_time(poller: Poller, pair: Pair, seconds: float) -> None:
    assert poller.wait(pair[0], True, False, seconds) == (False, False)
    assert poller.wait(pair[0], False, True, seconds) == (False, True)


@pytest.mark.parametrize("seconds", [math.inf, 10.0**12])
def test_very_long_waits_are_ended_by_a_wake_up(poller: Poller, seconds: float) -> None:
    thread = InThread(lambda: poller.wait(None, False, False, seconds))
    poller.wake()
    assert thread.result() == (False, False)


def test_a_wake_up_before_the_wait_is_not_lost(poller: Poller) -> None:
    poller.wake()
    returns_at_once(poller, None, False, False)


def test_wake_ups_do_not_add_up(poller: Poller) -> None:
    for _ in range(1000):
        poller.wake()
    returns_at_once(poller, None, False, False)
    takes_its_time(poller, None, False, False)
    poller.wake()
    returns_at_once(poller, None, False, False)


def test_a_wake_up_and_a_ready_socket_at_once(poller: Poller, pair: Pair) -> None:
    pair[1].send(b"x")
    poller.wake()
    assert returns_at_once(poller, pair[0], True, True) == (True, True)
    assert returns_at_once(poller, pair[0], True, False) == (True, False)


def test_after_close_wake_does_nothing() -> None:
    poller = Poller()
    poller.wake()
    poller.close()
    poller.wake()
    poller.close()


def test_no_wake_up_is_lost_between_threads(poller: Poller) -> None:
    state = [0]
    rounds = 500
    done = threading.Event()

    def wait() -> None:
        for number in range(1, rounds + 1):
            while state[0] < number:
                poller.wait(None, False, False, 10 * PATIENCE)
            done.set()

    thread = InThread(wait)
    for number in range(1, rounds + 1):
        state[0] = number
        poller.wake()
        if number % 5 == 0:
            poller.wake()
    thread.result()


def wake_often(poller: Poller, start: threading.Barrier) -> None:
    start.wait(PATIENCE)
    for _ in range(20):
        poller.wake()


def test_close_while_many_wake() -> None:
    for _ in range(30):
        poller = Poller()
        descriptors = (poller._inner, poller._outer)
        start = threading.Barrier(4)
        threads = [InThread(functools.partial(wake_often, poller, start)) for _ in range(3)]
        start.wait(PATIENCE)
        poller.close()
        for thread in threads:
            thread.result()
        assert [each.fileno() for each in descriptors] == [-1, -1]


def test_a_signal_handler_may_wake() -> None:
    poller = Poller()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: poller.wake())
    try:
        sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
        sender.start()
        returns_at_once(poller, None, False, False)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        poller.close()


def test_an_interrupt_at_any_step_of_wake_does_not_silence_later_ones() -> None:
    # A Ctrl-C in the thread that wakes; what it wanted to say may be lost with it, but not what is said later.
    for run in at_every_step(Poller.wake, interrupt):
        poller = Poller()
        try:
            run(poller.wake)
        except Interrupt:
            pass
        poller.wake()
        try:
            returns_at_once(poller, None, False, False)
        finally:
            poller.close()
            poller._outer.close()


def test_a_handler_that_wakes_in_the_middle_of_wake() -> None:
    # As a signal handler may: whatever the step, the wait ends.
    pollers: List[Poller] = []
    for run in at_every_step(Poller.wake, lambda: pollers[-1].wake()):
        pollers.append(Poller())
        run(pollers[-1].wake)
        returns_at_once(pollers[-1], None, False, False)
        pollers[-1].close()


class Interrupted:
    """A socket that is told of a signal while it sends, whose handler raises."""

    def __init__(self, raised: OSError) -> None:
        self._raised = raised

    def send(self, _: bytes) -> int:
        raise self._raised


@pytest.mark.parametrize("raised", [TimeoutError("an alarm"), FileNotFoundError(errno.ENOENT, "a handler's own")])
def test_what_a_signal_handler_raises_comes_out(monkeypatch: pytest.MonkeyPatch, raised: OSError) -> None:
    poller = Poller()
    with contextlib.closing(poller), monkeypatch.context() as patch:
        patch.setattr(poller, "_outer", Interrupted(raised))
        with pytest.raises(type(raised)):
            poller.wake()
