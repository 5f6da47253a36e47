"""Exceptions that another thread sets (`PyThreadState_SetAsyncExc`), at random instants: time limits as dramatiq's.

The interpreter raises one at the next step of the thread that it is for, in the middle of a call as well as of what
cleans up after it; where two are set, the second often hits the cleaning up after the first. None may be swallowed: it
comes out, or is the `__context__` of the one that does; in a finalizer alone, CPython only reports it. Then nothing is
left of the call, and the next one is right.
"""

from __future__ import annotations

import sys

import pytest

from ..support.servers import FaultServer
from ..support.tally import FULL, SEED, Tally, tries
from . import children
from .calls import CALLS
from .moods import streams_and_uploads

#: What CPython says where an exception hits `Thread.start` once the thread runs: the caller takes back the thread
#: that has just begun, which then does not find itself, and ends.
STARTING = (
    r"\s*Exception ignored in thread started by:? <bound method Thread\._bootstrap of .*\n"
    r"(?:Traceback .*\n)?(?:  .*\n)*KeyError: <_Daemon\(.*\n?"
)

CHILD = """
import ctypes, functools, itertools, logging, random, sys, time, warnings
from runtimeuse_sync import ArtifactUploadResult, RuntimeUseClient
from runtimeuse_sync.testing import FakeRuntime, text_result

url, kind, count, seed, longest, most = *sys.argv[1:5], float(sys.argv[5]), int(sys.argv[6])
LIMIT = 40
# So that the other thread gets its turn between any two steps.
sys.setswitchinterval(1e-6)
rnd = random.Random(seed)
# What is lost with the body's error may be told there, and is not looked at.
logging.getLogger("runtimeuse_sync").addHandler(logging.NullHandler())
# While it asks for these, a record swallows whatever is raised.
logging.logMultiprocessing = logging.logAsyncioTasks = False
# One that hits between a session's constructor and its `with` leaves the session to its finalizer, which warns.
warnings.filterwarnings("ignore", "unclosed <RuntimeUseSession ", ResourceWarning)
client = RuntimeUseClient(url, model="m")
numbers = itertools.count()

# The numbers of the limits that were raised. The limits themselves would keep alive the runs that they hit: one that
# hits the end of a `with` statement after another one leaves the run to its finalizer.
raised = []

class Limit(Exception):
    pass

def new_limit():
    number = next(numbers)

    def in_the_caller(self):
        # Up to Python 3.11 it may be raised first in a thread that the caller is just starting, which passes it on.
        if threading.current_thread().name == "caller":
            raised.append(number)

    # In C alone: the second limit might hit a constructor in Python, and the first one would never be made.
    at_once = staticmethod(functools.partial(raised.append, number))
    return type("Limit", (Limit,), {"number": number, "__init__": at_once if most > 1 else in_the_caller})

# In C alone, too: an exception raised in a callback counts as the callback's, and may be logged instead of raised.
put = functools.partial(next, itertools.repeat(ArtifactUploadResult("http://storage/", "text/plain")))

def one_shot_with_artifacts(prompt):
    right(prompt, client, artifacts_dir="/out", on_artifact_upload_request=put)

def opened_with_artifacts(prompt):
    opened(prompt, artifacts_dir="/out", on_artifact_upload_request=put)

def callbacks(prompt):
    right(prompt, shared, assistant_callback_timeout=LIMIT)

def custom_transport(prompt):
    fake = FakeRuntime([text_result(prompt)] * 2)
    with RuntimeUseClient(transport=fake, model="m").session() as own:
        assert own.query(prompt, timeout=LIMIT).text == prompt
        assert own.query(prompt, timeout=LIMIT).text == prompt

def readiness(prompt):
    client.wait_until_ready(LIMIT)

call = globals()[kind]

class Try:
    def __init__(self, number):
        self.number = number
        self.begun = False  # an event's lock could be left held
        self.all_set = False
        self.seen = set()
        self.turns = 0
        self.failure = None
        self.before = len(raised)

    @property
    def over(self):
        return self.all_set and self.seen == set(raised[self.before:])

    def calls(self):
        self.begun = True
        until = time.monotonic() + 30
        while not self.over:
            call(f"{self.number}/{self.turns}")
            self.turns += 1
            assert time.monotonic() < until, "it was swallowed"

    def note(self, error):
        while error is not None:
            if isinstance(error, Limit):
                self.seen.add(error.number)
            error = error.__context__

    def calls_until_seen(self, levels):
        # The next one may hit what notes this one, too.
        while not self.over:
            try:
                self.calls() if levels == 0 else self.calls_until_seen(levels - 1)
            except Limit as error:
                self.note(error)
            if most > 1:
                # The second may hit the first step of `__exit__`, which then does nothing. The run keeps the first one,
                # whose traceback leads back to the run: only the garbage collector finds it.
                gc.collect()

    def note_unraisable(self, unraisable):
        # One that hits a finalizer, of what the first one has left behind: CPython has nobody to raise it to.
        self.note(unraisable.exc_value)
        if most == 1:
            sys.__unraisablehook__(unraisable)

    def run(self):
        try:
            self.calls_until_seen(most)
            call(f"{self.number}/next")
            session(f"{self.number}/next on the session")
        except BaseException as error:
            self.failure = error

def try_once(number):
    this = Try(number)
    sys.unraisablehook = this.note_unraisable
    caller = threading.Thread(target=this.run, name="caller")
    # `threading` would be called back, in any thread, when this one is freed: what is raised there is lost.
    threading._dangling.discard(caller)
    caller.start()
    while not this.begun:
        time.sleep(0)
    delay = longest * rnd.random()
    for each in range(most):
        pause(delay)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(caller.ident), ctypes.py_object(new_limit()))
        until = time.monotonic() + 30
        while len(raised) - this.before <= each:
            assert caller.is_alive() and time.monotonic() < until, this.failure
            time.sleep(0)
        delay = 0.0004 * rnd.random()
    this.all_set = True
    caller.join()
    if this.failure is not None:
        raise this.failure

def pause(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        time.sleep(0)

with client.session() as shared:
    call("warm")
    before = held()
    for number in range(int(count)):
        try_once(number)
    deadline = time.monotonic() + 10
    while held() != before and most == 1 and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread on its way out
    # Two in a row inside of `Thread.start` leave a lock of its own taken, and the new thread waits for that.
    assert held() == before or most > 1, (before, held())
print("all", count)
"""


