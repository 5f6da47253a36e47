"""Many runs that are left early: what is in flight is aborted, what has ended is recorded, by interrupts, too."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from runtimeuse_sync import (
    CancelledException,
    RunFuture,
    RuntimeUseClient,
    futures,
)
from runtimeuse_sync._call import Wakeup
from runtimeuse_sync.batch import _run_many, run_many
from runtimeuse_sync.batch._journal import Journal
from runtimeuse_sync.batch._outcomes import done_to_dict

from ...support.builders import on_alarm, wait
from ...support.threads import InThread
from ...support.threads import when as when_true
from .talking import Talking, client, how, runtime, wait_for_cancels

__all__ = ["client", "how", "runtime"]


@pytest.mark.parametrize("leave", ["break", "close", "raise"])
def test_leaving_aborts_what_is_in_flight(
    runtime: Talking, client: RuntimeUseClient, how: Any, leave: str, tmp_path: Path
) -> None:
    path = tmp_path / "runs.jsonl"
    outcomes = run_many(["quick", "hang 1", "hang 2", "hang 3"], client=client, journal=path, **how)
    assert str(next(outcomes).result) == "quick"
    runtime.until_arrived(4)
    if leave == "close":
        outcomes.close()
    elif leave == "raise":
        with pytest.raises(LookupError):
            outcomes.throw(LookupError())
    else:
        del outcomes
    wait_for_cancels(runtime, 3)
    assert not client._calls
    # Aborted runs are not recorded, and the journal is free.
    assert len(path.read_text().splitlines()) == 2
    runtime.let.set()
    again = run_many(["quick", "hang 1"], client=client, journal=path, **how)
    assert next(again).from_journal
    again.close()


def test_what_has_ended_meanwhile_is_recorded(
    runtime: Talking, client: RuntimeUseClient, tmp_path: Path, how: Any
) -> None:
    path = tmp_path / "runs.jsonl"
    ended = threading.Event()
    outcomes = run_many(["first", "wait"], client=client, journal=path, **how)
    assert str(next(outcomes).result) == "first"
    runtime.until_arrived(2)
    generator: Any = outcomes
    batch = generator.gi_frame.f_locals["batch"]
    (flight,) = batch._flights.values()
    flight.future.add_done_callback(lambda _: ended.set())
    runtime.let.set()
    wait(ended)
    outcomes.close()
    assert len(path.read_text().splitlines()) == 3


class OutOfTime(Exception):
    """What the handler of the alarm raises."""


def out_of_time() -> None:
    raise OutOfTime


def ring_main_thread(when: Callable[[], None]) -> None:
    when()
    # To that thread: a wait in it would otherwise end only with its slice.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)


def test_an_interrupt_while_it_waits(
    runtime: Talking, client: RuntimeUseClient, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Event()
    original = Wakeup.wait

    def noted(wakeup: Wakeup, seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            waits.set()
        original(wakeup, seconds)

    def both_have_begun() -> None:
        runtime.until_arrived(2)
        wait(waits)

    monkeypatch.setattr(Wakeup, "wait", noted)
    with on_alarm(out_of_time):
        outcomes = run_many(["hang 1", "hang 2"], client=client, **how)
        ringing = InThread(ring_main_thread, both_have_begun)
        with pytest.raises(OutOfTime):
            next(outcomes)
        ringing.result()
    wait_for_cancels(runtime, 2)
    with pytest.raises(StopIteration):
        next(outcomes)


def test_an_interrupt_while_it_starts_a_job(
    runtime: Talking, client: RuntimeUseClient, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that a pool has begun is cancelled and waited for; one in a thread of its own does not begin."""
    add = concurrent.futures.Future.add_done_callback

    def interrupted(future: Any, callback: Any) -> None:
        add(future, callback)
        if how:
            runtime.until_arrived(1)
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(concurrent.futures.Future, "add_done_callback", interrupted)
    with on_alarm(out_of_time), pytest.raises(OutOfTime):
        next(run_many(["hang"], client=client, **how))
    wait_for_cancels(runtime, len(how))
    assert len(runtime.requests) == len(how)


class ByHand(concurrent.futures.Executor):
    """Runs nothing: a test ends the futures, which are said to be running."""

    def __init__(self) -> None:
        self.futures: List[concurrent.futures.Future[Any]] = []

    def submit(self, *_: Any, **__: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        assert future.set_running_or_notify_cancel()
        self.futures.append(future)
        return future


def test_a_second_interrupt_loses_nothing_that_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    executor = ByHand()
    failed = json.dumps(done_to_dict(None, LookupError("no"), 1.0, ()))

    def jobs() -> Iterator[str]:
        yield from ("first", "second", "never ends")
        executor.futures[0].set_result(failed)

    class Interrupted:
        def wake(self) -> None:
            pass

        def wait(self, _: float) -> None:
            executor.futures[1].set_result(failed)
            raise KeyboardInterrupt

    outcomes = run_many(jobs(), connect="ws://localhost:1", executor=executor, journal=path)
    assert not next(outcomes).ok
    generator: Any = outcomes
    generator.gi_frame.f_locals["batch"]._wakeup = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        outcomes.close()
    assert len(path.read_text().splitlines()) == 3
    Journal(path).close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_as_a_job_begins(
    runtime: Talking,
    client: RuntimeUseClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    when: str,
) -> None:
    begin = RunFuture.begin

    def interrupted(future: RunFuture[Any]) -> None:
        if when == "after":
            begin(future)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFuture, "begin", interrupted)
    monkeypatch.setattr(_run_many, "LEAVING_PATIENCE", 0.001)
    with pytest.raises(KeyboardInterrupt):
        next(run_many(["hang"], client=client))
    assert "have not ended" not in caplog.text
    when_true(lambda: not client._calls and not futures._in_flight)


def test_an_exception_of_a_signal_handler_is_not_held_back(runtime: Talking, client: RuntimeUseClient) -> None:
    """Although it comes out of the iterable, say, whose own exceptions wait for what is in flight."""

    def jobs() -> Iterator[str]:
        yield "hang"
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    with on_alarm(out_of_time), pytest.raises(OutOfTime):
        list(run_many(jobs(), client=client))


def test_an_abort_of_the_client_is_the_jobs_error(runtime: Talking, client: RuntimeUseClient, how: Any) -> None:
    outcomes = run_many(["hang", "quick"], client=client, **how)
    assert next(outcomes).ok
    runtime.until_arrived(2)
    client.abort()
    assert isinstance(next(outcomes).error, CancelledException)
