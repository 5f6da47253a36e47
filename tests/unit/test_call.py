"""The wake-up of one thread, and deadlines."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Iterator, List, Optional

import pytest

from runtimeuse_sync import _call
from runtimeuse_sync._call import SLICE, Deadline, Wakeup

from ..support.doubles import FakeClock
from ..support.servers import PATIENCE
from ..support.threads import InThread


@pytest.fixture
def main_thread_signal() -> Iterator[None]:
    """For tests with signals, whose handlers run in the main thread only."""
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_wake_up_before_the_wait_is_not_lost() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    InThread(wakeup.wait, 10 * PATIENCE).result()


def test_wake_ups_do_not_add_up() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    wakeup.wake()
    wakeup.wait(PATIENCE)
    start = time.monotonic()
    wakeup.wait(0.02)
    assert time.monotonic() - start >= 0.015


@pytest.mark.parametrize("seconds", [0.0, -1.0, -math.inf])
def test_a_wait_without_time_returns_at_once_and_takes_the_wake_up(seconds: float) -> None:
    wakeup = Wakeup()
    wakeup.wait(seconds)
    wakeup.wake()
    wakeup.wait(seconds)
    start = time.monotonic()
    wakeup.wait(0.02)
    assert time.monotonic() - start >= 0.015


@pytest.mark.parametrize("seconds", [math.inf, threading.TIMEOUT_MAX * 2, 10 * PATIENCE])
def test_a_waiting_thread_is_woken(seconds: float) -> None:
    wakeup = Wakeup()
    waiter = InThread(lambda: wakeup.wait(seconds))
    wakeup.wake()
    waiter.result()


def test_a_signal_handler_wakes_the_main_thread_while_that_waits(
    main_thread_signal: None,
) -> None:
    wakeup = Wakeup()
    woken = threading.Event()

    def handler(number: int, frame: Optional[FrameType]) -> None:
        wakeup.wake()

    signal.signal(signal.SIGUSR1, handler)

    def send() -> None:
        # Again and again: one that comes just before the wait does not end it.
        while not woken.wait(0.01):
            os.kill(os.getpid(), signal.SIGUSR1)

    sender = InThread(send)
    start = time.monotonic()
    wakeup.wait(PATIENCE)
    woken.set()
    sender.result()
    assert time.monotonic() - start < PATIENCE / 2


@pytest.mark.parametrize("thread", ["main", "other"])
def test_no_thread_waits_long_without_a_look_at_interrupts(thread: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A signal that came just before the wait did not end it, so its handler would run after it only. What another
    # thread sets never ends it.
    monkeypatch.setattr(_call, "SLICE", SLICE)
    start = time.monotonic()
    if thread == "main":
        Wakeup().wait(math.inf)
    else:
        InThread(Wakeup().wait, math.inf).result()
    assert time.monotonic() - start < PATIENCE
    assert SLICE < 0.5


def test_a_thread_of_ours_rests_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_call, "SLICE", 0.001)
    wakeup = Wakeup(sliced=False)
    start = time.monotonic()
    wakeup.wait(0.1)
    assert time.monotonic() - start >= 0.1
    waiter = InThread(wakeup.wait, math.inf)
    wakeup.wake()
    waiter.result()


class _Lock:
    """A lock in whose release a signal handler raises, before or after it is done."""

    def __init__(self, *, done: bool) -> None:
        self._done = done

    def release(self) -> None:
        if not self._done:
            raise RuntimeError("release unlocked lock")
        raise RuntimeError("the handler's")


def test_what_a_signal_handler_raises_in_a_wake_up_comes_out() -> None:
    wakeup: Any = Wakeup()
    wakeup._lock = _Lock(done=True)
    with pytest.raises(RuntimeError, match="the handler's"):
        wakeup.wake()
    wakeup._lock = _Lock(done=False)
    wakeup.wake()


def test_an_interrupt_leaves_a_wait(main_thread_signal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_call, "SLICE", SLICE)
    wakeup = Wakeup()
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))

    def be_interrupted() -> None:
        # The signal may come before the wait or during it.
        sender.start()
        wakeup.wait(PATIENCE)

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    sender.join()
    # It still works.
    wakeup.wake()
    wakeup.wait(PATIENCE)


def test_no_wake_up_is_lost_between_threads() -> None:
    there, back = Wakeup(), Wakeup()
    rounds = 2000
    state: List[int] = [0]

    # If one is lost, its wait takes longer than the test has patience.
    def ask() -> None:
        for number in range(rounds):
            state[0] += 1
            there.wake()
            while state[0] != 2 * number + 2:
                back.wait(10 * PATIENCE)

    def answer() -> None:
        for number in range(rounds):
            while state[0] != 2 * number + 1:
                there.wait(10 * PATIENCE)
            state[0] += 1
            back.wake()

    for thread in (InThread(ask), InThread(answer)):
        thread.result()
    assert state[0] == 2 * rounds


def test_a_deadline_counts_down_on_its_clock() -> None:
    clock = FakeClock(100.0)
    deadline = Deadline(2.5, clock)
    assert (deadline.at, deadline.seconds, deadline.remaining(), deadline.passed()) == (102.5, 2.5, 2.5, False)
    clock.advance(2.0)
    assert deadline.remaining() == 0.5
    clock.advance(0.5)
    assert (deadline.remaining(), deadline.passed()) == (0.0, True)
    clock.advance(100)
    assert (deadline.remaining(), deadline.passed()) == (0.0, True)


@pytest.mark.parametrize("seconds", [None, math.inf])
def test_no_limit(seconds: Optional[float]) -> None:
    clock = FakeClock()
    deadline = Deadline(seconds, clock)
    clock.advance(1e18)
    assert (deadline.at, deadline.remaining(), deadline.passed()) == (math.inf, math.inf, False)
