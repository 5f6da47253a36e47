"""What only looks like a silent peer: it reads slowly, is frozen for a while, or our own callback is slow."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any, List

import pytest

from runtimeuse_sync import AgentRuntimeError, ConnectionLostError, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, Stopwatch, answer, assistant, client_of, output, text, wait
from ..support.servers import PATIENCE, PING, PONG, Peer, PeerGone
from ..support.tally import Tally, tries
from .frozen import FrozenRuntime

#: Half of the keepalive bound, in seconds.
SOON = 0.3
KEEPALIVE: Any = {"ping_interval": SOON, "ping_timeout": SOON}


def breathe(seconds: float) -> None:
    """What is slow here is slow by nature; nothing waits for it to be over."""
    assert not threading.Event().wait(seconds)


def test_a_peer_that_reads_slowly(serve: Serve, tally: Tally) -> None:
    """It takes longer than the keepalive bound for all, and answers no ping before; but it moves on."""
    fault = "silence, mistaken: a peer that reads slowly"
    # More than all buffers between two sockets can hold.
    much = "x" * (16 << 20)

    def script(peer: Peer) -> None:
        peer.accept()
        left = len(much)
        while left > 0:
            left -= len(peer._exactly(1 << 20))
            if left > len(much) // 2:
                breathe(2 * SOON / 3)
        # Not read as a message, for that takes time of its own in which no ping would be answered.
        peer.send(text("all of it"))
        with contextlib.suppress(PeerGone):
            while True:
                peer._some()
        peer.cut()

    for _ in range(tries(1, 5)):
        tally.tried(fault)
        watch = Stopwatch()
        client = client_of(serve(script), ping_interval=2 * SOON, ping_timeout=2 * SOON)
        assert client.query(much, timeout=4 * PATIENCE).text == "all of it"
        assert watch.seconds > 4 * SOON
        tally.survived(fault)


def test_frozen_for_less_than_the_bound(frozen: FrozenRuntime, tally: Tally) -> None:
    """Pings go out meanwhile, and are answered late."""
    fault = "silence, mistaken: SIGSTOP for less than the bound"
    client = RuntimeUseClient(frozen.url, ping_interval=SOON / 3, ping_timeout=PATIENCE)
    with client.session() as session:
        for number in range(tries(1, 20)):
            tally.tried(fault)
            frozen.freeze()
            timer = threading.Timer(2 * SOON, frozen.thaw)
            timer.start()
            done = session.execute_commands([f"echo {number}"], timeout=PATIENCE)
            assert done.results[0].stdout == f"{number}\n"
            timer.join(PATIENCE)
            tally.survived(fault)


def test_a_slow_callback_whose_peer_only_answers_pings(serve: Serve, tally: Tally) -> None:
    """Pings are sent and their answers read while the caller's thread is busy."""
    fault = "silence, mistaken: a slow callback"
    pinged = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"))
        for _ in range(3):
            opcode, payload = peer._frame()
            assert opcode == PING
            peer.frame(PONG, payload)
        pinged.set()
        peer.send(text("done"))

    for _ in range(tries(1, 10)):
        pinged.clear()
        tally.tried(fault)
        client = client_of(serve(script), ping_interval=SOON / 3, ping_timeout=PATIENCE)
        assert client.query("hi", on_assistant_message=lambda _: wait(pinged), timeout=PATIENCE).text == "done"
        tally.survived(fault)


def test_a_slow_callback_under_a_flood(serve: Serve, tally: Tally) -> None:
    """The inbox is full, so nothing is read, neither answers to pings: that silence is ours."""
    fault = "silence, mistaken: a slow callback, and a full inbox"
    count = 300

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        for _ in range(count):
            peer.send(output("x" * 65536))
        peer.send(text("done"))

    for _ in range(tries(1, 10)):
        seen: List[int] = []

        def slow_at_first(message: Any, seen: List[int] = seen) -> None:
            if not seen:
                breathe(8 * SOON)
            seen.append(len(message.text))

        tally.tried(fault)
        # Far more than a runtime may be held up on a busy machine.
        client = client_of(serve(script), max_buffered=256 * 1024, ping_interval=SOON, ping_timeout=6 * SOON)
        assert client.query("hi", on_command_output=slow_at_first, timeout=4 * PATIENCE).text == "done"
        assert seen == [65536] * count
        tally.survived(fault)


