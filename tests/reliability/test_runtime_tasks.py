"""`RuntimeTask` in Celery's pools, with a real worker and a real Redis: what ends a task, and what it leaves.

What must hold: a task that is aborted, revoked, out of time, or whose worker is killed leaves no process in the
runtime, and the worker's next tasks are right; results, errors and progress arrive as they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import psutil
import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    CancelledException,
    CommandExecutionResult,
    QueryResult,
    RuntimeConnectionError,
    RuntimeUseError,
    TextResult,
)

from ..support.builders import client_of
from ..support.packages import needs
from ..support.processes import CHILD_LIMIT, end, killed_in_the_end, wait_until_ended
from ..support.tally import FULL, Tally, seeded, tries
from ..test_examples import CELERY_APP_PRINTS, EXAMPLES
from .celery_bench import PATIENCE, Bench, benches, shown
from .redis_server import needs_redis

pytestmark = [
    needs("celery", "redis"),
    needs_redis(),
    pytest.mark.timeout(1200 if FULL else 600),
    # Celery's own use of Redis, where this process stores that a task is aborted.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
    pytest.mark.skipif(sys.version_info < (3, 13) and not FULL, reason="workers: on the newest interpreter only"),
]

POOLS = ["prefork", "threads", "solo", pytest.param("gevent", marks=needs("gevent"))]

#: What ends a task from outside. A worker of the pool solo does not listen while a task runs.
SIGNALS = {"prefork": ["SIGTERM", "SIGKILL"], "gevent": ["SIGTERM"], "threads": ["SIGTERM"], "solo": []}

#: What an endless task may wait in.
ENDLESS = ["commands", "query", "session"]

APPLICATION = "runtime_tasks"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with benches(tmp_path) as bench:
        yield bench


def result_of(bench: Bench, task: Any) -> Any:
    """Returns what a task's sender would hold: a result that can abort it."""
    from runtimeuse_sync.celery import RuntimeResult

    return RuntimeResult(task.id, app=bench.app)


def results_and_errors(bench: Bench, tally: Tally, pool: str) -> None:
    from runtimeuse_sync.celery import result_from_json

    from .celery_parts import FAILURES

    fault = f"celery: RuntimeTask in the pool {pool}"
    for number in range(tries(1, 10)):
        tally.tried(fault)
        answer, done = bench.send("whole query", number), bench.send("commands", number)
        failed = {how: bench.send("fail", how) for how in FAILURES}
        assert result_from_json(bench.outcome(answer)) == QueryResult(TextResult(f"answer {number}\n"), {})
        got = result_from_json(bench.outcome(done))
        assert isinstance(got, CommandExecutionResult)
        assert [(each.stdout, each.stderr) for each in got.results] == [
            (f"first {number}\n", None),
            (None, f"second {number}\n"),
        ]
        for how, task in failed.items():
            with pytest.raises(RuntimeUseError) as caught:
                FAILURES[how](client_of(bench.runtime))
            assert shown(bench.outcome(task)) == shown(caught.value), how
        tally.survived(fault)


def one_client(bench: Bench, pool: str) -> None:
    """Each process of the worker has made one, after the fork."""
    told = [bench.outcome(task) for task in [bench.send("client") for _ in range(12)]]
    clients: Dict[int, Set[int]] = {}
    for process, client in told:
        clients.setdefault(process, set()).add(client)
    assert all(len(each) == 1 for each in clients.values()), clients
    if pool != "prefork":
        assert len(clients) == 1


def retried(bench: Bench) -> None:
    """Only where nothing was sent."""
    tried, sent = bench.send("not there"), bench.send("fails once sent")
    assert type(bench.outcome(tried)) is RuntimeConnectionError
    assert type(bench.outcome(sent)) is AgentRuntimeError
    assert bench.store.llen(f"tried {tried.id}") == 3
    assert bench.store.llen(f"tried {sent.id}") == 1


def aborted(bench: Bench, tally: Tally, pool: str) -> None:
    fault = f"celery: aborted, {pool}"
    chance = seeded(fault)
    for how in chance.choices(ENDLESS, k=tries(1, 12)):
        tally.tried(fault)
        task = bench.send("endless", how)
        processes = bench.processes_of(task)
        result_of(bench, task).abort()
        assert isinstance(bench.outcome(task), CancelledException)
        wait_until_ended(*processes)
        tally.survived(fault)
    bench.check_next()


def aborted_before(bench: Bench, tally: Tally, pool: str) -> None:
    """While it waits for the worker, or just when it begins."""
    fault = f"celery: aborted before it begins, {pool}"
    for _ in range(tries(1, 12)):
        tally.tried(fault)
        task = bench.send("endless", "commands")
        result_of(bench, task).abort()
        assert isinstance(bench.outcome(task), CancelledException)
        wait_until_ended(*bench.told_by(task))
        tally.survived(fault)


