"""The wake-up of one thread, deadlines, and when `cancel_when` is asked."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Callable, Iterator, List, Optional, Tuple

import pytest

from runtimeuse_sync import CancelledException, RunTimeoutError, _call
from runtimeuse_sync._call import SLICE, Call, Deadline, Wakeup

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
    assert time.monotonic() - start >= 0.09
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


# --- `cancel_when`.


class Asked:
    """A `cancel_when` that counts its calls and returns what the test sets."""

    def __init__(self, answer: Any = False) -> None:
        self.answer = answer
        self.count = 0

    def __call__(self) -> Any:
        self.count += 1
        return self.answer


def asking_call(cancel_when: Callable[[], Any], timeout: Optional[float] = None) -> Tuple[Call, FakeClock]:
    """Returns a call that asks every 2 seconds of its clock."""
    clock = FakeClock()
    call = Call("query", timeout, clock)
    call.ask_every(2.0, cancel_when)
    return call, clock


def test_it_is_asked_at_once_and_then_not_more_often_than_the_interval() -> None:
    asked = Asked()
    call, clock = asking_call(asked)
    for _ in range(100):
        call.ask()
    assert asked.count == 1
    for number in range(2, 6):
        clock.advance(1.99)
        call.ask()
        assert asked.count == number - 1
        clock.advance(0.01)
        call.ask()
        call.ask()
        assert asked.count == number


def test_the_interval_begins_with_the_answer() -> None:
    def slow() -> bool:
        clock.advance(100.0)
        return False

    call, clock = asking_call(slow)
    call.ask()
    assert call.ask_at == clock.now + 2.0


def test_a_call_without_one_asks_nothing() -> None:
    call = Call("query", None, FakeClock())
    call.ask()
    assert call.ask_at == math.inf


@pytest.mark.parametrize("answer", [True, 1, "yes", [0]])
def test_a_true_answer_aborts(answer: Any) -> None:
    call, _ = asking_call(Asked(answer))
    with pytest.raises(CancelledException, match=r"^Query was cancelled by cancel_when$") as caught:
        call.ask()
    assert (call.aborted, call.cancel_wanted, call.is_own(caught.value)) == (True, True, True)


@pytest.mark.parametrize("answer", [False, None, 0, "", []])
def test_a_false_answer_does_not(answer: Any) -> None:
    call, _ = asking_call(Asked(answer))
    call.ask()
    assert not call.aborted


def test_something_to_await_is_no_answer() -> None:
    async def coroutine() -> bool:
        return False

    class Future:
        def __await__(self) -> Iterator[None]:
            yield

    for answer, name in ((coroutine(), "coroutine"), (Future(), "Future")):
        call, _ = asking_call(Asked(answer))
        with pytest.raises(TypeError, match=rf"cancel_when returned something to await \({name}\)"):
            call.ask()
        assert not call.aborted


def test_what_it_raises_is_not_the_calls_own() -> None:
    failure = RunTimeoutError("its own")

    def fail() -> bool:
        raise failure

    call, _ = asking_call(fail)
    with pytest.raises(RunTimeoutError) as caught:
        call.wait()
    assert caught.value is failure
    assert (call.is_own(failure), call.aborted, call.asking) == (False, False, False)


def test_a_deadline_that_passes_meanwhile_is_noticed() -> None:
    def slow() -> bool:
        clock.advance(10.0)
        return True

    call, clock = asking_call(slow, timeout=5.0)
    with pytest.raises(RunTimeoutError):
        call.ask()


def test_a_wait_asks_before_it_blocks_and_ends_when_it_is_time_to_ask_again() -> None:
    asked = Asked()
    call, clock = asking_call(asked)
    waits: List[float] = []

    class Waiting:
        def wait(self, seconds: float) -> None:
            waits.append(seconds)
            clock.advance(seconds)
            asked.answer = True

        def wake(self) -> None:
            pass

    call.wakeup = Waiting()  # type: ignore[assignment]
    # What has arrived when it returns comes first.
    call.wait(clock.now + 5.0)
    assert (waits, asked.count) == ([2.0], 1)
    with pytest.raises(CancelledException):
        call.wait(clock.now + 3.0)
    assert (waits, asked.count) == ([2.0], 2)


def test_a_wait_does_not_outlast_its_end() -> None:
    call, clock = asking_call(Asked())
    waits: List[float] = []
    call.wakeup = type("Waiting", (), {"wait": lambda _, seconds: waits.append(seconds)})()
    call.wait(clock.now + 0.5)
    assert waits == [0.5]


def test_one_that_ends_its_own_call_does_not_let_it_go_on() -> None:
    def leave() -> bool:
        call.given_back = True
        return False

    call, _ = asking_call(leave)
    with pytest.raises(CancelledException, match="left before it ended"):
        call.ask()

    def abort() -> bool:
        aborted.abort()
        return False

    aborted, _ = asking_call(abort)
    with pytest.raises(CancelledException, match=r"was cancelled$"):
        aborted.ask()
