"""Many runs, whose process is killed at any moment: the journal resumes, and the workers do not go on without it."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, List, Set

import psutil
import pytest

from runtimeuse_sync.batch import run_many
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, answer, client_of
from ..support.processes import Pipe, wait_until_ended
from ..support.servers import PATIENCE, Peer
from ..support.tally import Tally, seeded, tries
from . import children

PROGRAM = """
import sys
from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.batch import Job, run_many

client = RuntimeUseClient(sys.argv[1], model="m")
jobs = [Job("x" * 50 + str(number), id=str(number)) for number in range(int(sys.argv[3]))]
for outcome in run_many(jobs, client=client, journal=sys.argv[2], max_workers=4):
    assert outcome.ok, outcome.error
    print(outcome.job.id, flush=True)
"""

JOBS = 60
WORKERS = 4


def test_a_process_that_is_killed_while_it_writes_the_journal(serve: Serve, tally: Tally, tmp_path: Path) -> None:
    """Whatever it had yielded is in the journal; of all runs, no more are repeated than were in flight."""
    fault = "many runs: SIGKILL of the process that writes the journal"
    chance = seeded(fault)
    for number in range(tries(3, 100)):
        tally.tried(fault)
        path = tmp_path / f"{number}.jsonl"
        asked: List[str] = []

        def script(peer: Peer, asked: List[str] = asked) -> None:
            peer.accept()
            for message in peer.requests():
                if message["message_type"] == "invocation_message":
                    asked.append(message["user_prompt"].lstrip("x"))
                answer(peer, message)

        server = serve(script)
        yielded: Set[str] = set()
        kills = 0
        while True:
            with children.started(PROGRAM, server.url, str(path), str(JOBS)) as child:
                kill_after = None if kills == 3 else chance.randrange(JOBS)
                output = until_killed(child, kill_after, chance.random() * 0.01)
                yielded.update(output.split())
                child.wait(PATIENCE)
                if child.returncode == 0:
                    break
                assert child.returncode == -signal.SIGKILL
                kills += 1
            # The last line may be cut; all others are whole.
            lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
            recorded = {json.loads(line)["job"][3:] for line in lines[1:]}
            assert yielded <= recorded
        assert yielded == {str(each) for each in range(JOBS)}
        assert set(asked) == yielded
        assert len(asked) <= JOBS + kills * WORKERS
        tally.survived(fault)


def until_killed(child: subprocess.Popen[str], after: Any, delay: float) -> str:
    """Kills a child some time after so many lines; returns all that it printed."""
    assert child.stdout is not None
    lines: List[str] = []
    if after is not None:
        for _ in range(after):
            line = child.stdout.readline()
            if not line:
                break
            lines.append(line)
        threading.Event().wait(delay)
        child.kill()
    return "".join([*lines, child.stdout.read()])


POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from runtimeuse_sync.batch import run_many

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[2])) as pool:
        jobs = ["echo first", "echo $$ > one; exec sleep 100", "echo $$ > two; exec sleep 100", "echo > three"]
        # In a `for` statement, which leaves the iterator wherever in it the signal comes.
        for outcome in run_many(jobs, connect={"ws_url": sys.argv[1], "model": "m"}, executor=pool):
            assert outcome.ok
            print("begun", flush=True)
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_the_workers_of_a_pool_do_not_go_on_without_it(
    tally: Tally, tmp_path: Path, method: str, number: signal.Signals
) -> None:
    fault = f"many runs: {number.name} of a process with a pool of processes ({method})"
    tally.tried(fault)
    (tmp_path / "program.py").write_text(POOL)
    pipes = [Pipe(tmp_path / name) for name in ("one", "two")]
    with LocalRuntime("shell", root=str(tmp_path)) as runtime:
        with children.started(
            "import runpy, sys; sys.argv[:1] = []; runpy.run_path(sys.argv[0], run_name='__main__')",
            str(tmp_path / "program.py"),
            runtime.ws_url,
            method,
            strict=False,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            pids = [pid for pipe in pipes for pid in pipe.numbers()]
            workers = psutil.Process(child.pid).children(recursive=True)
            child.send_signal(number)
            # By the workers' aborts, not by their end: forked ones outlive a process that was killed.
            wait_until_ended(*pids)
            if number == signal.SIGKILL:
                child.wait(PATIENCE)
            else:
                child.communicate(timeout=children.PATIENCE)
    assert not (tmp_path / "three").exists()
    # The workers outlive a process that was killed, as they wait for more work: nobody else would end them.
    for worker in workers:
        if worker.is_running():
            worker.kill()
            wait_until_ended(worker.pid)
    tally.survived(fault)


CTRL_C = """
import sys
from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.batch import run_many

client = RuntimeUseClient(sys.argv[1], model="m")
try:
    for outcome in run_many(["quick", *["hang"] * 5], client=client, journal=sys.argv[2]):
        print(outcome.result, flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c(serve: Serve, tally: Tally, tmp_path: Path) -> None:
    fault = "many runs: Ctrl-C"

    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt") != "hang":
                answer(peer, message)

    for number in range(tries(2, 30)):
        tally.tried(fault)
        path = tmp_path / f"{number}.jsonl"
        server = serve(script)
        with children.started(CTRL_C, server.url, str(path)) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "quick\n"
            server.wait_for("invocation_message", 6)
            child.send_signal(signal.SIGINT)
            printed, complaints = child.communicate(timeout=children.PATIENCE)
        assert (child.returncode, printed, complaints) == (0, "interrupted\n", "")
        assert len(server.wait_for("cancel_message", 5)) == 5
        resumed = run_many(["quick"], client=client_of(server), journal=path)
        assert [each.from_journal for each in resumed] == [True]
        tally.survived(fault)
