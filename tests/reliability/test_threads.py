"""Many threads on one session, and aborts at random instants from other threads."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Sequence, Tuple

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.testing import HANG, FakeRuntime, assistant_message, text_result

from ..support.builders import BUSY, CANCELLED, answer, assistant, client_of, echo, error, text
from ..support.servers import FaultServer, Peer, PeerGone
from ..support.tally import Tally, seeded, tries
from . import children
from .aborting import LIMIT, Ended, Storm

THREADS = 200

#: How much memory may grow between the first tenth of the calls and the last, in MiB: what the allocator keeps.
GROWTH = 6


def test_many_threads_and_calls_on_one_session(tally: Tally) -> None:
    """In a process of their own, which measures itself when all threads run and when all have made their calls."""
    calls = tries(5, 50)
    tally.tried("threads: 200 threads on one session, calls", THREADS * calls)
    with FaultServer(echo) as server:
        printed = children.run(
            """
            import json, sys, threading, time
            import psutil
            from runtimeuse_sync import RuntimeUseClient

            url, threads, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
            first = max(1, calls // 10)
            process = psutil.Process()
            meeting = threading.Barrier(threads + 1)
            wrong, measured = [], []

            def measure():
                ours = sum(thread.name.startswith("runtimeuse") for thread in threading.enumerate())
                measured.append((process.memory_info().rss, process.num_threads(), ours, process.num_fds()))

            def ask(number, turns):
                for turn in turns:
                    prompt = f"{number}/{turn}"
                    try:
                        got = session.query(prompt, timeout=45).text
                    except Exception as error:
                        got = repr(error)
                    if got != prompt:
                        wrong.append((prompt, got))

            def work(number):
                ask(number, range(first))
                meeting.wait(45)
                meeting.wait(45)
                ask(number, range(first, calls))
                meeting.wait(45)
                meeting.wait(45)

            with RuntimeUseClient(url, model="m").session() as session:
                workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
                for worker in workers:
                    worker.start()
                for _ in range(2):
                    meeting.wait(45)
                    measure()
                    meeting.wait(45)
                for worker in workers:
                    worker.join(45)
            # The system's threads end a moment after Python's, and nothing tells of it.
            patience = time.monotonic() + 15
            while process.num_threads() > 1 and time.monotonic() < patience:
                time.sleep(0.01)
            measure()
            print(json.dumps([wrong, measured]))
            """,
            server.url,
            str(THREADS),
            str(calls),
        )
        asked = [message["user_prompt"] for message in server.said("invocation_message")]
    wrong, (first, last, after) = json.loads(printed)
    assert wrong == []
    assert sorted(asked) == sorted(f"{number}/{turn}" for number in range(THREADS) for turn in range(calls))
    assert last[0] - first[0] < GROWTH << 20, "memory"
    assert first[1:] == last[1:] == [THREADS + 2, 1, first[3]], "threads and descriptors"
    assert after[1:3] == [1, 0], "no thread stays"
    tally.survived("threads: 200 threads on one session, calls", THREADS * calls)


def check(ended: Sequence[Ended], aborts: int, *, each_its_own: bool) -> None:
    """Asserts that no more was cancelled than was aborted, and that whatever nobody but an abort ends was."""
    cancelled = sum(call.cancelled for call in ended)
    assert sum(not call.spared for call in ended) == aborts
    assert cancelled <= aborts < len(ended)
    assert all(call.cancelled for call in ended if hangs(call.prompt))
    if each_its_own:
        assert not any(call.cancelled and call.spared for call in ended), "cancelled, but aborted by nobody"


def hangs(prompt: str) -> bool:
    return prompt.endswith(("hang", "deaf", "twice"))


@pytest.mark.parametrize("by_run", [False, True], ids=["by the session", "by the run"])
def test_aborts_at_random_instants_in_memory(tally: Tally, by_run: bool) -> None:
    fault = "threads: abort at a random instant, in memory"
    count = tries(500, 50_000)
    tally.tried(fault, count)

    def reply(request: Dict[str, Any]) -> Sequence[Dict[str, Any]]:
        prompt = request["user_prompt"]
        storm.reached(prompt)
        if hangs(prompt):
            return [assistant_message(prompt), *HANG]
        return [assistant_message(prompt)] * (3 if prompt.endswith("stream") else 0) + text_result(prompt)

    fake = FakeRuntime([reply] * (4 * count))
    with RuntimeUseClient(transport=fake, model="m").session() as session:
        storm = Storm(lambda: (session, session.abort), seeded(f"{fault}, {by_run}"), 0.001, by_run=by_run)
        ended = storm.blow(count)
        assert session.query("last", timeout=LIMIT).text == "last"
    check(ended, count, each_its_own=by_run)
    tally.survived(fault, count)


class Moody:
    """A runtime that answers, streams, hangs until it is cancelled, ignores that, or ends twice; as the prompt says.

    A request that comes while another is in flight is a fault of the client's; the barrier is refused then.
    """

    storm: Storm

    def __call__(self, peer: Peer) -> None:
        try:
            peer.accept()
            self._serve(peer)
        except PeerGone:
            return  # A one-shot that is aborted is gone at once, wherever it was.

    def _serve(self, peer: Peer) -> None:
        in_flight = ""
        for message in peer.requests():
            kind, prompt = message["message_type"], str(message.get("user_prompt", ""))
            if kind == "cancel_message":
                if in_flight.endswith("twice"):
                    peer.send(error("one moment"))
                    continue
                if in_flight:
                    peer.send(CANCELLED if in_flight.endswith("hang") else text(in_flight))
                in_flight = ""
                continue
            self.storm.reached(prompt)
            if in_flight and kind == "command_execution_message" and message["commands"] == []:
                peer.send(error(BUSY), assistant(in_flight), text(in_flight))
                in_flight = ""
                continue
            assert not in_flight, f"{message} was sent while {in_flight} was in flight"
            if hangs(prompt):
                in_flight = prompt
                peer.send(assistant(prompt))
                continue
            if prompt.endswith("stream"):
                peer.send(*[assistant(prompt)] * 3)
            answer(peer, message)


@pytest.mark.parametrize("kind", ["session", "run", "client"])
def test_aborts_at_random_instants_over_a_socket(tally: Tally, kind: str) -> None:
    fault = "threads: abort at a random instant, over a socket"
    count = tries(60, 668)
    tally.tried(fault, count)
    rnd = seeded(f"{fault}, {kind}")
    moody = Moody()
    with FaultServer(moody) as server:
        if kind == "client":

            def one_shot() -> Tuple[Any, Callable[[], None]]:
                client = client_of(server)
                return client, client.abort

            moody.storm = Storm(one_shot, rnd, 0.002, by_run=False)
            ended = moody.storm.blow(count)
            assert client_of(server).query("last").text == "last"
        else:
            with client_of(server).session() as session:
                moody.storm = Storm(lambda: (session, session.abort), rnd, 0.002, by_run=kind == "run")
                ended = moody.storm.blow(count)
                assert session.query("last", timeout=LIMIT).text == "last"
    check(ended, count, each_its_own=kind != "session")
    tally.survived(fault, count)
