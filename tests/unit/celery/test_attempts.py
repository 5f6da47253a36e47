"""What a run in a task asks and tells: abort, progress, attempts; and a result backend that fails."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import types
from typing import Any, Dict, Iterator, List

import pytest
from celery import states
from celery.app.trace import build_tracer
from celery.contrib.abortable import ABORTED, AbortableAsyncResult
from celery.exceptions import Ignore, SoftTimeLimitExceeded

from runtimeuse_sync import CancelledException, RuntimeConnectionError
from runtimeuse_sync.celery import _attempt
from runtimeuse_sync.testing import HANG, assistant_message, command_output, text_result

from .bench import Bench, Clock, ask


def stored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """Returns the list that the states that tasks store will be added to."""
    found: List[Any] = []
    backend = bench.app.backend
    store = backend.store_result

    def note(task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        found.append((state, result))
        return store(task_id, result, state, *args, **kwargs)

    monkeypatch.setattr(backend, "store_result", note)
    return found


# Abort.


def test_a_task_that_is_aborted_cancels_its_run(bench: Bench) -> None:
    task = bench.task(ask, abort_poll_interval=0.05)

    def reply(_: Any) -> Any:
        task.AsyncResult("mine").abort()
        return HANG

    bench.fake.expect(reply)
    result = bench.execute(task, task_id="mine")
    assert result.state == states.FAILURE
    with pytest.raises(CancelledException, match=r"^Query was cancelled: the task was aborted$"):
        result.get()
    bench.wait_for_cancels(1)


def test_what_celery_itself_offers_to_abort_with(bench: Bench) -> None:
    task = bench.task(ask, abort_poll_interval=0.05)

    def reply(_: Any) -> Any:
        AbortableAsyncResult("mine", app=bench.app).abort()
        return HANG

    bench.fake.expect(reply)
    assert isinstance(bench.execute(task, task_id="mine").result, CancelledException)


@pytest.mark.parametrize("tracked", [False, True])
def test_a_task_that_is_aborted_before_it_begins_sends_nothing(bench: Bench, *, tracked: bool) -> None:
    """Also if Celery has stored since then that it has started."""
    task = bench.task(ask, track_started=tracked)
    task.AsyncResult("mine").abort()
    assert isinstance(bench.execute(task, task_id="mine").result, CancelledException)
    assert bench.fake.requests == []


def test_abort_has_no_effect_on_a_task_that_has_ended(bench: Bench) -> None:
    bench.fake.expect("4")
    result = bench.execute(bench.task(ask))
    result.abort()
    assert (result.state, result.get()) == (states.SUCCESS, "4")


def test_a_session_and_its_files_are_cancelled_too(bench: Bench) -> None:
    def use(self: Any) -> None:
        with self.client.session() as session:
            session.query("first", cancel_poll_interval=0.01)
            session.execute_commands("second", cancel_poll_interval=0.01)

    task = bench.task(use, abort_poll_interval=0.05)
    bench.fake.expect("4")

    def reply(_: Any) -> Any:
        task.AsyncResult("mine").abort()
        return HANG

    bench.fake.expect(reply)
    assert isinstance(bench.execute(task, task_id="mine").result, CancelledException)


def test_a_task_that_is_called_directly_is_cancelled_with_the_one_around_it(bench: Bench) -> None:
    inner = bench.task(ask)

    def around(_: Any) -> None:
        inner()

    outer = bench.task(around, abort_poll_interval=0.05)

    def reply(_: Any) -> Any:
        outer.AsyncResult("mine").abort()
        return HANG

    bench.fake.expect(reply)
    error = bench.execute(outer, task_id="mine").result
    assert (type(error), str(error)) == (CancelledException, "Query was cancelled: the task was aborted")


def test_a_cancel_when_of_the_callers_own_is_asked_as_well(bench: Bench) -> None:
    def use(self: Any) -> None:
        self.client.query("hi", cancel_when=lambda: True)

    error = bench.execute(bench.task(use)).result
    assert (type(error), str(error)) == (CancelledException, "Query was cancelled by cancel_when")
    assert bench.fake.requests == []


def test_a_process_of_a_pool_whose_worker_is_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed, so its processes belong to another one now."""
    process = types.SimpleNamespace(name="ForkPoolWorker-1")
    monkeypatch.setattr(_attempt, "current_process", lambda: process)
    bench.fake.expect("4")
    assert bench.execute(bench.task(ask)).get() == "4"

    def reply(_: Any) -> Any:
        monkeypatch.setattr(os, "getppid", lambda: 1)
        return HANG

    bench.fake.expect(reply)
    with pytest.raises(CancelledException, match=r"^Query was cancelled: the worker of this process is gone$"):
        bench.execute(bench.task(ask)).get()
    bench.wait_for_cancels(1)


