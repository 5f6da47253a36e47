"""Calls on one session from several threads, and threads that abort them at random instants.

What must hold whatever the instants are: a call ends in its own result or in `CancelledException`, within its time; it
stays at that whoever asks again; nothing reaches it afterwards; and it is cancelled only if an abort was meant for it.
"""

from __future__ import annotations

import itertools
import queue
import random
import sys
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import pytest

from runtimeuse_sync import CancelledException

from ..support.threads import InThread

CALLERS = 4

#: How long a call may take, in seconds, however busy the machine is; one that nobody ends fails by it.
LIMIT = 40.0

#: One call in so many has nobody who aborts it, and must therefore end in its result.
SPARED = 4

#: Returns what a caller calls `stream` of, and what aborts it.
Make = Callable[[], Tuple[Any, Callable[[], None]]]


class Order(NamedTuple):
    """What an aborting thread is told: what to call, and how long after what."""

    abort: Callable[[], None]
    delay: float
    after: threading.Event


class Aborter:
    """A thread that aborts as it is told."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Optional[Order]] = queue.SimpleQueue()
        self._thread = InThread(self._work)

    def tell(self, order: Order) -> None:
        self._orders.put(order)

    def _work(self) -> None:
        while True:
            order = self._orders.get()
            if order is None:
                return
            assert order.after.wait(LIMIT)
            until = time.perf_counter() + order.delay
            # The processor is given away at each step: the delays are too short for a wait with a limit.
            while time.perf_counter() < until:
                time.sleep(0)
            order.abort()

    def stop(self) -> None:
        self._orders.put(None)
        self._thread.result()


class Ended(NamedTuple):
    """A call that is over, with what its callback had been given by then."""

    prompt: str
    cancelled: bool
    spared: bool
    seen: List[Any]
    seen_count: int


class Storm:
    """Makes calls until a number of them have each been aborted once, sooner or later than they end by themselves.

    Args:
        make: What is called.
        rnd: Where the instants come from.
        longest: The latest instant of an abort, in seconds after the runtime has got the request.
        by_run: Whether the run is aborted, rather than whatever is in flight on what `make` returned.
    """

    def __init__(self, make: Make, rnd: random.Random, longest: float, *, by_run: bool) -> None:
        self._make = make
        self._rnd = rnd
        self._longest = longest
        self._by_run = by_run
        self._numbers = itertools.count()
        self._reached: Dict[str, threading.Event] = {}

    def reached(self, prompt: str) -> None:
        """To be told by the runtime that it has got a request."""
        event = self._reached.get(prompt)
        if event is not None:
            event.set()

    def blow(self, count: int) -> List[Ended]:
        """Has so many calls aborted, and returns these and the spared ones."""
        # One for each caller: shared, one that waits for a call that waits for its turn would block the call before it.
        aborters = [Aborter() for _ in range(CALLERS)]
        interval = sys.getswitchinterval()
        # Threads change places far more often than they would, so that they meet in more places.
        sys.setswitchinterval(1e-5)
        ended: List[Ended] = []
        try:
            callers = [
                InThread(self._call, count // CALLERS, random.Random(self._rnd.random()), aborter)
                for aborter in aborters
            ]
            for caller in callers:
                caller.join()
                ended += caller.result()
        finally:
            for aborter in aborters:
                aborter.stop()
            sys.setswitchinterval(interval)
        for call in ended:
            assert len(call.seen) == call.seen_count, f"{call.prompt} was given something after its end"
        return ended

    def _call(self, count: int, rnd: random.Random, aborter: Aborter) -> List[Ended]:
        ended: List[Ended] = []
        while count:
            owner, abort = self._make()
            spared = rnd.randrange(SPARED) == 0
            # What does not end by itself must be aborted for sure, which on a session is whatever is in flight.
            kinds = ["answer", "stream"] + (["hang", "deaf", "twice"] if self._by_run and not spared else [])
            prompt = f"{next(self._numbers)}: {rnd.choice(kinds)}"
            seen: List[Any] = []
            run = owner.stream(prompt, timeout=LIMIT, on_assistant_message=seen.append)
            begun = threading.Event()
            reached = self._reached[prompt] = threading.Event()
            if not spared:
                count -= 1
                # Half while it is in flight; the others before, and one in ten perhaps before it has begun.
                when = rnd.randrange(10)
                after, longest = (reached, self._longest) if when < 5 else (begun, 2 * self._longest)
                if when == 9:
                    begun.set()
                order = Order(run.abort if self._by_run else abort, longest * rnd.random() ** 2, after)
                aborter.tell(order)
            begun.set()
            ended.append(self._one(run, prompt, seen, spared))
            # Its abort comes too late, if it has not come yet.
            reached.set()
            del self._reached[prompt]
        return ended

    @staticmethod
    def _one(run: Any, prompt: str, seen: List[Any], spared: bool) -> Ended:
        try:
            with run:
                got = run.result.text
        except CancelledException:
            with pytest.raises(CancelledException):
                _ = run.result
            cancelled = True
        else:
            run.abort()
            assert got == prompt == run.result.text
            cancelled = False
        assert all(message.text_blocks == [prompt] for message in seen), (prompt, seen)
        return Ended(prompt, cancelled, spared, seen, len(seen))
