"""Starting threads, and waiting for their end, in spite of interrupts at any step."""

from __future__ import annotations

import _thread
import contextlib
import functools
import sys
import threading
import weakref
from typing import Any, Callable, List, Optional

import pytest

from runtimeuse_sync import AgentRuntimeError, RuntimeConnectionError, RuntimeUseError, SessionStateError, _threads
from runtimeuse_sync._threads import Start, join_thread, new_thread, start_directly, start_thread

from ..support.doubles import Interrupt, at_every_step, interrupt
from ..support.servers import PATIENCE
from ..support.threads import InThread, without_collector

REFUSED = "can't start new thread"


def refuse(patch: pytest.MonkeyPatch, where: str, why: str) -> None:
    def no_more(*_: object) -> None:
        raise RuntimeError(why)

    if where == "between":
        patch.setattr(_thread, "start_new_thread", no_more)
    else:
        patch.setattr(threading.Thread, "start", no_more)


def until_over(start: Start, over: threading.Event) -> None:
    assert over.wait(PATIENCE)
    assert not start.under_way


@pytest.mark.parametrize("start", [start_thread, start_directly])
def test_a_thread_is_started(start: Callable[[threading.Thread], None]) -> None:
    ran: List[str] = []
    thread = new_thread(lambda: ran.append(threading.current_thread().name), "runtimeuse-test")
    start(thread)
    join_thread(thread, PATIENCE)
    assert ran == ["runtimeuse-test"]


@pytest.mark.parametrize("where", ["between", "itself", "directly"])
@pytest.mark.parametrize(
    ("why", "error", "advice"),
    [
        (REFUSED, RuntimeConnectionError, "fewer calls at once"),
        ("can't create new thread at interpreter shutdown", SessionStateError, "shutting down"),
        ("thread is not supported for isolated subinterpreters", RuntimeConnectionError, "an interpreter that allows"),
    ],
)
def test_a_thread_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, where: str, why: str, error: Any, advice: str
) -> None:
    monkeypatch.setattr(_threads, "_MISDIRECTS", where != "directly")
    thread = new_thread(print, "runtimeuse-test")

    def start() -> None:
        try:
            raise LookupError("the user's own, which is being handled")
        except LookupError:
            start_thread(thread)

    # In another thread than the main one, which starts all of its own directly.
    go_on = threading.Event()

    def start_then() -> None:
        assert go_on.wait(PATIENCE)
        start()

    starter = InThread(start_then)
    refuse(monkeypatch, where, why)
    go_on.set()
    with pytest.raises(error, match=advice) as caught:
        starter.result()
    assert type(caught.value.__cause__) is RuntimeError


def test_whoever_begins_a_start_is_told_of_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    told: List[RuntimeUseError] = []
    monkeypatch.setattr(_threads, "_MISDIRECTS", True)
    start = Start(threading.Thread(), told.append, AgentRuntimeError, over.set)
    go_on = threading.Event()

    def begin_then() -> None:
        assert go_on.wait(PATIENCE)
        start.begin()

    starter = InThread(begin_then)
    refuse(monkeypatch, "itself", REFUSED)
    go_on.set()
    starter.result()
    until_over(start, over)
    assert [type(error) for error in told] == [AgentRuntimeError]


def test_an_interpreter_without_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_daemons(*_: object, **__: object) -> None:
        raise RuntimeError("daemon threads are disabled in this interpreter")

    monkeypatch.setattr(threading.Thread, "__init__", refuse_daemons)
    with pytest.raises(RuntimeConnectionError, match="an interpreter that allows such threads"):
        new_thread(print, "runtimeuse-test")


@pytest.mark.parametrize("mislays", [True, False])
def test_an_interrupt_at_any_step_of_a_start(monkeypatch: pytest.MonkeyPatch, mislays: bool) -> None:
    """The thread runs, or will never run; whoever waits for the start does not wait in vain."""
    monkeypatch.setattr(_threads, "_MISDIRECTS", mislays)
    for run in at_every_step(Start.begin, interrupt):
        over = threading.Event()
        ran: List[int] = []
        thread = new_thread(functools.partial(ran.append, 1), "runtimeuse-test")
        start = Start(thread, lambda _: None, over=over.set)
        try:
            run(start.begin)
        except Interrupt:
            pass
        if start.under_way:
            until_over(start, over)
        join_thread(thread, PATIENCE)
        before = list(ran)
        assert not start.under_way
        assert before in ([], [1])
        assert thread.ident is None or before == [1]


