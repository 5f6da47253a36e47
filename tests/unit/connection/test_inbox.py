"""The received messages of a connection: the bound, closing, interrupts, and the two threads."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any, List, Optional

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync._call import Wakeup
from runtimeuse_sync._connection.closed import ConnectionClosed, Ending
from runtimeuse_sync._connection.inbox import Batch, Inbox, size

from ...support.doubles import Interrupt, at_every_step, interrupt
from ...support.servers import PATIENCE
from ...support.threads import InThread


def is_full(inbox: Inbox) -> bool:
    return inbox.full


def closed(reason: str) -> ConnectionClosed:
    return ConnectionClosed(reason, Ending.CLOSED)


def take_all(inbox: Inbox) -> List[Any]:
    taken = []
    batch = inbox.first()
    while batch is not None:
        while batch.position < len(batch.items):
            taken.append(batch.items[batch.position])
            batch.position += 1
        inbox.done(batch)
        batch = inbox.first()
    return taken


@hypothesis.given(st.lists(st.lists(st.text(max_size=5), max_size=4)))
def test_messages_come_out_in_order(batches: List[List[str]]) -> None:
    inbox = Inbox(10**6)
    for items in batches:
        inbox.put(list(items))
    assert take_all(inbox) == [item for items in batches for item in items]
    assert inbox.first() is None
    assert not is_full(inbox)


def test_a_batch_stays_first_until_it_is_done() -> None:
    inbox = Inbox(1000)
    inbox.put(["a", "b"])
    inbox.put(["c"])
    first = inbox.first()
    assert first is not None
    first.position += 1
    again = inbox.first()
    assert again is first
    assert again.position == 1
    inbox.done(first)
    second = inbox.first()
    assert second is not None
    assert second.items == ["c"]


def test_done_may_be_repeated() -> None:
    inbox = Inbox(1000)
    inbox.put(["a"])
    inbox.put(["b"])
    batch = inbox.first()
    assert batch is not None
    inbox.done(batch)
    inbox.done(batch)
    assert take_all(inbox) == ["b"]


def test_the_bound() -> None:
    text = "x" * 1000
    inbox = Inbox(3 * sys.getsizeof(text))
    inbox.put([text, text, text])
    assert not is_full(inbox)
    inbox.put(["y"])
    assert is_full(inbox)
    batch = inbox.first()
    assert batch is not None
    assert inbox.done(batch) is True
    assert not is_full(inbox)
    assert take_all(inbox) == ["y"]


def test_a_batch_may_go_over_the_bound_and_is_not_dropped() -> None:
    inbox = Inbox(10)
    inbox.put(["x" * 1000] * 5)
    assert is_full(inbox)
    assert len(take_all(inbox)) == 5
    assert not is_full(inbox)


def test_done_says_only_once_that_it_made_room() -> None:
    inbox = Inbox(10)
    inbox.put(["x" * 100])
    inbox.put(["x" * 100])
    first = inbox.first()
    assert first is not None
    assert inbox.done(first) is False  # still full
    second = inbox.first()
    assert second is not None
    assert inbox.done(second) is True


def test_sizes() -> None:
    assert size("x" * 5000) >= 5000
    assert size({"message_type": "command_output_message", "text": "x" * 5000}) >= 5000


@pytest.mark.parametrize(
    "message",
    [
        {"message_type": "assistant_message", "text_blocks": ["x" * 50_000] * 20},
        {
            "message_type": "command_execution_result_message",
            "results": [{"command": "cat", "exit_code": 0, "stdout": "x" * 1_000_000}],
        },
        {"message_type": "result_message", "data": {"type": "text", "text": "x" * 1_000_000}},
    ],
    ids=["blocks", "results", "data"],
)
def test_an_object_counts_with_all_that_it_holds(message: Any) -> None:
    # Custom transports hand in objects; their memory is bounded like that of texts.
    inbox = Inbox(500_000)
    inbox.put([message])
    assert is_full(inbox)


def test_the_listener_is_woken() -> None:
    inbox = Inbox(1000)
    wakeup = Wakeup()
    inbox.listener = wakeup

    def wait() -> Optional[Batch]:
        wakeup.wait(10 * PATIENCE)
        return inbox.first()

    waiter = InThread(wait)
    inbox.put(["a"])
    assert waiter.result() is inbox.first()
    closer = InThread(lambda: wakeup.wait(10 * PATIENCE))
    inbox.close(closed("the end"))
    closer.result()


def test_it_works_without_a_listener() -> None:
    inbox = Inbox(1000)
    inbox.put(["a"])
    inbox.close(closed("the end"))
    assert take_all(inbox) == ["a"]


def test_closing_is_final_and_keeps_what_was_put_before() -> None:
    inbox = Inbox(1000)
    inbox.put(["a"])
    reason = closed("first")
    assert not inbox.exhausted
    inbox.close(reason)
    inbox.close(closed("second"))
    assert inbox.closed is reason
    assert not inbox.exhausted
    assert take_all(inbox) == ["a"]
    assert inbox.exhausted


def test_one_thread_puts_and_one_takes() -> None:
    inbox = Inbox(500)
    wakeup, room = Wakeup(), Wakeup()
    inbox.listener = wakeup
    count = 3000
    most = 0

    def put() -> None:
        nonlocal most
        for number in range(count):
            inbox.put([json.dumps(number)])
            most = max(most, len(inbox._batches))
            while inbox.full:
                # Longer than the test has patience: a lost wake-up would show, here and below.
                room.wait(10 * PATIENCE)
        inbox.close(closed("the end"))

    taken: List[int] = []

    def take() -> None:
        while not inbox.exhausted:
            batch = inbox.first()
            if batch is None:
                wakeup.wait(10 * PATIENCE)
                continue
            taken.extend(json.loads(item) for item in batch.items if isinstance(item, str))
            batch.position = len(batch.items)
            if inbox.done(batch):
                room.wake()

    for thread in (InThread(put), InThread(take)):
        thread.result()
    assert taken == list(range(count))
    assert most < 100


class Taker:
    """Takes one batch, and remembers whether the connection's thread must be woken."""

    def __init__(self, max_bytes: int, *items: str) -> None:
        self.inbox = Inbox(max_bytes)
        self.inbox.put(list(items))
        batch = self.inbox.first()
        assert batch is not None
        self.batch = batch
        self.told = False

    def give_up(self) -> None:
        self.told = self.inbox.done(self.batch) or self.told


