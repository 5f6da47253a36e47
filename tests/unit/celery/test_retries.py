"""Which failures Celery retries by itself: those after which it is certain that nothing of the task was sent."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ConnectionLostError,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
)
from runtimeuse_sync.celery import RuntimeTask
from runtimeuse_sync.testing import error, lost_connection, text_result

from .bench import Bench

#: A client that nobody answers.
UNREACHABLE: Dict[str, Any] = {"ws_url": "ws://127.0.0.1:1", "model": "any", "connect_timeout": 0.05}

ALL = (Exception,)


def ask(self: Any) -> str:
    text: str = self.client.query("hi").text
    return text


def fail_by(error: Exception) -> Callable[[Any], None]:
    def fail(_: Any) -> None:
        raise error

    return fail


def retries(bench: Bench) -> List[int]:
    return [headers["retries"] for headers in bench.sent_again()]


def test_a_runtime_that_is_not_there(bench: Bench) -> None:
    result = bench.execute(bench.task(ask, runtimeuse={**UNREACHABLE, "transport": None}))
    assert result.state == "RETRY"
    assert isinstance(result.result, RuntimeConnectionError)
    assert retries(bench) == [1]


def test_the_last_retry_fails_with_the_error(bench: Bench) -> None:
    task = bench.task(ask, runtimeuse={**UNREACHABLE, "transport": None}, max_retries=2)
    result = bench.execute(task, retries=2)
    assert result.state == "FAILURE"
    assert isinstance(result.result, RuntimeConnectionError)
    assert retries(bench) == []


def test_pauses_grow(bench: Bench) -> None:
    task = bench.task(ask, runtimeuse={**UNREACHABLE, "transport": None}, retry_jitter=False)
    assert (task.retry_backoff, task.retry_backoff_max, task.max_retries) == (2, 60, 5)
    etas = []
    for number in range(2):
        bench.execute(task, retries=number)
        etas += [headers["eta"] for headers in bench.sent_again()]
    assert all(etas)


def test_a_connection_that_is_lost_after_the_request(bench: Bench) -> None:
    bench.fake.expect([lost_connection()])
    result = bench.execute(bench.task(ask))
    assert result.state == "FAILURE"
    assert isinstance(result.result, ConnectionLostError)
    assert retries(bench) == []


def test_whatever_the_task_has_celery_retry(bench: Bench) -> None:
    bench.fake.expect([lost_connection()])
    bench.fake.expect(error("no"))
    task = bench.task(ask, autoretry_for=ALL)
    for kind in (ConnectionLostError, AgentRuntimeError):
        assert isinstance(bench.execute(task).result, kind)
    assert retries(bench) == []


def test_something_was_sent_before_the_call_that_failed(bench: Bench) -> None:
    bench.fake.expect("4")

    def both(self: Any) -> None:
        self.client.query("hi")
        RuntimeUseClient(**UNREACHABLE).query("hi")

    result = bench.execute(bench.task(both))
    assert result.state == "FAILURE"
    assert isinstance(result.result, RuntimeConnectionError)
    assert retries(bench) == []


def test_something_was_sent_on_a_session_before(bench: Bench) -> None:
    bench.fake.expect("4")

    def both(self: Any) -> None:
        with self.client.session() as session:
            session.query("hi")
        raise RuntimeConnectionError("elsewhere")

    assert bench.execute(bench.task(both)).state == "FAILURE"
    assert retries(bench) == []


def test_something_was_sent_by_a_task_that_is_called_directly(bench: Bench) -> None:
    bench.fake.expect("4")
    inner = bench.task(ask)

    def outer(_: Any) -> None:
        assert inner() == "4"
        raise RuntimeConnectionError("elsewhere")

    assert bench.execute(bench.task(outer)).state == "FAILURE"
    assert retries(bench) == []


def test_a_task_executed_before_counts_for_nothing(bench: Bench) -> None:
    bench.fake.expect("4")
    assert bench.execute(bench.task(ask)).get() == "4"
    assert bench.execute(bench.task(fail_by(RuntimeConnectionError("not there")))).state == "RETRY"


def test_an_error_of_the_users_own(bench: Bench) -> None:
    """Celery retries it as it would any task's, unless something has been sent."""
    task = bench.task(fail_by(OSError("disk")), autoretry_for=(OSError,))
    assert bench.execute(task).state == "RETRY"
    assert retries(bench) == [1]
    bench.fake.expect("4")

    def after(self: Any) -> None:
        self.client.query("hi")
        raise OSError("disk")

    assert bench.execute(bench.task(after, autoretry_for=(OSError,))).state == "FAILURE"
    assert retries(bench) == []


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (RuntimeConnectionError("no"), "RETRY"),
        (ConnectionLostError("gone", {"in_flight": "query", "sent": False}), "RETRY"),
        (ConnectionLostError("gone", {"in_flight": "query"}), "FAILURE"),
        (ConnectionLostError("gone"), "FAILURE"),
        (AgentRuntimeError("no"), "FAILURE"),
        (RunTimeoutError("late"), "FAILURE"),
        (RuntimeUseError("any"), "FAILURE"),
    ],
)
def test_errors_that_say_what_was_sent(bench: Bench, failure: Exception, state: str) -> None:
    """Those of another client, say, which the task knows nothing of."""
    assert bench.execute(bench.task(fail_by(failure), autoretry_for=ALL)).state == state


