"""Many runs in threads: outcomes as they come, failures, journals, progress, bad arguments."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    CommandFailedError,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeConnectionError,
    RuntimeUseClient,
)
from runtimeuse_sync.batch import Job, JournalError, Outcome, run_many
from runtimeuse_sync.batch._journal import Journal

from ...support.servers import PATIENCE
from .talking import Talking, client, how, runtime

__all__ = ["client", "how", "runtime"]


def texts(outcomes: List[Outcome]) -> List[str]:
    return sorted(str(each.result) for each in outcomes)


def test_each_job_has_its_outcome(client: RuntimeUseClient, how: Any) -> None:
    jobs: List[Any] = [Job(f"job {number}", id=str(number)) for number in range(20)]
    jobs += [Job("fail", id="f"), "a string", Job(commands=["exit 3"], id="c")]
    outcomes = list(run_many(jobs, client=client, **how))
    by_id = {outcome.job.id: outcome for outcome in outcomes}
    assert len(outcomes) == 23
    for number in range(20):
        outcome = by_id[str(number)]
        assert (str(outcome.result), outcome.error, outcome.ok) == (f"job {number}", None, True)
        assert 0 < outcome.seconds < PATIENCE
        assert not outcome.from_journal
    assert isinstance(by_id["f"].error, AgentRuntimeError)
    assert (by_id["f"].result, by_id["f"].ok) == (None, False)
    assert isinstance(by_id["c"].error, CommandFailedError)
    assert str(by_id[None].result) == "a string"


def test_outcomes_come_as_they_complete(runtime: Talking, client: RuntimeUseClient, how: Any) -> None:
    outcomes = run_many(["wait", "quick"], client=client, **how)
    assert str(next(outcomes).result) == "quick"
    runtime.let.set()
    assert texts(list(outcomes)) == ["wait"]


def test_options_and_their_callbacks(runtime: Talking, client: RuntimeUseClient, how: Any) -> None:
    heard: List[Any] = []
    jobs = [
        Job("p", options=QueryOptions(model="another", on_heartbeat=heard.append)),
        Job(commands=["exit 3"], options=ExecuteCommandsOptions(check=False)),
    ]
    assert [outcome.ok for outcome in run_many(jobs, client=client, **how)] == [True, True]
    assert "another" in [request.get("model") for request in runtime.requests]


def test_a_job_that_the_client_refuses(runtime: Talking, how: Any) -> None:
    """Such as one without a model: it is that job's error."""
    client = RuntimeUseClient(transport=runtime)
    jobs = [Job("p"), Job("q", options=QueryOptions(model="m"))]
    by_prompt = {outcome.job.prompt: outcome for outcome in run_many(jobs, client=client, **how)}
    assert by_prompt["q"].ok
    with pytest.raises(ValueError, match="model is not set"):
        raise by_prompt["p"].error or AssertionError


def test_no_thread_for_a_job(client: RuntimeUseClient, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    refused: List[str] = []

    def refuse_the_first(thread: threading.Thread) -> None:
        if thread.name.startswith("runtimeuse-submit") and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_first)
    outcomes = list(run_many(["one", "two"], client=client))
    assert [type(outcome.error) for outcome in outcomes if not outcome.ok] == [RuntimeConnectionError]
    assert len(outcomes) == 2


# How far it looks ahead.


def endless(taken: List[int]) -> Iterator[Job]:
    while True:
        taken.append(len(taken))
        yield Job(f"job {len(taken)}")


def test_jobs_may_be_endless(client: RuntimeUseClient, how: Any) -> None:
    taken: List[int] = []
    outcomes = run_many(endless(taken), client=client, max_workers=3, **how)
    assert taken == [], "nothing runs before an outcome is asked for"
    for count in range(1, 50):
        assert next(outcomes).ok
        # Those that are yielded, ready or in flight.
        assert len(taken) <= count + 3 + 3
    outcomes.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_than_so_many_are_in_flight(runtime: Talking, client: RuntimeUseClient, how: Any, workers: int) -> None:
    outcomes = run_many((f"wait {number}" for number in range(9)), client=client, max_workers=workers, **how)
    first: List[Outcome] = []
    consumer = threading.Thread(target=lambda: first.append(next(outcomes)))
    consumer.start()
    runtime.until_arrived(workers)
    assert not runtime.arrived.acquire(timeout=0.2)
    runtime.let.set()
    consumer.join()
    assert len(list(outcomes)) == 8


