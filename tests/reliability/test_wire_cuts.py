"""The wire is cut: at every byte of a whole conversation, in each direction, by FIN and by RST; and closed by half."""

from __future__ import annotations

from typing import Callable, List

import pytest

from runtimeuse_sync import ConnectionLostError

from ..support.tally import Tally, seeded, tries
from .conversation import Bench
from .proxy import DOWN, UP, Fault, Passage
from .recording import boundaries, head_size

BOTH_WAYS = pytest.mark.parametrize("direction", [UP, DOWN])


def some(offsets: List[int], must: List[int], reduced: int, name: str) -> List[int]:
    """Returns all offsets in the full form; else those that must be, and others by chance."""
    others = [offset for offset in offsets if offset not in must]
    count = tries(reduced, len(offsets)) - len(must)
    return sorted([*must, *seeded(name).sample(others, min(len(others), max(0, count)))])


def harm_and_check(bench: Bench, fault: Fault) -> None:
    """Has a conversation suffer a cut; asserts that it ends at once, as it must, and that the next call is right."""
    bench.proxy.harm(fault)
    conversation = bench.converse()
    first, last = bench.proxy.passages[0], bench.proxy.passages[-1]
    arrived = bytes(last.forwarded[DOWN])
    conversation.check(arrived)
    if head_size(bytes(first.forwarded[DOWN])):
        # Nothing is tried again once the connection was open.
        assert last is first
        assert conversation.error is None or isinstance(conversation.error, ConnectionLostError), conversation.error
    else:
        # A runtime that breaks off in the handshake may not be up yet: it is tried again.
        assert (len(bench.proxy.passages), conversation.error) == (2, None)
    bench.check_next()


@BOTH_WAYS
@pytest.mark.parametrize(("name", "cut"), [("FIN", Passage.cut), ("RST", Passage.reset)], ids=["FIN", "RST"])
@pytest.mark.timeout(900)
def test_cut_at_every_byte(
    bench: Bench, tally: Tally, direction: str, name: str, cut: Callable[[Passage], None]
) -> None:
    whole = bytes(bench.record().forwarded[direction])
    fault = f"wire: cut by {name}, on the way {direction}"
    for offset in some(list(range(len(whole) + 1)), boundaries(whole), 16, fault):
        tally.tried(fault)
        harm_and_check(bench, Fault(direction, offset, cut))
        tally.survived(fault)


@BOTH_WAYS
@pytest.mark.timeout(300)
def test_half_closed(bench: Bench, tally: Tally, direction: str) -> None:
    """The end of one direction is the end of the conversation, whoever still talks in the other."""
    whole = bytes(bench.record().forwarded[direction])
    fault = f"wire: half-closed, on the way {direction}"
    for offset in some(list(range(len(whole) + 1)), boundaries(whole), 10, fault):
        tally.tried(fault)
        harm_and_check(bench, Fault(direction, offset, lambda passage: passage.half_close(direction)))
        tally.survived(fault)