def both_ways() -> List[Tuple[Dict[str, Any], Dict[str, Any]]]:
    return [({"repeatable": True}, {}), ({}, {"headers": {"repeatable": True}}), ({}, {"repeatable": True})]


@pytest.mark.parametrize(("options", "request_fields"), both_ways()[:2])
def test_the_caller_says_that_it_may_run_twice(
    bench: Bench, options: Dict[str, Any], request_fields: Dict[str, Any]
) -> None:
    bench.fake.expect([lost_connection()])
    assert bench.execute(bench.task(ask, **options), **request_fields).state == "RETRY"
    assert retries(bench) == [1]


def test_a_single_call_says_so_through_the_broker_and_so_do_its_retries(bench: Bench) -> None:
    task = bench.task(ask)
    task.apply_async(headers={"repeatable": True})
    for number in range(2):
        (headers,) = bench.sent_again()
        assert headers["retries"] == number
        bench.fake.expect([lost_connection()])
        assert bench.execute(task, **{**headers, "task_id": headers["id"]}).state == "RETRY"


def test_a_retry_that_the_task_asks_for_itself(bench: Bench) -> None:
    bench.fake.expect([lost_connection()])

    def again(self: Any) -> None:
        try:
            self.client.query("hi")
        except ConnectionLostError as lost:
            raise self.retry(exc=lost) from lost

    assert bench.execute(bench.task(again)).state == "RETRY"
    assert retries(bench) == [1]


def test_called_directly_it_is_a_function(bench: Bench) -> None:
    bench.fake.expect("4")
    task = bench.task(ask)
    assert task() == "4"
    bench.fake.expect([lost_connection()])
    with pytest.raises(ConnectionLostError):
        task()
    unreachable = bench.task(ask, runtimeuse={**UNREACHABLE, "transport": None})
    with pytest.raises(RuntimeConnectionError):
        unreachable()


def test_eagerly(bench: Bench) -> None:
    bench.app.conf.task_always_eager = True
    bench.fake.expect("4")
    assert bench.task(ask).delay().get() == "4"
    tried = []

    def count(self: Any) -> None:
        tried.append(self.request.retries)
        raise RuntimeConnectionError("not there")

    assert isinstance(bench.task(count, max_retries=3).delay().result, RuntimeConnectionError)
    assert tried == [0, 1, 2, 3]


def test_a_task_without_bind_keeps_its_signature(bench: Bench) -> None:
    def add(one: int, two: int = 2) -> int:
        return one + two

    task = bench.app.task(base=RuntimeTask, shared=False, name="add")(add)
    assert task(1) == 3
    assert bench.execute(task, 1, 5).get() == 6
    with pytest.raises(TypeError):
        task.delay()
    import inspect

    assert list(inspect.signature(task.run).parameters) == ["one", "two"]


def test_a_class_with_a_run_that_calls_its_base_class(bench: Bench) -> None:
    class First(RuntimeTask):
        abstract = True

        def run(self) -> str:
            return ask(self)

    class Second(First):
        name = "second"

        def run(self) -> str:
            try:
                return super().run()
            except ConnectionLostError as lost:
                raise self.retry(exc=lost) from lost

    bench.fake.expect([lost_connection()])
    task = bench.app.register_task(Second())
    assert bench.execute(task).state == "RETRY"
    assert retries(bench) == [1]


def test_answers_of_the_fake(bench: Bench) -> None:
    bench.fake.answer_all(lambda _: text_result("yes"))
    assert bench.execute(bench.task(ask)).get() == "yes"
