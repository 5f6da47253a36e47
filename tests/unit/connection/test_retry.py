"""Attempts, and the pauses between them."""

from __future__ import annotations

import random
from typing import Any, Callable, List

import pytest

from runtimeuse_sync._connection.retry import keep_trying, pause_after
from runtimeuse_sync._websocket.attempt import OpeningFailed

UNHEARD = OpeningFailed("refused", retryable=True, not_accepted=True)
AT_ONCE = OpeningFailed("503", retryable=True, status=503, retry_after=0.0)
ANSWERED = OpeningFailed("503", retryable=True, status=503)
ANSWERED_HERE = OpeningFailed("503", retryable=True, status=503)
ANSWERED_HERE.on_loopback = True
TOO_OFTEN_HERE = OpeningFailed("429", retryable=True, status=429)
TOO_OFTEN_HERE.on_loopback = True


@pytest.fixture(params=[0.0, 0.5, 1.0])
def chance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest pauses, middle ones, the longest."""
    share: float = request.param

    def uniform(low: float, high: float) -> float:
        return low + share * (high - low)

    monkeypatch.setattr(random, "uniform", uniform)


def times_of_attempts(failure: BaseException, seconds: float) -> List[float]:
    times = [0.0]
    while times[-1] < seconds:
        times.append(times[-1] + pause_after(len(times) - 1, failure))
    return times


@pytest.mark.parametrize("failure", [UNHEARD, ANSWERED, ANSWERED_HERE, TOO_OFTEN_HERE, AT_ONCE, Exception("custom")])
def test_never_more_than_ten_attempts_a_second(chance: None, failure: Exception) -> None:
    times = times_of_attempts(failure, 60)
    assert max(sum(1 for time in times if start <= time < start + 1) for start in times) <= 10


@pytest.mark.parametrize("failure", [UNHEARD, ANSWERED_HERE])
def test_a_port_that_opens_is_noticed_soon(chance: None, failure: Exception) -> None:
    times = times_of_attempts(failure, 120)
    assert max(later - earlier for earlier, later in zip(times, times[1:])) <= 0.2 + 1e-9


@pytest.mark.parametrize("failure", [ANSWERED, TOO_OFTEN_HERE])
def test_a_server_that_answers_is_tried_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    longest: Callable[[float, float], float] = lambda low, high: high  # noqa: E731
    monkeypatch.setattr(random, "uniform", longest)
    pauses = [pause_after(number, failure) for number in range(100)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.05, 1.0)


@pytest.mark.parametrize("seconds", [0.3, 7.0, 3600.0])
def test_a_server_that_asks_for_a_pause_gets_it(seconds: float) -> None:
    failure = OpeningFailed("429", retryable=True, status=429, retry_after=seconds)
    assert [pause_after(number, failure) for number in range(3)] == [seconds] * 3


def test_a_pause_of_zero_is_a_short_one() -> None:
    assert pause_after(0, OpeningFailed("503", retryable=True, retry_after=0.0)) == 0.05


def test_each_pause_goes_by_the_failure_before_it() -> None:
    pauses: List[Any] = []
    failures = [OpeningFailed("429", retryable=True, retry_after=seconds) for seconds in (2.0, 3.0, 4.0)]

    def attempt() -> str:
        if len(pauses) < 3:
            raise failures[len(pauses)]
        return "open"

    assert keep_trying(attempt, lambda _: True, pauses.append, lambda: False) == "open"
    assert pauses == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("permanent_after", [0, 2])
def test_no_pause_follows_a_failure_that_is_permanent(permanent_after: int) -> None:
    pauses: List[float] = []

    def attempt() -> None:
        raise OpeningFailed("refused", retryable=len(pauses) < permanent_after)

    with pytest.raises(OpeningFailed):
        keep_trying(attempt, lambda error: getattr(error, "retryable", False), pauses.append, lambda: False)
    assert len(pauses) == permanent_after