def revoked(bench: Bench, tally: Tally, pool: str, signal: str) -> None:
    """A task beside it goes on."""
    fault = f"celery: RuntimeTask revoked, {pool} by {signal}"
    chance = seeded(fault)
    for _ in range(tries(1, 12)):
        tally.tried(fault)
        task, beside = bench.send("endless", chance.choice(ENDLESS)), bench.send("endless", chance.choice(ENDLESS))
        processes, others = bench.processes_of(task), bench.processes_of(beside)
        bench.app.control.revoke(task.id, terminate=True, signal=signal)
        assert type(bench.outcome(task)).__name__ == "TaskRevokedError"
        wait_until_ended(*processes)
        assert all(psutil.pid_exists(each) for each in others)
        # Without `terminate` it goes on: only a task that has not begun is discarded then.
        bench.app.control.revoke(beside.id)
        result_of(bench, beside).abort()
        assert isinstance(bench.outcome(beside), CancelledException)
        wait_until_ended(*others)
        bench.check_next()
        assert bench.app.backend.get_state(task.id) == "REVOKED"
        tally.survived(fault)


def limits(bench: Bench, tally: Tally, pool: str) -> None:
    for option, error in [("soft_time_limit", "SoftTimeLimitExceeded"), ("time_limit", "TimeLimitExceeded")]:
        fault = f"celery: RuntimeTask's {option}, {pool}"
        chance = seeded(fault)
        for _ in range(tries(1, 8)):
            tally.tried(fault)
            task = bench.send("endless", chance.choice(ENDLESS), **{option: 1 if pool == "prefork" else 1.0})
            assert type(bench.outcome(task)).__name__ == error
            wait_until_ended(*bench.told_by(task))
            tally.survived(fault)
    bench.check_next()


def progress(bench: Bench) -> None:
    """A sender sees that a task has begun, what has come so far, and that its time goes on."""
    channel = bench.store.pubsub(ignore_subscribe_messages=True)
    channel.subscribe("celery-task-meta-progress")
    task = bench.send("endless", "query", task_id="progress")
    seen: List[Any] = []
    for message in channel.listen():
        state = json.loads(message["data"])
        assert state["status"] == "PROGRESS", (state, bench.log())
        seen.append(state["result"])
        if seen[-1]["messages"] and seen[-1]["elapsed"] > 1:
            break
    channel.close()
    assert (seen[0]["messages"], seen[0]["latest"]) == (0, None)
    processes = bench.processes_of(task)
    assert seen[-1]["latest"].split() == [str(each) for each in processes]
    assert bench.app.AsyncResult(task.id).state == "PROGRESS"
    result_of(bench, task).abort()
    assert isinstance(bench.outcome(task), CancelledException)
    wait_until_ended(*processes)


def fifty_prompts(bench: Bench) -> None:
    import celery

    prompts = [bench.app.signature("query", args=(number,)) for number in range(50)]
    gathered = celery.chord(prompts, app=bench.app)(bench.app.signature("gather", app=bench.app))
    bench.sent.append(gathered)
    assert bench.outcome(gathered) == {"count": 50, "answers": [f"answer {number}\n" for number in range(50)]}
    for each in gathered.parent.results:
        bench.app.backend.remove_pending_result(each)


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool(bench: Bench, tally: Tally, pool: str) -> None:
    """One worker for all of it: what comes before must not harm what comes after."""
    worker = bench.start_worker(pool, APPLICATION)
    results_and_errors(bench, tally, pool)
    one_client(bench, pool)
    retried(bench)
    progress(bench)
    aborted(bench, tally, pool)
    aborted_before(bench, tally, pool)
    for signal in SIGNALS[pool]:
        revoked(bench, tally, pool, signal)
    limits(bench, tally, pool)
    if FULL or pool == "prefork":
        fifty_prompts(bench)
    killed(bench, tally, pool, worker)


def test_the_example_with_a_real_worker(bench: Bench, tmp_path: Path) -> None:
    environment = {**os.environ, "REDIS_URL": bench.broker, "RUNTIMEUSE_WS_URL": bench.runtime.ws_url}
    environment.update(PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=f"{EXAMPLES}{os.pathsep}{EXAMPLES.parent}")
    worker = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--pool", "threads", "--concurrency", "10"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            worker, cwd=str(tmp_path), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    with killed_in_the_end(process):
        # What is sent before the worker is there waits for it.
        ran = subprocess.run(
            [sys.executable, "-m", "celery_app"],
            cwd=str(tmp_path),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHILD_LIMIT,
        )
        assert (ran.returncode, ran.stdout.decode().splitlines()) == (0, CELERY_APP_PRINTS), ran.stderr.decode()
        end(process)
    said = (tmp_path / "worker.log").read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in said, said


def killed(bench: Bench, tally: Tally, pool: str, worker: Any) -> None:
    """The worker alone: processes of its pool live on, and have to notice."""
    fault = f"celery: the worker is killed, {pool}"
    tally.tried(fault)
    tasks = [bench.send("endless", how) for how in (ENDLESS[:1] if pool == "solo" else ENDLESS)]
    processes = [each for task in tasks for each in bench.processes_of(task)]
    children = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    worker.wait(PATIENCE)
    wait_until_ended(*processes)
    assert not psutil.wait_procs(children, PATIENCE)[1]
    tally.survived(fault)
