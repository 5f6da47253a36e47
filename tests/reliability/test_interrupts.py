"""Signals at random instants: SIGINT in processes of their own, SIGALRM whose handler aborts.

An interrupt may hit any step of a call, also those that clean up. It must come out of the call as it is; then nothing
is left of the call, the next one is right, and nobody has complained on stderr.
"""

from __future__ import annotations

import signal
from typing import Any, Callable, List

import pytest

from runtimeuse_sync import CancelledException

from ..support.builders import client_of
from ..support.servers import PATIENCE, FaultServer
from ..support.tally import SEED, Tally, seeded, tries
from . import children
from .calls import CALLS
from .moods import hangs_on_demand, streams

CHILD = """
import os, random, signal, sys, time
from runtimeuse_sync import RuntimeUseClient

url, kind, count, seed, longest = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5])
LIMIT = 20

class Alarm(TimeoutError):
    pass

def ring(*_):
    raise Alarm

raised = KeyboardInterrupt
if sys.argv[6] == "TimeoutError":
    raised = Alarm
    signal.signal(signal.SIGINT, ring)
rnd = random.Random(seed)
client = RuntimeUseClient(url, model="m")

call = globals()[kind]
late = []

def interrupt(begun, delay, seen):
    begun.acquire()
    until = time.perf_counter() + delay
    while time.perf_counter() < until:
        time.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)
    # The interpreter notices a signal at the main thread's next step, unless that waits for a lock: then at once.
    if not seen.acquire(timeout=10):
        late.append(delay)

def try_once(number):
    begun, seen = threading.Lock(), threading.Lock()
    begun.acquire()
    seen.acquire()
    other = threading.Thread(target=interrupt, args=(begun, longest * rnd.random(), seen))
    other.start()
    turn = 0
    try:
        begun.release()
        while True:
            call(f"{number}/{turn}")
            turn += 1
            assert turn < 100000, "the interrupt was swallowed"
    except raised:
        seen.release()
    other.join()
    call(f"{number}/next")
    session(f"{number}/next on the session")

with client.session() as shared:
    call("warm")
    before = held()
    for number in range(count):
        try_once(number)
    assert not late, late
    deadline = time.monotonic() + 10
    while held() != before and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread on its way out
    assert held() == before, (before, held())
print("all", count)
"""


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "TimeoutError"])
@pytest.mark.parametrize(
    ("kind", "longest"),
    [("one_shot", 0.01), ("session", 0.004), ("streamed", 0.004), ("commands", 0.004), ("opened", 0.01)],
)
def test_sigint_at_random_instants(tally: Tally, kind: str, longest: float, raised: str) -> None:
    """Also with a handler that raises what could be taken for an error of the operating system."""
    whose = "" if raised == "KeyboardInterrupt" else f", whose handler raises a {raised}"
    fault = f"process: SIGINT at a random instant{whose}"
    count = tries(6, 100)
    tally.tried(fault, count)
    with FaultServer(streams) as server:
        printed = children.run(CALLS + CHILD, server.url, kind, str(count), f"{SEED}/{kind}", str(longest), raised)
    assert printed.split() == ["all", str(count)]
    tally.survived(fault, count)


@pytest.mark.parametrize("kind", ["run", "session", "client"])
def test_a_handler_of_sigalrm_that_aborts(tally: Tally, kind: str) -> None:
    """The handler runs in the main thread between any two of its steps, the call's own among them."""
    fault = "process: SIGALRM at a random instant, whose handler aborts"
    count = tries(15, 170)
    tally.tried(fault, count)
    rnd = seeded(f"{fault}, {kind}")
    handled: List[Callable[[], None]] = []
    abort: Callable[[], None] = print

    def handle(*_: Any) -> None:
        abort()
        handled.append(abort)

    previous = signal.signal(signal.SIGALRM, handle)
    try:
        with FaultServer(hangs_on_demand) as server, client_of(server).session() as session:
            client = client_of(server)
            for number in range(count):
                prompt = f"hang {number}"
                seen: List[Any] = []
                owner: Any = client if kind == "client" else session
                run = owner.stream(prompt, timeout=PATIENCE, on_assistant_message=seen.append)
                abort = {"run": run.abort, "session": session.abort, "client": client.abort}[kind]
                # Again and again where a first one may come before there is anything in flight, which has no effect.
                first = 1e-4 + 0.008 * rnd.random()
                signal.setitimer(signal.ITIMER_REAL, first, 0 if kind == "run" else 0.05)
                with pytest.raises(CancelledException), run:
                    _ = run.result
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert all(message.text_blocks == [prompt] for message in seen)
                for owner in (client, session):
                    assert owner.query(f"{number}: next", timeout=PATIENCE).text == f"{number}: next"
        assert len(handled) >= count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    tally.survived(fault, count)
