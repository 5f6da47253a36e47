"""Looking up names without being held up: literal addresses at once, names in a thread that all who ask share."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any, Iterator, List

import pytest

from runtimeuse_sync._websocket import dialing
from runtimeuse_sync._websocket.attempt import OpeningFailed, OpeningInterrupted
from runtimeuse_sync._websocket.dialing import look_up

from ...support.network import has_ipv6
from ...support.resolver import HangingResolver, hanging_resolver
from ...support.servers import PATIENCE
from ...support.threads import InThread

FOUND: List[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]


@pytest.fixture
def resolver() -> Iterator[HangingResolver]:
    with hanging_resolver() as resolver:
        resolver.outcome = lambda: FOUND
        yield resolver


def no_wait() -> None:
    raise AssertionError("there is nothing to wait for")


def patient(host: str = "name.test") -> List[Any]:
    """Looks up as a connection does that has time."""
    woken = threading.Event()

    def wait() -> None:
        assert woken.wait(PATIENCE)
        woken.clear()

    return look_up(host, 80, woken.set, wait)


def give_up() -> None:
    raise OpeningInterrupted("the time is over")


def test_an_ipv4_address_is_asked_nobody_for(resolver: HangingResolver) -> None:
    assert look_up("10.0.0.1", 80, no_wait, no_wait) == FOUND
    assert resolver.asked == []


def test_an_ipv4_address_is_what_the_system_makes_of_it() -> None:
    assert look_up("10.0.0.1", 80, no_wait, no_wait) == socket.getaddrinfo("10.0.0.1", 80, 0, socket.SOCK_STREAM)


@pytest.mark.parametrize("host", ["localhost", "::1", "fe80::1%1"])
def test_what_no_network_is_asked_for_needs_no_thread(resolver: HangingResolver, host: str) -> None:
    resolver.go_on.set()
    assert look_up(host, 80, no_wait, no_wait) == FOUND
    assert resolver.asked == [(host, threading.current_thread().name)]


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
def test_an_ipv6_address() -> None:
    ((family, *_, where),) = look_up("::1", 80, no_wait, no_wait)
    assert (family, where[:2]) == (socket.AF_INET6, ("::1", 80))


def test_a_name_is_looked_up_in_a_thread(resolver: HangingResolver) -> None:
    resolver.go_on.set()
    assert patient() == FOUND
    ((host, thread),) = resolver.asked
    assert host == "name.test"
    assert thread.startswith("runtimeuse-lookup-")


def test_who_gives_up_is_not_held_up_and_who_asks_again_shares_the_thread(resolver: HangingResolver) -> None:
    for _ in range(100):
        with pytest.raises(OpeningInterrupted):
            look_up("name.test", 80, no_wait, give_up)
    assert resolver.hangs.wait(PATIENCE)
    others = [InThread(patient) for _ in range(10)]
    assert len(resolver.asked) == 1
    resolver.go_on.set()
    assert [other.result() for other in others] == [FOUND] * 10
    # The next one asks anew.
    assert patient() == FOUND
    assert len(resolver.asked) >= 2
    assert dialing._under_way == {}


def test_another_name_is_not_held_up(resolver: HangingResolver) -> None:
    with pytest.raises(OpeningInterrupted):
        look_up("name.test", 80, no_wait, give_up)
    assert resolver.hangs.wait(PATIENCE)
    caller = InThread(lambda: patient("other.test"))
    resolver.go_on.set()
    assert caller.result() == FOUND
    assert sorted(host for host, _ in resolver.asked) == ["name.test", "other.test"]


@pytest.mark.parametrize(
    ("error", "retryable"),
    [(socket.gaierror(-2, "Name or service not known"), True), (UnicodeError("label too long"), False)],
)
def test_a_name_that_leads_nowhere(resolver: HangingResolver, error: Exception, retryable: bool) -> None:
    def fail() -> List[Any]:
        raise error

    resolver.outcome = fail
    resolver.go_on.set()
    with pytest.raises(OpeningFailed, match=r"name\.test cannot be resolved") as caught:
        patient()
    assert caught.value.retryable is retryable
    assert dialing._under_way == {}


def test_whatever_a_resolver_raises_reaches_who_asks(resolver: HangingResolver) -> None:
    def fail() -> List[Any]:
        raise MemoryError("all is used up")

    resolver.outcome = fail
    resolver.go_on.set()
    with pytest.raises(MemoryError):
        patient()


def test_without_a_thread_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(OpeningFailed, match="can't start new thread"):
        patient()
    assert dialing._under_way == {}


def test_a_forked_child_does_not_wait_for_the_parents_thread(
    resolver: HangingResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OpeningInterrupted):
        look_up("name.test", 80, no_wait, give_up)
    assert resolver.hangs.wait(PATIENCE)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    resolver.hangs.clear()
    with pytest.raises(OpeningInterrupted):
        look_up("name.test", 80, no_wait, give_up)
    assert resolver.hangs.wait(PATIENCE)
    monkeypatch.undo()
