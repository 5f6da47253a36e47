"""Celery's pools, with a real worker and a real Redis: answers, errors, tasks that are revoked or take too long.

What must hold: each task gets its own answer; an error that went through the JSON of a result backend is what it was;
of a task that was ended, whichever way, no process is left in the runtime, and the worker's next tasks are right.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import psutil
import pytest

from runtimeuse_sync import RuntimeUseError
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, client_of, text, upload
from ..support.fixtures import QUICK
from ..support.packages import needs
from ..support.processes import wait_until_ended
from ..support.servers import Peer, PeerGone
from ..support.tally import FULL, Tally, seeded, tries
from .redis_server import needs_redis, redis_server

pytestmark = [needs("celery", "redis"), needs_redis(), pytest.mark.timeout(1200 if FULL else 600)]

#: For what must come in the end; only a failure waits for it.
PATIENCE = 90

POOLS = ["prefork", "threads", "solo", pytest.param("gevent", marks=needs("gevent"))]

#: What ends a task from outside, in the pools that can: the others say that they cannot.
SIGNALS = {"prefork": ["SIGTERM", "SIGKILL"], "gevent": ["SIGTERM"], "threads": [], "solo": []}
HARD_LIMITS = ["prefork", "gevent"]
SOFT_LIMITS = ["prefork"]

#: What an endless task may wait in.
ENDLESS = ["commands", "query", "session"]

#: Where else a soft time limit finds a task.
HELD_UP = ["connecting", "the end", "the end after an error", "an upload", "after an upload"]

ROOT = Path(__file__).resolve().parents[2]


class Bench:
    """A Redis, a runtime and workers, and what tasks have come to.

    Attributes:
        runtime: What the tasks talk to.
        app: What sends tasks, and knows what has come of them.
    """

    def __init__(self, broker: str, runtime: LocalRuntime, stack: contextlib.ExitStack, directory: Path) -> None:
        import redis

        from .celery_app import make_app

        self.runtime = runtime
        self._broker = broker
        self._stack = stack
        self._log = directory / "worker.log"
        self._store = stack.enter_context(redis.Redis.from_url(broker, socket_timeout=2 * PATIENCE))
        self.app = make_app(broker)
        self._sent: List[Any] = []
        stack.callback(self._close_app)

    def _close_app(self) -> None:
        import kombu.pools

        # A result that is forgotten would have it out with a Redis that is no more.
        for task in self._sent:
            self.app.backend.remove_pending_result(task)
            task.backend = None
        self._sent.clear()
        self.app.backend.result_consumer.stop()
        self.app.backend.client.connection_pool.disconnect()
        self.app.pool.force_close_all()
        self.app.close()
        kombu.pools.reset()
        # What it was made of is garbage that has descriptors.
        del self.app

    def start_worker(self, pool: str) -> None:
        """Starts a worker, and returns when it takes tasks."""
        options = ["--pool", pool, "--concurrency", "1" if pool == "solo" else "3", "--loglevel", "INFO"]
        options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        environment = {**os.environ, "CELERY_REDIS": self._broker, "RUNTIMEUSE_WS_URL": self.runtime.ws_url}
        command = [sys.executable, "-m", "celery", "-A", "tests.reliability.celery_app", "worker", *options]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=str(ROOT), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._stack.callback(self._stop, process)
        assert self._store.blpop(["ready"], PATIENCE), self.log()

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        children = psutil.Process(process.pid).children(recursive=True)
        # It has nothing left to do, and takes its time for that; but first, as it would start new children.
        process.kill()
        process.wait(PATIENCE)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        assert not psutil.wait_procs(children, PATIENCE)[1]

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-5000:]

    def send(self, name: str, *arguments: Any, **options: Any) -> Any:
        self._sent.append(self.app.send_task(name, arguments, **options))
        return self._sent[-1]

    def outcome(self, task: Any) -> Any:
        """Returns what a task has returned or raised."""
        import celery.exceptions

        try:
            return task.get(timeout=PATIENCE, propagate=False)
        except celery.exceptions.TimeoutError:
            raise AssertionError(f"{task.id} has not ended: {self.log()}") from None

    def processes_of(self, task: Any) -> List[int]:
        """Returns the processes of an endless task, once it has begun."""
        told = self._store.blpop([f"began {task.id}"], PATIENCE)
        assert told, self.log()
        return [int(word) for word in told[1].split()]

    def told_by(self, task: Any) -> List[int]:
        """Returns the processes of an endless task that has ended: none where it had not begun."""
        return [int(word) for each in self._store.lrange(f"began {task.id}", 0, -1) for word in each.split()]

    def check_next(self, count: int = 5) -> None:
        """Asserts that the next tasks are right, each: more than there are processes in the pool."""
        tasks = [self.send("query", number) for number in range(count)]
        assert [self.outcome(task) for task in tasks] == [f"answer {number}\n" for number in range(count)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "work").mkdir()
    with contextlib.ExitStack() as stack:
        settings: Dict[str, Any] = {"root": str(tmp_path / "work"), **QUICK}
        runtime = stack.enter_context(LocalRuntime("shell", **settings))
        broker = stack.enter_context(redis_server(tmp_path))
        yield Bench(broker, runtime, stack, tmp_path)


def shown(error: BaseException) -> Dict[str, Any]:
    """Returns all that a program or a person sees of an error."""
    names = [name for name in dir(error) if not name.startswith("_") and hasattr(error, name)]
    values = {name: getattr(error, name) for name in names}
    public = {name: value for name, value in values.items() if not callable(value)}
    # What JSON makes of tuples.
    public["args"] = json.loads(json.dumps(error.args))
    return {"type": type(error), "text": str(error), **public}


def answers_and_errors(bench: Bench, tally: Tally, pool: str) -> None:
    """More than there are processes, threads or greenlets: each gets its own, and errors are what they were."""
    from .celery_app import FAILURES

    fault = f"celery: tasks in the pool {pool}"
    chance = seeded(fault)
    expected: Dict[str, Any] = {}
    for how, call in FAILURES.items():
        with pytest.raises(RuntimeUseError) as caught:
            call(client_of(bench.runtime))
        expected[how] = shown(caught.value)
    kinds = ["query", "commands", "session", *expected]
    sent = []
    for number in range(tries(12, 300)):
        kind = kinds[number % len(kinds)] if number < len(kinds) else chance.choice(kinds)
        tally.tried(fault)
        sent.append((kind, number, bench.send(*(("fail", kind) if kind in expected else (kind, number)))))
    for kind, number, task in sent:
        got = bench.outcome(task)
        right: Any = {
            "query": f"answer {number}\n",
            "commands": [f"first {number}\n", f"second {number}\n"],
            "session": [f"{turn} of {number}\n" for turn in range(3)],
        }
        if kind in right:
            assert got == right[kind]
        else:
            assert isinstance(got, RuntimeUseError), repr(got)
            assert shown(got) == expected[kind]
        tally.survived(fault)


def revoked(bench: Bench, tally: Tally, pool: str, signal: str) -> None:
    """The process is sent a signal, or the greenlet is killed; a task beside it goes on."""
    fault = f"celery: revoked, {pool}{'' if pool == 'gevent' else ' by ' + signal}"
    chance = seeded(fault)
    for _ in range(tries(2, 100)):
        tally.tried(fault)
        task, beside = bench.send("endless", chance.choice(ENDLESS)), bench.send("endless", chance.choice(ENDLESS))
        processes, others = bench.processes_of(task), bench.processes_of(beside)
        assert (len(processes), len(others)) == (2, 2)
        bench.app.control.revoke(task.id, terminate=True, signal=signal)
        assert type(bench.outcome(task)).__name__ == "TaskRevokedError"
        wait_until_ended(*processes)
        assert not beside.ready()
        assert all(psutil.pid_exists(each) for each in others)
        bench.app.control.revoke(beside.id, terminate=True, signal=signal)
        bench.outcome(beside)
        wait_until_ended(*others)
        bench.check_next()
        tally.survived(fault)


def hard_time_limit(bench: Bench, tally: Tally, pool: str) -> None:
    """The process is killed, or the greenlet is left by an exception; the worker goes on."""
    fault = f"celery: hard time limit, {pool}"
    chance = seeded(fault)
    for _ in range(tries(2, 60)):
        tally.tried(fault)
        task = bench.send("endless", chance.choice(ENDLESS), time_limit=chance.uniform(1, 2))
        assert type(bench.outcome(task)).__name__ == "TimeLimitExceeded"
        # None, if it had not begun by then.
        wait_until_ended(*bench.told_by(task))
        bench.check_next()
        tally.survived(fault)


def holds_up(peer: Peer, where: str) -> None:
    """Goes so far, and then waits for the client to leave."""
    with contextlib.suppress(PeerGone):
        if where == "connecting":
            peer.read_request()
            peer.until_gone()
        peer.accept()
        for message in peer.requests():
            if message["message_type"] == "invocation_message":
                peer.send(text("done"))
            elif message["message_type"] == "end_session_message" and "upload" in where:
                peer.send(upload("/out/a"))


def soft_time_limit(bench: Bench, tally: Tally, serve: Serve) -> None:
    """Its exception comes out of whatever call it hits, and the process that it was raised in goes on."""
    fault = "celery: soft time limit"
    servers = {where: serve(functools.partial(holds_up, where=where)) for where in HELD_UP}
    chance = seeded(fault)
    everywhere = [*ENDLESS, *HELD_UP]
    moments = everywhere + chance.choices(everywhere, k=tries(0, 100))
    # As many at once as the pool has processes.
    for first in range(0, len(moments), 3):
        sent = []
        for where in moments[first : first + 3]:
            tally.tried(fault)
            name, arguments = ("held_up", (servers[where].url, where)) if where in servers else ("endless", (where,))
            sent.append((where, bench.send(name, *arguments, soft_time_limit=chance.uniform(1, 2))))
        for where, task in sent:
            error = bench.outcome(task)
            assert type(error).__name__ == "SoftTimeLimitExceeded", (where, error)
            wait_until_ended(*bench.told_by(task))
            tally.survived(fault)
        bench.check_next()


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool(bench: Bench, tally: Tally, serve: Serve, pool: str) -> None:
    """One worker for all of it: what comes before must not harm what comes after."""
    bench.start_worker(pool)
    answers_and_errors(bench, tally, pool)
    for signal in SIGNALS[pool]:
        revoked(bench, tally, pool, signal)
    if pool in HARD_LIMITS:
        hard_time_limit(bench, tally, pool)
    if pool in SOFT_LIMITS:
        soft_time_limit(bench, tally, serve)