@pytest.mark.parametrize("own", [RuntimeError("release unlocked lock"), KeyError("the thread")])
def test_two_interrupts_in_a_row(monkeypatch: pytest.MonkeyPatch, own: Exception) -> None:
    """`Thread.start` raises an error of its own in their place: the second is raised, and the first is its context."""

    def interrupted(_: threading.Thread) -> None:
        try:
            try:
                raise Interrupt("the first")
            finally:
                raise Interrupt("the second")
        finally:
            raise own

    monkeypatch.setattr(_threads, "_MISDIRECTS", False)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(Interrupt, match="the second") as caught:
        start_thread(new_thread(print, "runtimeuse-test"))
    assert repr(caught.value.__context__) == "Interrupt('the first')"


def test_an_interrupt_once_the_thread_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.start` itself, whose clean-up fails: the new thread has taken itself out of the dict already."""

    class TooLate(Exception):
        pass

    ran = threading.Event()

    def start(*arguments: Any, **keywords: Any) -> Any:
        real(*arguments, **keywords)
        assert ran.wait(PATIENCE)
        raise TooLate

    name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
    real = getattr(threading, name)
    monkeypatch.setattr(_threads, "_MISDIRECTS", False)
    thread = new_thread(ran.set, "runtimeuse-test")
    with monkeypatch.context() as patch:
        patch.setattr(threading, name, start)
        with pytest.raises(TooLate):
            start_thread(thread)
    assert join_thread(thread, PATIENCE)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="does not say whether the system has made the thread")
def test_a_thread_that_was_not_made_is_not_listed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.start` itself, interrupted once it has noted that the thread starts."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise Interrupt  # no `Exception`: those `Thread.start` heeds by itself

    thread = new_thread(print, "runtimeuse-test")
    with monkeypatch.context() as patch:
        patch.setattr(threading, "_start_joinable_thread", interrupted)
        with pytest.raises(Interrupt):
            start_thread(thread)
    assert thread not in threading.enumerate()


@without_collector()
def test_what_reaches_the_thread_between_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an exception does up to Python 3.11 that is set for the starting thread in that very moment."""

    class Limit(Exception):
        pass

    real = _thread.start_new_thread

    def mislay(_: object, arguments: Any) -> None:
        def run() -> None:
            with contextlib.suppress(StopIteration):
                arguments[0].throw(Limit)

        real(run, ())

    ran = threading.Event()

    def start_and_wait() -> None:
        start = Start(new_thread(ran.set, "runtimeuse-test"), lambda _: None)
        monkeypatch.setattr(_threads, "_MISDIRECTS", True)
        monkeypatch.setattr(_thread, "start_new_thread", mislay)
        start.begin()
        while True:
            threading.Event().wait(0.001)

    assert isinstance(InThread(start_and_wait).error(), Limit)
    assert ran.wait(PATIENCE)


def test_an_interrupt_that_threading_turns_into_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_and_interrupt(_: threading.Thread) -> None:
        try:
            raise Interrupt
        finally:
            threading.Lock().release()

    thread = new_thread(print, "runtimeuse-test")
    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(Interrupt):
        start_directly(thread)


def test_no_weak_reference_calls_back_for_a_thread_of_ours() -> None:
    thread = new_thread(print, "runtimeuse-test")
    assert weakref.getweakrefcount(thread) == 0


def test_a_thread_whose_end_was_waited_for_by_somebody_interrupted_is_known_to_have_ended() -> None:
    """Up to Python 3.12 an interrupt may leave the lock of an ended thread taken, and it looks alive for ever."""

    class LooksAlive(threading.Thread):
        over = False
        waits = 0

        def is_alive(self) -> bool:
            return True

        def join(self, timeout: Optional[float] = None) -> None:
            self.waits += 1

    thread = LooksAlive()
    assert not join_thread(thread, 0.01)
    thread.over = True
    thread.waits = 0
    assert join_thread(thread, PATIENCE)
    assert thread.waits == 2


def test_a_thread_of_ours_says_that_it_is_over() -> None:
    thread = new_thread(lambda: None, "runtimeuse-test")
    assert not getattr(thread, "over")  # noqa: B009  # typed as a plain thread
    start_thread(thread)
    assert join_thread(thread, PATIENCE)
    assert getattr(thread, "over")  # noqa: B009
