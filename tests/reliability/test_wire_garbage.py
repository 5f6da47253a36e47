"""The wire adds bytes of its own at any point, or passes on what it gets in the smallest of pieces."""

from __future__ import annotations

import random
from typing import Callable, Dict, Tuple

import pytest

from runtimeuse_sync import RuntimeConnectionError

from ..support.builders import Stopwatch
from ..support.servers import PATIENCE
from ..support.tally import Tally, seeded, tries
from .conversation import Bench
from .proxy import DOWN, UP, Fault, Passage
from .recording import boundaries, head_size

#: Seconds for a call whose message has been given a length that never comes.
SOON = 0.5

#: What is added, and whether it always shows: neither UTF-8 nor JSON nor the head of a frame can hold it.
GARBAGE: Dict[str, Tuple[Callable[[random.Random], bytes], bool]] = {
    "bytes that are never valid": (lambda chance: b"\xff" * chance.randint(1, 64), True),
    "an HTTP error": (lambda chance: b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", True),
    "random bytes": (lambda chance: bytes(chance.getrandbits(8) for _ in range(chance.randint(1, 64))), False),
}


def adding(direction: str, data: bytes) -> Callable[[Passage], None]:
    return lambda passage: passage.inject(direction, data)


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.timeout(900)
def test_garbage_at_any_point(bench: Bench, tally: Tally, direction: str, kind: str) -> None:
    """It is noticed at once, or by the deadline; nothing that came before is lost, and nothing false is taken in."""
    make, shows = GARBAGE[kind]
    fault = f"wire: garbage, {kind}"
    chance = seeded(fault + direction)
    size = len(bench.record().forwarded[direction])
    for at in sorted(chance.sample(range(size), tries(6, size))):
        garbage = make(chance)
        tally.tried(fault)
        bench.proxy.harm(Fault(direction, at, adding(direction, garbage)))
        watch = Stopwatch()
        conversation = bench.converse({"connect_timeout": SOON}, end=SOON, timeout=SOON)
        assert watch.seconds < PATIENCE - 2
        # The proxy may be slower than the client's patience.
        bench.proxy.passage()
        passage = bench.proxy.passages[-1]
        if shows:
            conversation.check(bytes(passage.forwarded[DOWN]), left_early=True)
        else:
            # It may change a text so that nobody can see it: WebSocket has no checksums.
            conversation.check_not_repeated()
        if not head_size(bytes(passage.forwarded[DOWN])):
            assert isinstance(conversation.error, RuntimeConnectionError)
        bench.check_next()
        tally.survived(fault)


def test_in_pieces(bench: Bench, tally: Tally) -> None:
    """Byte by byte, and in pieces of other sizes: it must make no difference at all."""
    fault = "wire: in pieces"
    chance = seeded(fault)
    for number in range(tries(6, 300)):
        size = 1 if number % 2 == 0 else chance.randint(2, 40)
        tally.tried(fault)
        bench.proxy.harm(None, piece=size)
        conversation = bench.converse()
        assert conversation.error is None
        conversation.check(bytes(bench.proxy.passages[0].forwarded[DOWN]))
        bench.check_next()
        tally.survived(fault)


def test_pings_between_any_two_frames(bench: Bench, tally: Tally) -> None:
    """They are the one thing that a wire may add: they are answered, and nobody else sees them."""
    fault = "wire: pings in between"
    whole = bytes(bench.record().forwarded[DOWN])
    for at in boundaries(whole)[1:-1]:
        tally.tried(fault)
        bench.proxy.harm(Fault(DOWN, at, adding(DOWN, b"\x89\x04ping" * 3)))
        conversation = bench.converse()
        passage = bench.proxy.passages[0]
        assert conversation.error is None
        conversation.check(bytes(passage.forwarded[DOWN]))
        bench.check_next()
        tally.survived(fault)
