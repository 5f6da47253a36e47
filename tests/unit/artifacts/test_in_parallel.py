"""Questions to a storage are asked by several threads, each once, and errors come out in the caller's."""

from __future__ import annotations

import threading
from typing import List, Set

import pytest

from runtimeuse_sync import RuntimeConnectionError
from runtimeuse_sync.artifacts import in_parallel
from runtimeuse_sync.artifacts.in_parallel import for_each

from ...support.servers import PATIENCE


@pytest.mark.parametrize("count", [0, 1, 3, 4, 100, 1000])
def test_each_item_is_done_once(count: int) -> None:
    done: List[int] = []
    for_each(range(count), done.append)
    assert sorted(done) == list(range(count))


def test_several_are_done_at_once() -> None:
    """Each waits until all threads have one."""
    together = threading.Barrier(8)
    idents: Set[int] = set()

    def do(_: int) -> None:
        idents.add(threading.get_ident())
        together.wait(PATIENCE)

    for_each(range(32), do)
    assert len(idents) == 8
    assert threading.get_ident() in idents


def test_few_are_done_by_the_caller() -> None:
    idents: Set[int] = set()
    for_each(range(3), lambda _: idents.add(threading.get_ident()))
    assert idents == {threading.get_ident()}


class Refused(BaseException):
    pass


def lookups() -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "runtimeuse-lookup"]


def test_an_error_in_another_thread_comes_out() -> None:
    caller = threading.get_ident()
    together = threading.Barrier(8)

    def do(item: int) -> None:
        if item < 8:
            together.wait(PATIENCE)
        if threading.get_ident() != caller:
            raise Refused

    with pytest.raises(Refused):
        for_each(range(1000), do)
    assert lookups() == []


def test_an_error_in_the_callers_thread_ends_the_rest() -> None:
    caller = threading.get_ident()
    together = threading.Barrier(8)
    go_on = threading.Event()
    done: List[int] = []

    def do(item: int) -> None:
        done.append(item)
        together.wait(PATIENCE)
        if threading.get_ident() == caller:
            raise Refused
        assert go_on.wait(PATIENCE)

    with pytest.raises(Refused):
        for_each(range(1000), do)
    go_on.set()
    for thread in lookups():
        thread.join(PATIENCE)
    # Each thread had one.
    assert sorted(done) == list(range(8))


def test_if_no_thread_can_be_started_the_caller_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeConnectionError("no more")

    monkeypatch.setattr(in_parallel, "start_thread", refuse)
    done: List[int] = []
    for_each(range(100), done.append)
    assert done == list(range(100))
