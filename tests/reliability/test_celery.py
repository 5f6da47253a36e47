"""Celery's pools, with a real worker and a real Redis: answers, errors, tasks that are revoked or take too long.

What must hold: each task gets its own answer; an error that went through the JSON of a result backend is what it was;
of a task that was ended, whichever way, no process is left in the runtime, and the worker's next tasks are right.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any, Dict, Iterator

import psutil
import pytest

from runtimeuse_sync import RuntimeUseError

from ..support.builders import Serve, client_of, text, upload
from ..support.packages import needs
from ..support.processes import wait_until_ended
from ..support.servers import Peer, PeerGone
from ..support.tally import FULL, Tally, seeded, tries
from .celery_bench import Bench, benches, shown
from .redis_server import needs_redis

pytestmark = [needs("celery", "redis"), needs_redis(), pytest.mark.timeout(1200 if FULL else 600)]

POOLS = ["prefork", "threads", "solo", pytest.param("gevent", marks=needs("gevent"))]

#: What ends a task from outside, in the pools that can: the others say that they cannot.
SIGNALS = {"prefork": ["SIGTERM", "SIGKILL"], "gevent": ["SIGTERM"], "threads": [], "solo": []}
HARD_LIMITS = ["prefork", "gevent"]
SOFT_LIMITS = ["prefork"]

#: What an endless task may wait in.
ENDLESS = ["commands", "query", "session"]

#: Where else a soft time limit finds a task.
HELD_UP = ["connecting", "the end", "the end after an error", "an upload", "after an upload"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with benches(tmp_path) as bench:
        yield bench


def answers_and_errors(bench: Bench, tally: Tally, pool: str) -> None:
    """More than there are processes, threads or greenlets: each gets its own, and errors are what they were."""
    from .celery_parts import FAILURES

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