# What goes wrong on the way.


def test_an_iterable_that_raises(runtime: Talking, client: RuntimeUseClient, how: Any, tmp_path: Path) -> None:
    """What is in flight is finished, yielded and recorded; then the exception comes out."""

    def jobs() -> Iterator[str]:
        yield "wait 1"
        yield "wait 2"
        runtime.let.set()
        raise LookupError("no more")

    path = tmp_path / "runs.jsonl"
    seen: List[Outcome] = []
    with pytest.raises(LookupError, match="no more"):
        seen.extend(run_many(jobs(), client=client, journal=path, **how))
    assert texts(seen) == ["wait 1", "wait 2"]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("item", "kind", "said"),
    [
        (3, TypeError, "an item of jobs must be a Job or a str"),
        (Job("x", id="1"), ValueError, "two jobs have the id '1'"),
    ],
)
def test_an_item_that_is_no_job(client: RuntimeUseClient, item: Any, kind: Any, said: str, how: Any) -> None:
    seen: List[Outcome] = []
    with pytest.raises(kind, match=said):
        seen.extend(run_many([Job("p", id="1"), Job("q", id="2"), item, "never"], client=client, **how))
    assert texts(seen) == ["p", "q"]


def test_a_progress_callable_that_raises(client: RuntimeUseClient, how: Any) -> None:
    def progress(done: int, total: Optional[int]) -> None:
        raise LookupError(f"{done} of {total}")

    seen: List[Outcome] = []
    with pytest.raises(LookupError, match="1 of 30"):
        seen.extend(run_many([str(number) for number in range(30)], client=client, progress=progress, **how))
    assert 1 <= len(seen) <= 16


def test_an_executor_that_accepts_nothing(client: RuntimeUseClient) -> None:
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match=r"accepts no more jobs: cannot schedule .*; the job 'x' and those"):
        list(run_many([Job("p", id="x")], client=client, executor=executor))


def test_a_journal_that_cannot_be_written(
    client: RuntimeUseClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "record", full)
    seen: List[Outcome] = []
    with pytest.raises(OSError, match="No space left"):
        seen.extend(run_many(endless([]), client=client, journal=tmp_path / "runs.jsonl", max_workers=2, **how))
    assert seen
    assert all(outcome.ok for outcome in seen)


# The journal.


def test_results_in_the_journal_are_not_run_again(
    runtime: Talking, client: RuntimeUseClient, tmp_path: Path, how: Any
) -> None:
    path = tmp_path / "runs.jsonl"
    jobs: List[Any] = ["a", "b", "a", Job("c", id="c"), "fail"]
    assert len(list(run_many(jobs, client=client, journal=str(path), **how))) == 5
    ran = len(runtime.requests)
    outcomes = list(run_many([*jobs, "d"], client=client, journal=path, **how))
    assert len(outcomes) == 6
    assert sorted(str(each.result) for each in outcomes if each.from_journal) == ["a", "a", "b", "c"]
    # Failed jobs are run again.
    assert sorted(str(request["user_prompt"]) for request in runtime.requests[ran:]) == ["d", "fail"]
    assert all(outcome.seconds > 0 for outcome in outcomes)


