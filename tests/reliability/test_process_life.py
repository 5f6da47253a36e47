"""A process that forks, spawns, or forgets its sessions: nobody hangs, nobody is harmed, nobody complains."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import client_of, echo
from ..support.servers import PATIENCE, FaultServer, Peer
from ..support.tally import SEED, Tally, tries
from . import children
from .moods import hangs_on_demand

FORK = """
import os, random, sys, threading
from runtimeuse_sync import CancelledException, RuntimeUseClient, SessionStateError

url, count, rnd = sys.argv[1], int(sys.argv[2]), random.Random(sys.argv[3])
client = RuntimeUseClient(url, model="m")

def in_child(session, run):
    # Also what the main thread of the child has not begun: the parent's other threads are not there.
    for call in (lambda: session.query("x"), lambda: session.execute_commands(["x"]), session.stream("x").__enter__):
        try:
            call()
        except SessionStateError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError("a call on an inherited session came back")
    run.abort()
    session.abort()
    session.close()
    assert client.query("child").text == "child"
    with client.session() as own:
        assert own.query("child").text == "child"

def call(session, run, outcomes):
    try:
        outcomes.append(run.__enter__().result.text)
    except CancelledException:
        outcomes.append("cancelled")
    finally:
        run.close()

for number in range(count):
    with client.session() as session:
        begun = threading.Event()
        run = session.stream(f"hang {number}", on_assistant_message=lambda message: begun.set())
        outcomes = []
        other = threading.Thread(target=call, args=(session, run, outcomes))
        other.start()
        # With the call in flight, or still on its way.
        begun.wait(rnd.choice([20, 0.003 * rnd.random()]))
        pid = os.fork()
        if pid == 0:
            in_child(session, run)
            # As a program ends: with all that runs at exit, and the inherited objects' finalizers.
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        assert outcomes == [] and other.is_alive()
        begun.wait(100)
        run.abort()
        other.join(20)
        assert outcomes == ["cancelled"], outcomes
        assert session.query("parent").text == "parent"
print("all", count)
"""


def test_fork_with_a_call_in_flight(tally: Tally) -> None:
    fault = "process: fork with a call in flight"
    count = tries(6, 100)
    tally.tried(fault, count)
    with FaultServer(hangs_on_demand) as server:
        printed = children.run(FORK, server.url, str(count), f"{SEED}/{fault}", patience=children.PATIENCE + count)
        assert printed.split() == ["all", str(count)]
        assert server.said("cancel_message") == [{"message_type": "cancel_message"}] * count, "the parents' own only"
    tally.survived(fault, count)


SPAWN = """
import multiprocessing, os, pickle, sys
from runtimeuse_sync import CommandFailedError, QueryOptions, RunTimeoutError, RuntimeUseClient

def ask(url, options, number):
    return RuntimeUseClient(url).query(f"echo {number}", options)

def fail(url):
    RuntimeUseClient(url).execute_commands(["true", "exit 3"])

def wait(url):
    RuntimeUseClient(url, model="m").query("sleep 60", timeout=2)

if __name__ == "__main__":
    url, count = sys.argv[1], int(sys.argv[2])
    with RuntimeUseClient(url, model="m").session() as session:
        session.query("echo parent")
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            asked = [pool.apply_async(ask, (url, QueryOptions(model="m"), number)) for number in range(count)]
            for number, answer in enumerate(asked):
                assert answer.get(40).text == f"{number}\\n"
            try:
                pool.apply(fail, (url,))
            except CommandFailedError as error:
                assert [each.exit_code for each in error.results] == [0, 3]
            try:
                pool.apply(wait, (url,))
            except RunTimeoutError as error:
                print(error)
            pool.close()
            pool.join()
        assert session.query("echo parent").text == "parent\\n"
    print("all", count)
"""


def test_multiprocessing_by_spawn(tally: Tally, tmp_path: Path) -> None:
    """Options go over, results and errors come back; the workers are new interpreters that import the program."""
    fault = "process: calls in processes of multiprocessing's spawn"
    count = tries(10, 200)
    tally.tried(fault, count)
    (tmp_path / "program.py").write_text(SPAWN)
    with LocalRuntime("shell", root=str(tmp_path)) as runtime:
        printed = children.run(
            "import runpy, sys; sys.argv[:2] = sys.argv[1:2]; runpy.run_path(sys.argv[0], run_name='__main__')",
            str(tmp_path / "program.py"),
            runtime.ws_url,
            str(count),
        )
    assert printed.splitlines() == ["Query did not end within 2 s", f"all {count}"]
    tally.survived(fault, count)


@pytest.mark.parametrize("in_cycle", [False, True])
def test_a_session_that_is_forgotten(tally: Tally, in_cycle: bool) -> None:
    """It warns, and its socket and its thread go; the runtime sees the connection close, and ends what ran."""
    fault = "process: an open session is garbage collected"
    count = tries(10, 100)
    tally.tried(fault, count)

    class Keeper:
        """Something in a cycle that holds a session."""

    def forget(number: int) -> None:
        session = client.session().open()
        assert session.query(str(number)).text == str(number)
        if in_cycle:
            keeper = Keeper()
            keeper.__dict__.update(me=keeper, session=session)
            del keeper, session
            gc.collect()

    closed = threading.Semaphore(0)

    def until_closed(peer: Peer) -> None:
        echo(peer)
        closed.release()

    with FaultServer(until_closed) as server:
        client = client_of(server)
        for number in range(count):
            with pytest.warns(ResourceWarning, match="unclosed <RuntimeUseSession .* open>"):
                forget(number)
            assert closed.acquire(timeout=PATIENCE), "the runtime still waits for it"
        assert client.query("next").text == "next"
    tally.survived(fault, count)
