"""Revocation and time limits of a task, in a worker's main process."""

from __future__ import annotations

import contextlib
import os
import threading
import types
from typing import Any, Iterator, List

from celery import states
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.worker import state as worker_state

from runtimeuse_sync.testing import HANG, command_results, text_result

from .bench import Bench, Clock, ask


@contextlib.contextmanager
def in_worker(task_id: str, **fields: Any) -> Iterator[Any]:
    """Has a task run as in the main process of a worker, whose pool is threads, say."""
    request = types.SimpleNamespace(**{"runtimeuse_process": os.getpid(), "terminated": False, **fields})
    worker_state.requests[task_id] = request
    try:
        yield request
    finally:
        del worker_state.requests[task_id]


def test_a_task_that_is_revoked_in_a_thread(bench: Bench) -> None:
    with in_worker("mine") as request:

        def reply(_: Any) -> Any:
            request.terminated = True
            bench.app.backend.mark_as_revoked("mine", "terminated")
            # As if it had come too late.
            bench.app.backend.store_result("mine", {}, "PROGRESS")
            return HANG

        bench.fake.expect(reply)
        result = bench.execute(bench.task(ask, autoretry_for=(Exception,), repeatable=True), task_id="mine")
    assert result.state == states.REVOKED
    bench.wait_for_cancels(1)
    assert bench.sent_again() == []


def test_a_request_that_a_process_has_inherited_says_nothing(bench: Bench) -> None:
    with in_worker("mine", runtimeuse_process=os.getppid(), terminated=True):
        bench.fake.expect("4")
        assert bench.execute(bench.task(ask), task_id="mine").get() == "4"


def limited(bench: Bench, clock: Clock, task: Any, **request: Any) -> Any:
    def reply(_: Any) -> Any:
        clock.now += 5
        return HANG

    bench.fake.expect(reply)
    with in_worker("mine"):
        return bench.execute(task, task_id="mine", **request).result


def test_a_soft_time_limit_in_a_thread(bench: Bench, clock: Clock) -> None:
    assert isinstance(limited(bench, clock, bench.task(ask), timelimit=[None, 5]), SoftTimeLimitExceeded)
    bench.wait_for_cancels(1)


def test_a_hard_time_limit_in_a_thread(bench: Bench, clock: Clock) -> None:
    error = limited(bench, clock, bench.task(ask, soft_time_limit=9, time_limit=5))
    assert isinstance(error, TimeLimitExceeded)
    bench.wait_for_cancels(1)


def test_after_the_soft_time_limit_a_task_may_clean_up(bench: Bench, clock: Clock) -> None:
    def use(self: Any) -> str:
        try:
            return ask(self)
        except SoftTimeLimitExceeded:
            self.client.execute_commands("rm")
            raise

    def reply(_: Any) -> Any:
        clock.now += 5
        return HANG

    bench.fake.expect(reply)
    bench.fake.expect(command_results("removed"))
    with in_worker("mine"):
        result = bench.execute(bench.task(use, soft_time_limit=5), task_id="mine").result
    assert isinstance(result, SoftTimeLimitExceeded)
    assert len(bench.fake.requests) == 2


def test_a_soft_time_limit_reaches_all_runs_that_are_in_flight(bench: Bench, clock: Clock) -> None:
    def both(self: Any) -> None:
        runs = [self.client.submit("hi", cancel_poll_interval=0.01) for _ in range(2)]
        began.wait()
        clock.now += 5
        raised.extend(type(run.exception(timeout=30)) for run in runs)
        assert self.client.query("hi").text == "cleaned up"
        runs[0].result()

    began = threading.Barrier(3, timeout=30)
    raised: List[Any] = []

    def reply(_: Any) -> Any:
        began.wait()
        return HANG

    bench.fake.expect(reply)
    bench.fake.expect(reply)
    bench.fake.expect("cleaned up")
    with in_worker("mine"):
        result = bench.execute(bench.task(both, soft_time_limit=5), task_id="mine").result
    assert raised == [SoftTimeLimitExceeded, SoftTimeLimitExceeded]
    assert isinstance(result, SoftTimeLimitExceeded)
    bench.wait_for_cancels(2)


def test_a_caller_who_asks_seldom_does_not_keep_the_limits_from_being_asked_for(bench: Bench, clock: Clock) -> None:
    def use(self: Any) -> None:
        self.client.query("hi", cancel_when=lambda: asked.append(1), cancel_poll_interval=3600)

    asked: List[int] = []
    error = limited(bench, clock, bench.task(use), timelimit=[5, None])
    assert isinstance(error, TimeLimitExceeded)
    assert asked == [1]


def test_limits_that_the_pool_keeps_are_left_to_it(bench: Bench, clock: Clock) -> None:
    def reply(_: Any) -> Any:
        clock.now += 5
        return text_result("4")

    bench.fake.expect(reply)
    assert bench.execute(bench.task(ask, soft_time_limit=5)).get() == "4"
