"""`revoke(terminate=True)` in the worker's main process, with pools that can end a task and pools that cannot."""

from __future__ import annotations

import json
import os
import signal
import time
import types
from typing import Any, List, Tuple

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated
from celery import states
from celery.concurrency.base import BasePool
from celery.concurrency.solo import TaskPool as Solo
from celery.concurrency.thread import TaskPool as Threads
from celery.worker import state as worker_state

from runtimeuse_sync.celery._worker import RuntimeRequest

from .bench import Bench


class Ending(BasePool):
    """A pool that can end a task."""

    def __init__(self) -> None:
        self.ended: List[Tuple[Any, Any]] = []

    def terminate_job(self, pid: Any, signal: Any = None) -> None:
        self.ended.append((pid, signal))


class EndingByAttribute(BasePool):
    """A pool that can end a task by what it gets when it starts, as Celery's prefork."""

    def __init__(self) -> None:
        self.ended: List[Tuple[Any, Any]] = []
        self.terminate_job = lambda pid, signal: self.ended.append((pid, signal))


def nothing(_: Any) -> None:
    raise AssertionError("it is not executed")


def request_of(bench: Bench) -> Any:
    """Returns what a worker makes of the message of a task."""
    task = bench.task(nothing)
    sent = bench.app.amqp.as_task_v2("mine", task.name, (), {})
    message = types.SimpleNamespace(
        headers=sent.headers,
        body=json.dumps(sent.body),
        payload=sent.body,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties=sent.properties,
        acknowledged=True,
    )
    assert task.Request == f"{RuntimeRequest.__module__}:{RuntimeRequest.__name__}"
    return RuntimeRequest(message, app=bench.app, hostname="here", task=task, on_ack=lambda *_, **__: None)


def begin(request: Any) -> None:
    request.on_accepted(os.getpid(), time.monotonic())


def end(request: Any) -> None:
    """As when its process has ended."""
    try:
        raise Terminated(signal.SIGTERM)
    except Terminated:
        request.on_failure(ExceptionInfo())


@pytest.mark.parametrize("pool", [Threads, Solo])
def test_a_pool_that_cannot_end_a_task(bench: Bench, pool: Any) -> None:
    request = request_of(bench)
    begin(request)
    assert not request.terminated
    request.terminate(pool(1), "TERM")
    assert request.terminated
    assert bench.app.backend.get_state("mine") == states.REVOKED


def test_a_task_that_has_not_begun(bench: Bench) -> None:
    request = request_of(bench)
    request.terminate(Threads(1))
    assert not request.terminated
    assert bench.app.backend.get_state("mine") == states.PENDING
    begin(request)
    assert request.terminated
    assert bench.app.backend.get_state("mine") == states.REVOKED


@pytest.mark.parametrize("kind", [Ending, EndingByAttribute])
def test_a_pool_that_can_end_a_task(bench: Bench, kind: Any) -> None:
    request, pool = request_of(bench), kind()
    begin(request)
    request.terminate(pool, "TERM")
    assert pool.ended == [(os.getpid(), signal.SIGTERM)]
    assert not request.terminated
    assert bench.app.backend.get_state("mine") == states.REVOKED


def test_progress_that_a_process_stores_while_it_is_ended(bench: Bench) -> None:
    request = request_of(bench)
    begin(request)
    request.terminate(Ending())
    bench.app.backend.store_result("mine", {"messages": 1}, "PROGRESS")
    end(request)
    assert bench.app.backend.get_state("mine") == states.REVOKED
    assert type(bench.app.AsyncResult("mine").result).__name__ == "TaskRevokedError"


def test_a_process_that_has_ended_by_itself(bench: Bench) -> None:
    request = request_of(bench)
    begin(request)
    end(request)
    assert bench.app.backend.get_state("mine") == states.REVOKED


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    """The worker's books are those of a process."""
    yield
    worker_state.reset_state()
