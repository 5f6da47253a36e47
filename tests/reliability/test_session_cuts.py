"""Cuts of sessions that reconnect: between two calls no error and no request twice; at any instant none twice."""

from __future__ import annotations

import collections
import json
import queue
import random
import socket
import threading
from typing import Any, Callable, Dict, List

import psutil
import pytest
import trustme

from runtimeuse_sync import AgentRuntimeError

from ..support.builders import answer, client_of, text
from ..support.servers import PATIENCE, TEXT, FaultServer, Peer, frame
from ..support.tally import Tally, seeded, tries
from ..support.threads import InThread, when
from ..support.tls import authority, client_context, server_context

__all__ = ["authority"]

CUTS: Dict[str, Callable[[Peer], None]] = {
    "FIN": Peer.cut,
    "RST": lambda peer: peer.cut(reset=True),
    "close frame": lambda peer: peer.close(1001, "going away"),
}


def prompts_of(server: FaultServer) -> List[str]:
    return [message["user_prompt"] for message in server.said("invocation_message")]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.timeout(600)
def test_cuts_between_calls(tally: Tally, authority: trustme.CA, tls: bool) -> None:
    fault = "session cuts: between two calls"
    count = tries(25, 1000)
    chance = seeded(f"{fault}, {tls}")
    cuts: queue.Queue[str] = queue.Queue()

    def script(peer: Peer) -> None:
        peer.accept()
        # What ends the connection must not wait until the client has confirmed the answer before.
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        served = 0
        for message in peer.requests():
            answer(peer, message)
            if message["message_type"] != "invocation_message":
                continue
            served += 1
            if served == lasts:
                CUTS[how](peer)
                cuts.put(how)
                return

    context = server_context(authority.issue_cert("localhost")) if tls else None
    settings: Any = {"ssl_context": client_context(authority)} if tls else {}
    asked: List[str] = []
    process = psutil.Process()
    with FaultServer(script, context=context) as server:
        with client_of(server, **settings).session(reconnect=True) as session:
            descriptors = 0
            for number in range(count):
                tally.tried(fault)
                how, lasts = chance.choice(list(CUTS)), chance.choice([1, 1, 2, 3])
                for turn in range(lasts):
                    asked.append(f"{number}/{turn}")
                    assert session.query(asked[-1], timeout=60).text == asked[-1]
                assert cuts.get(timeout=PATIENCE) == how
                if number == 5:
                    descriptors = process.num_fds()
                tally.survived(fault)
            ours = [thread.name for thread in threading.enumerate() if "runtimeuse-connection" in thread.name]
            assert len(ours) <= 1, ours
            # The scripts of this process hold descriptors, too, until they have noticed that the client has gone.
            when(lambda: process.num_fds() - descriptors < 10, "the descriptors to be closed")
        assert len(server.peers) == count
        assert prompts_of(server) == asked


class Moody:
    """A script that ends each connection somewhere: before a request, in it, in its answer, after that, or never."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        with self._lock:
            # The session must come to be open, for the first connection is not made again.
            requests = self._chance.choice([0, 1, 1, 2, 3] if peer.number else [1, 2, 3])
            where = self._chance.choice(["before", "request", "answer", "after"])
            how = self._chance.choice(list(CUTS))
            part = self._chance.random()
        peer.accept()
        for number in range(requests):
            message = peer.receive()
            if message["message_type"] != "invocation_message":
                return answer(peer, message)
            if number == requests - 1 and where in ("request", "answer"):
                if where == "answer":
                    whole = frame(TEXT, json.dumps(text(message["user_prompt"])).encode())
                    peer.raw(whole[: int(part * len(whole))])
                break
            answer(peer, message)
        return CUTS[how](peer)


@pytest.mark.timeout(600)
def test_cuts_at_any_instant(tally: Tally) -> None:
    """Of several threads that share the session; where an error says that nothing was sent, nothing has arrived."""
    fault = "session cuts: at any instant"
    threads, count = 4, tries(15, 500)
    tally.tried(fault, threads * count)
    outcomes: Dict[str, Any] = {}
    with FaultServer(Moody(seeded(fault))) as server:
        session = client_of(server, connect_timeout=30).session(reconnect=True).open()

        def work(worker: int) -> None:
            for number in range(count):
                prompt = f"{worker}/{number}"
                try:
                    outcomes[prompt] = session.query(prompt, timeout=60).text
                except AgentRuntimeError as error:
                    outcomes[prompt] = error

        workers = [InThread(work, worker) for worker in range(threads)]
        for worker in workers:
            worker.join(600)
            worker.result()
        session.close()
        arrived = collections.Counter(prompts_of(server))
    assert len(outcomes) == threads * count
    for prompt, outcome in outcomes.items():
        assert arrived[prompt] <= 1, prompt
        if isinstance(outcome, str):
            assert (outcome, arrived[prompt]) == (prompt, 1)
        elif "nothing was sent" in str(outcome):
            assert arrived[prompt] == 0, outcome
        else:
            assert "the request counts as sent" in str(outcome)
    tally.survived(fault, threads * count)