def test_taking_may_be_interrupted_at_any_step() -> None:
    for run in at_every_step(take_all, interrupt):
        taker = Taker(1000, "a", "b")
        taker.inbox.put(["c"])
        try:
            run(functools.partial(take_all, taker.inbox))
        except Interrupt:
            pass
        left = take_all(taker.inbox)
        # None is skipped: what is left is the end of what there was.
        assert left == ["a", "b", "c"][3 - len(left) :]
        assert not is_full(taker.inbox)
        assert taker.inbox.first() is None


def test_done_may_be_interrupted_at_any_step() -> None:
    for run in at_every_step(Inbox.done, interrupt):
        taker = Taker(10, "x" * 100)
        try:
            run(taker.give_up)
        except Interrupt:
            # As may be repeated.
            taker.give_up()
        assert taker.inbox.first() is None
        assert not is_full(taker.inbox)
        assert taker.told, "the putter waits for room and is never told"


def test_room_that_is_made_while_something_is_put_is_never_missed() -> None:
    # The putter stops reading once it sees `full`; whoever makes room after that must say so, or it never reads again.
    takers: List[Taker] = []
    saw_full: List[bool] = []

    def put() -> None:
        takers[-1].inbox.put(["x" * 60])
        saw_full.append(takers[-1].inbox.full)

    for run in at_every_step(Inbox.done, put):
        taker = Taker(150, "x" * 60)
        takers.append(taker)
        saw_full.append(False)
        run(taker.give_up)
        assert not (saw_full[-1] and not taker.inbox.full and not taker.told), "the putter waits and is never told"