@pytest.mark.parametrize("most", [1, 2], ids=["one", "two"])
@pytest.mark.parametrize(
    ("kind", "longest"),
    [
        ("one_shot", 0.006),
        ("one_shot_with_artifacts", 0.008),
        ("session", 0.003),
        ("streamed", 0.003),
        ("commands", 0.003),
        ("opened_with_artifacts", 0.01),
        ("callbacks", 0.004),
        ("custom_transport", 0.006),
        ("readiness", 0.004),
    ],
)
def test_at_random_instants(tally: Tally, kind: str, longest: float, most: int) -> None:
    if most > 1 and sys.version_info < (3, 12):
        pytest.skip("up to Python 3.11 it may be raised in two threads")
    if most > 1 and not FULL:
        pytest.skip("a second one right after the first: only where RUNTIMEUSE_RELIABILITY is full")
    fault = "process: an asynchronous exception at a random instant" + (", and a second one" if most > 1 else "")
    count = tries(6, 1150)
    tally.tried(fault, count)
    with FaultServer(streams_and_uploads) as server:
        arguments = (kind, str(count), f"{SEED}/{kind}", str(longest), str(most))
        printed = children.run(CALLS + CHILD, server.url, *arguments, patience=600, tolerated=STARTING)
    assert printed.split() == ["all", str(count)]
    tally.survived(fault, count)