def test_a_slow_callback_whose_peer_is_gone(serve: Serve, tally: Tally) -> None:
    """Noticed behind the callback's back, and said as soon as it returns; what had come before is handed over first."""
    fault = "silence: noticed during a slow callback"
    deaf = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"), assistant("b"))
        wait(deaf)
        peer.cut(reset=True)

    for _ in range(tries(1, 10)):
        deaf.clear()
        tally.tried(fault)
        seen: List[str] = []

        def slow(message: Any, seen: List[str] = seen) -> None:
            seen.extend(message.text_blocks)
            if seen == ["a"]:
                breathe(3 * SOON)

        watch = Stopwatch()
        with pytest.raises(ConnectionLostError, match="ping"):
            client_of(serve(script), **KEEPALIVE).query("hi", on_assistant_message=slow)
        assert seen == ["a", "b"]
        assert watch.seconds < PATIENCE - 2
        deaf.set()
        tally.survived(fault)


# idle_timeout: no message for that long, while the caller waits for one.


def test_heartbeats_keep_an_idle_call_alive(tmp_path: Path, tally: Tally) -> None:
    """Until the command says something, for which it waits far longer than `idle_timeout`."""
    fault = "silence, mistaken: heartbeats within idle_timeout"
    with LocalRuntime("shell", root=str(tmp_path), heartbeat_interval=0.05) as runtime:
        client = client_of(runtime)
        for number in range(tries(1, 10)):
            tally.tried(fault)
            go = tmp_path / f"go{number}"
            watch = Stopwatch()

            def on_heartbeat(_: Any, go: Path = go, watch: Stopwatch = watch) -> None:
                if watch.seconds > 2.6:
                    go.touch()

            done = client.execute_commands(
                [f"until test -e {go}; do sleep 0.02; done; echo went"],
                on_heartbeat=on_heartbeat,
                idle_timeout=2.0,
                timeout=4 * PATIENCE,
            )
            assert done.results[0].stdout == "went\n"
            assert watch.seconds > 2.6
            tally.survived(fault)


def test_idle_without_heartbeats(tmp_path: Path, tally: Tally) -> None:
    """The call ends, what runs is cancelled, and the session goes on."""
    fault = "silence: idle_timeout"
    with LocalRuntime("shell", root=str(tmp_path), kill_grace=0.1) as runtime, client_of(runtime).session() as session:
        for _ in range(tries(2, 30)):
            tally.tried(fault)
            watch = Stopwatch()
            with pytest.raises(AgentRuntimeError) as caught:
                session.execute_commands(["echo first; sleep 60"], idle_timeout=SOON)
            assert SOON <= watch.seconds < PATIENCE - 2
            assert (caught.value.metadata or {})["timeout_type"] == "idle_timeout"
            assert session.execute_commands(["echo next"], timeout=PATIENCE).results[0].stdout == "next\n"
            tally.survived(fault)


def test_a_slow_callback_is_not_idle(serve: Serve, tally: Tally) -> None:
    """The time that a callback takes is not the runtime's: the next message has come long before."""
    fault = "silence, mistaken: a callback slower than idle_timeout"

    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            peer.send(assistant("a"), assistant("b"))
            answer(peer, message)

    for _ in range(tries(1, 10)):
        tally.tried(fault)
        seen: List[str] = []

        def slow_at_first(message: Any, seen: List[str] = seen) -> None:
            if not seen:
                breathe(1.0)
            seen.extend(message.text_blocks)

        client = client_of(serve(script))
        said = client.query("hi", on_assistant_message=slow_at_first, idle_timeout=0.8, timeout=PATIENCE).text
        assert (said, seen) == ("hi", ["a", "b"])
        tally.survived(fault)