def test_a_task_that_was_aborted_is_not_retried(bench: Bench) -> None:
    task = bench.task(ask, repeatable=True, autoretry_for=(Exception,))
    task.AsyncResult("mine").abort()
    assert bench.execute(task, task_id="mine").state == states.FAILURE
    assert bench.sent_again() == []


# Progress.


def test_progress_is_stored_when_the_task_begins_and_then_at_intervals(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    found = stored(bench, monkeypatch)

    def reply(_: Any) -> Iterator[Any]:
        yield assistant_message("one")
        yield assistant_message("x" * 1000 + "two")
        yield command_output("out")
        yield assistant_message("last")

    def use(self: Any) -> str:
        seen = []

        def on_message(message: Any) -> None:
            seen.append(message.text)
            clock.now += 0.6

        with self.client.stream("hi", on_assistant_message=on_message, cancel_poll_interval=1e-9) as run:
            for _ in run:
                pass
            assert seen[0] == "one"
            text: str = run.result.text
            return text

    bench.fake.expect(lambda request: [*reply(request), *text_result("4")])
    assert bench.execute(bench.task(use)).get() == "4"
    shown = [meta for state, meta in found if state == "PROGRESS"]
    assert shown[0] == {"messages": 0, "elapsed": 0.0, "latest": None}
    assert shown[1:] == [{"messages": 2, "elapsed": 1.2, "latest": "x" * 497 + "two"}]


def test_progress_goes_on_while_nothing_comes(bench: Bench, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    found = stored(bench, monkeypatch)

    def use(self: Any) -> None:
        asked = []

        def own() -> bool:
            asked.append(True)
            clock.now += 0.5
            return len(asked) == 5

        self.client.query("hi", cancel_when=own, cancel_poll_interval=1e-6)

    bench.fake.expect(HANG)
    bench.execute(bench.task(use))
    assert [meta["elapsed"] for state, meta in found if state == "PROGRESS"] == [0.0, 1.0, 2.0]


def test_a_task_says_itself_what_its_progress_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found = stored(bench, monkeypatch)
    bench.fake.expect("4")

    def shown(_: Any, messages: int, elapsed: float, latest: Any) -> Dict[str, Any]:
        return {"so far": messages}

    assert bench.execute(bench.task(ask, progress_meta=shown)).get() == "4"
    assert ("PROGRESS", {"so far": 0}) in found


@pytest.mark.parametrize("options", [{"progress_interval": None}, {"ignore_result": True}])
def test_no_progress(bench: Bench, monkeypatch: pytest.MonkeyPatch, options: Dict[str, Any]) -> None:
    found = stored(bench, monkeypatch)
    bench.fake.expect("4")
    bench.execute(bench.task(ask, **options))
    assert "PROGRESS" not in [state for state, _ in found]


def test_no_progress_of_a_task_that_has_an_outcome(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that is revoked, whose process has not ended yet."""
    bench.app.backend.mark_as_revoked("mine", "revoked")
    found = stored(bench, monkeypatch)
    bench.fake.expect("4")
    bench.execute(bench.task(ask), task_id="mine")
    assert "PROGRESS" not in [state for state, _ in found]


def test_progress_that_takes_the_place_of_an_abort(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The abort comes just before the progress is stored."""
    backend = bench.app.backend
    store = backend.store_result
    task = bench.task(ask)

    def abort_first(task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        if state == "PROGRESS":
            monkeypatch.setattr(backend, "store_result", store)
            task.AsyncResult("mine").abort()
            assert backend.get_state("mine") == ABORTED
        return store(task_id, result, state, *args, **kwargs)

    monkeypatch.setattr(backend, "store_result", abort_first)
    assert isinstance(bench.execute(task, task_id="mine").result, CancelledException)
    assert bench.fake.requests == []


# A result backend that fails.


def test_a_result_backend_that_fails_does_not_end_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def fail(_: str) -> str:
        asked.append(clock.now)
        raise ConnectionError("secret")

    monkeypatch.setattr(bench.app.backend, "get_state", fail)

    def use(self: Any) -> str:
        def later(_: Any) -> None:
            clock.now += 6

        text: str = self.client.query("hi", on_assistant_message=later, cancel_poll_interval=1e-9).text
        return text

    bench.fake.expect([*[assistant_message("x")] * 5, *text_result("4")])
    with caplog.at_level(logging.WARNING, "runtimeuse_sync.celery"):
        bench.execute(bench.task(use), task_id="mine")
    monkeypatch.undo()
    assert bench.app.AsyncResult("mine").get() == "4"
    # Left alone for ten seconds each time.
    assert asked == [1000.0, 1012.0, 1024.0]
    said = [record.getMessage() for record in caplog.records if record.name == "runtimeuse_sync.celery"]
    assert len(said) == 3
    assert all("the result backend failed" in each and "secret" not in each for each in said)


def test_a_soft_time_limit_that_hits_the_result_backend(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def hit(_: str) -> str:
        raise SoftTimeLimitExceeded

    def use(self: Any) -> str:
        monkeypatch.setattr(bench.app.backend, "get_state", hit)
        try:
            return ask(self)
        finally:
            monkeypatch.undo()

    assert type(bench.execute(bench.task(use)).result).__name__ == "SoftTimeLimitExceeded"


@pytest.mark.parametrize("url", ["disabled://", "rpc://"])
def test_without_a_result_backend_that_can_be_asked(bench: Bench, url: str) -> None:
    bench.app.conf.result_backend = url
    answers: List[str] = []

    def use(self: Any) -> None:
        answers.append(ask(self))

    task = bench.task(use)
    assert task.backend.as_uri().rstrip("/") in ("disabled:", "rpc:")
    bench.fake.answer_all(lambda _: text_result("4"))
    task.apply()
    build_tracer(task.name, task, app=bench.app)("any", [], {}, {"id": "any", "ignore_result": True})
    assert answers == ["4", "4"]


# Attempts.


@pytest.mark.parametrize("ending", ["returns", "fails"])
def test_what_a_task_leaves_behind_is_cancelled(bench: Bench, ending: str) -> None:
    def use(self: Any) -> None:
        left.append(self.client.submit("hi", cancel_poll_interval=3600))
        began.wait()
        if ending == "fails":
            raise LookupError("no")

    left: List[Any] = []
    began = threading.Barrier(2, timeout=30)

    def reply(_: Any) -> Any:
        began.wait()
        return HANG

    bench.fake.expect(reply)
    bench.execute(bench.task(use))
    assert isinstance(left[0].exception(timeout=30), CancelledException)
    bench.wait_for_cancels(1)


def test_a_run_that_asks_after_its_task_has_ended_is_cancelled(bench: Bench) -> None:
    def use(_: Any) -> None:
        contexts.append(contextvars.copy_context())

    contexts: List[Any] = []
    task = bench.task(use)

    bench.execute(task)
    attempt = contexts[0][_attempt._current]
    assert attempt.ask(0.0)


def test_a_run_that_a_directly_called_task_returns_goes_on(bench: Bench) -> None:
    def begin(self: Any) -> Any:
        return self.client.submit("hi")

    def use(_: Any) -> str:
        text: str = inner().result(timeout=30).text
        return text

    inner = bench.task(begin)
    bench.fake.expect("4")
    bench.fake.expect("5")
    assert bench.execute(bench.task(use)).get() == "4"
    assert inner().result(timeout=30).text == "5"


def test_outside_of_tasks_there_is_none(bench: Bench) -> None:
    task = bench.task(ask)
    bench.fake.expect("4")
    assert task.client.query("hi").text == "4"
    assert _attempt.current_attempt() is None


def test_an_attempt_that_an_interrupt_kept_from_being_left_is_nobodys(bench: Bench) -> None:
    """As if the interrupt had come just before the last step."""
    inside: List[Any] = []

    def fail(_: Any) -> None:
        inside.append(_attempt.current_attempt())
        raise RuntimeConnectionError("no")

    task = bench.task(fail)
    bench.execute(task)
    inside[0].left, inside[0].cancelled = False, True
    _attempt._current.set(inside[0])
    bench.fake.expect("4")
    assert bench.execute(bench.task(ask)).get() == "4"
    assert _attempt.current_attempt() is None


def test_a_revoked_task_ends_with_ignore(bench: Bench) -> None:
    """Celery has announced its end already."""

    def use(self: Any) -> None:
        _attempt.current_attempt().revoked = True  # type: ignore[union-attr]
        raise CancelledException("cancelled")

    task = bench.task(use, ignore_result=True)
    with pytest.raises(Ignore):
        task()