def test_a_journal_of_other_jobs(client: RuntimeUseClient, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    list(run_many(["a", Job("b", id="b")], client=client, journal=path))
    before = path.read_bytes()
    with pytest.raises(JournalError, match="of none of these 2 jobs: it belongs to other jobs"):
        list(run_many(["c", "d"], client=client, journal=path))
    with pytest.raises(JournalError, match="the job with the id 'b' had another content"):
        list(run_many(["a", Job("other", id="b")], client=client, journal=path))
    assert path.read_bytes() == before


def test_a_journal_that_is_in_use(runtime: Talking, client: RuntimeUseClient, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    first = run_many(["quick", "hang"], client=client, journal=path)
    next(first)
    with pytest.raises(JournalError, match="is in use"):
        next(run_many(["quick"], client=client, journal=path))
    first.close()


def test_it_runs_without_a_journal_what_it_may_not_identify(client: RuntimeUseClient) -> None:
    assert len(list(run_many(["a"] * 20, client=client))) == 20


# Progress.


def test_progress(client: RuntimeUseClient, how: Any) -> None:
    calls: List[Any] = []

    def progress(done: int, total: Optional[int]) -> None:
        calls.append((done, total, threading.current_thread()))

    list(run_many(["a", "fail"], client=client, progress=progress, **how))
    list(run_many(iter(["a", "b"]), client=client, progress=progress, **how))
    here = threading.current_thread()
    assert calls == [(1, 2, here), (2, 2, here), (1, None, here), (2, None, here)]


def test_the_bar(client: RuntimeUseClient, capsys: pytest.CaptureFixture[str]) -> None:
    list(run_many(["a", "b", "fail"], client=client, progress=True))
    shown = capsys.readouterr()
    assert "3/3" in shown.err
    assert "failed=1" in shown.err
    assert shown.out == ""


def test_tqdm_is_missing(client: RuntimeUseClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install 'runtimeuse-sync\[progress\]'"):
        run_many(["a"], client=client, progress=True)
    assert len(list(run_many(["a"], client=client, progress=False))) == 1


# Arguments.


def test_connect(runtime: Talking, client: RuntimeUseClient, how: Any) -> None:
    made: List[RuntimeUseClient] = []

    def connect() -> RuntimeUseClient:
        made.append(client)
        return client

    assert len(list(run_many(["a", "b"], connect=connect, **how))) == 2
    assert len(made) == 1
    assert len(list(run_many(["a"], connect={"transport": runtime, "model": "m"}, **how))) == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({}, ValueError, "either client or connect must be given"),
        ({"client": 0, "connect": "ws://h"}, ValueError, "either client or connect"),
        ({"client": "ws://h"}, TypeError, "client must be a RuntimeUseClient"),
        ({"connect": 3}, TypeError, "connect must be a URL, a dict"),
        ({"connect": "ftp://h"}, ValueError, "connect must begin with ws://"),
        ({"connect": {"modle": "m"}}, (TypeError, ValueError), "modle|ws_url"),
        ({"connect": lambda: 3}, TypeError, "connect must return a RuntimeUseClient, not int"),
        ({"connect": "ws://h", "executor": 3}, TypeError, "executor must be a concurrent.futures.Executor"),
        ({"connect": "ws://h", "max_workers": 0}, ValueError, "max_workers must be 1 or more"),
        ({"connect": "ws://h", "max_workers": 1.5}, TypeError, "max_workers must be a number"),
        ({"connect": "ws://h", "max_workers": True}, TypeError, "max_workers must be a number"),
        ({"connect": "ws://h", "progress": 3}, TypeError, "progress must be callable"),
        ({"connect": "ws://h", "journal": 3}, TypeError, "journal must be a path"),
        ({"connect": "ws://h", "journal": ""}, ValueError, "journal must not be empty"),
        ({"connect": "ws://h", "jobs": "ab"}, TypeError, "not a single str"),
        ({"connect": "ws://h", "jobs": Job("a")}, TypeError, "not a single Job"),
        ({"connect": "ws://h", "jobs": 3}, TypeError, "jobs must be an iterable of jobs, not int"),
    ],
)
def test_bad_arguments(arguments: Dict[str, Any], kind: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIMEUSE_WS_URL", raising=False)
    jobs = arguments.pop("jobs", ["a"])
    with pytest.raises(kind, match=said):
        run_many(jobs, **arguments)
