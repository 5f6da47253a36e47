"""Other worlds than plain threads: gevent, a running event loop, and the workers of gunicorn."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Tuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest

from runtimeuse_sync import AssistantMessageInterface, CancelledException, RuntimeUseClient

from ..support.builders import answer, client_of, error
from ..support.packages import needs
from ..support.processes import killed_in_the_end
from ..support.servers import FaultServer, Peer, PeerGone
from ..support.tally import SEED, Tally, tries
from ..support.threads import InThread
from . import children
from .moods import hangs_on_demand

#: For what must come in the end; only a failure waits for it.
PATIENCE = 45.0


GEVENT = """
from gevent import monkey
monkey.patch_all()
import random, sys
import gevent
from runtimeuse_sync import CancelledException, RunTimeoutError, RuntimeUseClient

url, rounds, rnd = sys.argv[1], int(sys.argv[2]), random.Random(sys.argv[3])
client = RuntimeUseClient(url, model="m")
ticks = 0

def tick():
    global ticks
    while True:
        gevent.sleep(0.005)
        ticks += 1

def ask(owner, prompt):
    assert owner.query(prompt, timeout=40).text == prompt

def aborted(owner, prompt):
    run = owner.stream("hang " + prompt, timeout=40)
    gevent.spawn_later(0.02 * rnd.random(), run.abort)
    try:
        with run:
            run.result
    except CancelledException:
        return
    raise AssertionError("what hangs has ended")

def timed_out(owner, prompt):
    try:
        owner.query("hang " + prompt, timeout=0.05)
    except RunTimeoutError:
        return
    raise AssertionError("what hangs has ended")

def all_at_once(owner, number):
    jobs = []
    for each in range(100):
        how = ask if each % 4 else rnd.choice([aborted, timed_out])
        jobs.append(gevent.spawn(how, owner, f"{number}/{each}"))
    assert len(gevent.joinall(jobs, timeout=40, raise_error=True)) == 100

gevent.spawn(tick)
with client.session() as session:
    for number in range(rounds):
        all_at_once(client, number)
        before = ticks
        all_at_once(session, number)
        assert ticks > before, "the other greenlets stood still"
    ask(session, "last")
print("all", rounds)
"""


@needs("gevent")
def test_a_hundred_greenlets(tally: Tally) -> None:
    fault = "worlds: calls of 100 gevent greenlets, some aborted, some too late"
    rounds = tries(1, 20)
    tally.tried(fault, 200 * rounds)
    with FaultServer(hangs_on_demand) as server:
        printed = children.run(GEVENT, server.url, str(rounds), f"{SEED}/{fault}", strict=False, patience=600)
    assert printed.split() == ["all", str(rounds)]
    tally.survived(fault, 200 * rounds)


def test_inside_a_running_event_loop(tally: Tally) -> None:
    """Called straight, which blocks the loop as any blocking call; and in threads beside it, aborted from it."""
    fault = "worlds: inside a running event loop"
    count = tries(10, 200)
    tally.tried(fault, count)

    async def straight(client: RuntimeUseClient, number: int) -> None:
        assert client.query(f"{number}").text == f"{number}"
        with client.session() as session:
            assert session.query(f"{number}").text == f"{number}"

    async def beside(client: RuntimeUseClient, number: int) -> None:
        loop = asyncio.get_running_loop()
        with client.session() as session:
            begun = asyncio.Event()

            def tell(_: AssistantMessageInterface) -> None:
                loop.call_soon_threadsafe(begun.set)

            def call() -> str:
                return session.query(f"hang {number}", timeout=PATIENCE, on_assistant_message=tell).text

            hanging = loop.run_in_executor(None, call)
            others = [loop.run_in_executor(None, client.query, f"{number}/{each}") for each in range(5)]
            await asyncio.wait_for(begun.wait(), PATIENCE)
            session.abort()
            with pytest.raises(CancelledException):
                await asyncio.wait_for(hanging, PATIENCE)
            texts = [result.text for result in await asyncio.wait_for(asyncio.gather(*others), PATIENCE)]
            assert texts == [f"{number}/{each}" for each in range(5)]

    async def all_of_it(client: RuntimeUseClient) -> None:
        for number in range(count):
            await (straight if number % 2 else beside)(client, number)

    with FaultServer(hangs_on_demand) as server:
        asyncio.run(all_of_it(client_of(server)))
    tally.survived(fault, count)


def fails_on_demand(peer: Peer) -> None:
    """Answers, fails, or hangs, as the prompt says."""
    try:
        peer.accept()
        for message in peer.requests():
            prompt = message.get("user_prompt", "")
            if prompt.startswith("fail"):
                peer.send(error("it broke"))
            elif not prompt.startswith("hang"):
                answer(peer, message)
    except PeerGone:
        return


def get(port: int, prompt: str, timeout: float) -> Tuple[int, str]:
    """Asks the view; returns the status and the body."""
    browse = build_opener(ProxyHandler({})).open
    query = urlencode({"prompt": prompt, "timeout": timeout})
    try:
        with browse(f"http://127.0.0.1:{port}/?{query}", timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@needs("gunicorn", "gevent")
@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_under_gunicorn(tally: Tally, worker: str, tmp_path: Path) -> None:
    """Calls that are answered, fail and time out, side by side, in workers that share or inherit a client."""
    fault = f"worlds: a WSGI view under gunicorn's {worker} workers"
    count = tries(16, 400)
    tally.tried(fault, count)
    options = ["--worker-class", worker, "--workers", "2", "--threads", "4" if worker == "gthread" else "1"]
    if worker != "gevent":  # Which must patch before anything is imported.
        options.append("--preload")
    log = tmp_path / "gunicorn.log"
    with FaultServer(fails_on_demand) as server, socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port = listener.getsockname()[1]
        environment = {**os.environ, "RUNTIMEUSE_WS_URL": server.url}
        bind = ["--bind", f"fd://{listener.fileno()}", "--log-file", str(log), "--worker-tmp-dir", str(tmp_path)]
        command = [sys.executable, "-m", "gunicorn", *bind, *options, "tests.reliability.wsgi_app:application"]
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen(command, cwd=root, env=environment, pass_fds=[listener.fileno()])
        with killed_in_the_end(process) as gunicorn:
            said = _ask_all(port, count)
            gunicorn.send_signal(signal.SIGTERM)
            assert gunicorn.wait(PATIENCE) == 0, log.read_text()
    expected: Dict[str, Callable[[int], Tuple[int, str]]] = {
        "answer": lambda number: (200, f"answer {number}"),
        "fail": lambda number: (500, "the agent failed: it broke\n"),
        "hang": lambda number: (504, "the agent took too long\n"),
    }
    for prompt, number, status, body in said:
        assert (status, body) == expected[prompt](number), prompt
    assert "Traceback" not in log.read_text()
    assert "[ERROR]" not in log.read_text()
    tally.survived(fault, count)


def _ask_all(port: int, count: int) -> List[Tuple[str, int, int, str]]:
    def ask(numbers: List[int]) -> List[Tuple[str, int, int, str]]:
        said = []
        for number in numbers:
            kind = ["answer", "answer", "fail", "hang"][number % 4]
            status, body = get(port, f"{kind} {number}", 0.3 if kind == "hang" else PATIENCE)
            said.append((kind, number, status, body))
        return said

    threads = [InThread(ask, list(range(first, count, 8))) for first in range(8)]
    for thread in threads:
        thread.join()
    return [each for thread in threads for each in thread.result()]
