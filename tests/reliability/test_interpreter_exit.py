"""The interpreter ends while calls are in flight: it does not crash, hang, or say a word about it.

Daemon threads are frozen wherever they are, threads that are none are waited for, `atexit` comes next, then finalizers.
"""

from __future__ import annotations

import pytest

from ..support.servers import FaultServer
from ..support.tally import SEED, Tally, tries
from . import children
from .moods import hangs_on_demand

EXIT = """
import atexit, os, random, signal, sys, threading, time
from runtimeuse_sync import CancelledException, RuntimeUseClient, RuntimeUseError

url, how, seed = sys.argv[1:4]
rnd = random.Random(seed)
client = RuntimeUseClient(url, model="m")
shared = client.session().open()
begun = threading.Semaphore(0)

def started(message):
    begun.release()

def busy(message):
    begun.release()
    threading.Event().wait()

def hang(owner, callback):
    owner.query("hang", on_assistant_message=callback)

def keep_calling(owner):
    while True:
        owner.query("x")
        begun.release()

def in_thread(daemon, function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=daemon).start()

def one_shot():
    in_thread(True, hang, client, started)

def in_session():
    in_thread(True, hang, shared, started)

def in_callback():
    in_thread(True, hang, shared, busy)

def waiting_for_the_turn():
    in_session()
    for _ in range(3):
        in_thread(True, shared.query, "x")

def many():
    for _ in range(6):
        in_thread(True, keep_calling, client)
        in_thread(True, keep_calling, shared)

def opening():
    # Never accepted: nobody listens there, and it is tried again for ten seconds.
    in_thread(True, RuntimeUseClient("ws://127.0.0.1:1", model="m").wait_until_ready)
    begun.release()

def with_a_callback_timeout():
    in_thread(True, lambda: client.query("hang", on_assistant_message=busy, assistant_callback_timeout=50))

def aborted_at_exit():
    # A thread that is no daemon is waited for before what is registered with `atexit` runs: so by a thread.
    def call():
        try:
            hang(shared, started)
        except CancelledException:
            print("cancelled", flush=True)

    def end():
        threading.main_thread().join()
        shared.abort()

    in_thread(False, call)
    in_thread(False, end)

def closed_at_exit():
    atexit.register(shared.close)
    in_thread(True, hang, client, started)

def called_at_exit():
    def call():
        for owner in (shared, client):
            try:
                print(owner.query("at exit", timeout=10).text, flush=True)
            except (RuntimeUseError, RuntimeError) as error:
                # Python 3.12 allows no new threads here any more, and says so.
                assert sys.version_info >= (3, 12) and owner is client, repr(error)
                print("at exit", flush=True)
        shared.close()

    atexit.register(call)
    in_thread(True, hang, client, started)

def from_a_finalizer():
    class Dying:
        def __del__(self, call=shared.query, problem=RuntimeUseError, out=os.write):
            try:
                call("dying", timeout=10)
            except problem:
                out(1, b"refused")
            else:
                out(1, b"answered")

    global dying
    dying = Dying()
    dying.me = dying  # until the very end
    begun.release()

globals()[how]()
assert begun.acquire(timeout=100)
until = time.perf_counter() + 0.01 * rnd.random()
while time.perf_counter() < until:
    time.sleep(0)
print("exit", flush=True)
"""

ENDS = {
    "one_shot": ["exit"],
    "in_session": ["exit"],
    "in_callback": ["exit"],
    "waiting_for_the_turn": ["exit"],
    "many": ["exit"],
    "opening": ["exit"],
    "with_a_callback_timeout": ["exit"],
    "aborted_at_exit": ["exit", "cancelled"],
    "closed_at_exit": ["exit"],
    "called_at_exit": ["exit", "at exit", "at exit"],
    "from_a_finalizer": ["exit", "refused"],
}


@pytest.mark.parametrize("how", sorted(ENDS))
def test_the_interpreter_ends_with_a_call_in_flight(tally: Tally, how: str) -> None:
    fault = "process: the interpreter ends with calls in flight"
    count = tries(1, 20)
    tally.tried(fault, count)
    with FaultServer(hangs_on_demand) as server:
        for number in range(count):
            # As users run it: that a session was left open is a warning like that of an open file, and shown on demand.
            printed = children.run(EXIT, server.url, how, f"{SEED}/{number}", strict=False)
            assert [line for line in printed.splitlines() if line] == ENDS[how]
        if "closed" in how or "called" in how:
            assert len(server.said("end_session_message")) == count
    tally.survived(fault, count)
