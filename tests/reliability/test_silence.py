"""A peer that falls silent: it stops reading, or is frozen; both are noticed within the keepalive bound."""

from __future__ import annotations

import threading
from typing import Any, Dict

import pytest

from runtimeuse_sync import (
    CancelledException,
    ConnectionLostError,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
)

from ..support.builders import Serve, Stopwatch, client_of, echo, wait
from ..support.servers import PATIENCE, Peer
from ..support.tally import Tally, seeded, tries
from ..support.threads import InThread
from .frozen import FrozenRuntime

#: Half of the keepalive bound, in seconds.
SOON = 0.2
KEEPALIVE: Any = {"ping_interval": SOON, "ping_timeout": SOON}

#: More than all buffers between two sockets can hold.
TOO_MUCH = "x" * (16 << 20)


def noticed(error: RuntimeUseError) -> bool:
    return type(error) is ConnectionLostError and f"did not answer a ping within {SOON:g} s" in str(error)


GIVES_UP: Dict[str, Any] = {
    "keepalive": (KEEPALIVE, {}, noticed),
    "timeout": ({}, {"timeout": 1.0}, lambda error: type(error) is RunTimeoutError),
    "idle_timeout": ({}, {"idle_timeout": 1.0}, lambda error: "No message received" in str(error)),
    "abort": ({}, {}, lambda error: type(error) is CancelledException),
}


@pytest.mark.parametrize("gives_up", GIVES_UP)
def test_a_peer_that_stops_reading(serve: Serve, tally: Tally, gives_up: str) -> None:
    """In the middle of a request, which so never wholly leaves."""
    fault = "silence: a peer that stops reading"
    settings, options, is_right = GIVES_UP[gives_up]
    for in_session in seeded(gives_up).sample([False, True] * 5, tries(1, 10)):
        deaf, over = threading.Event(), threading.Event()

        def script(peer: Peer, deaf: threading.Event = deaf, over: threading.Event = over) -> None:
            if peer.number:
                return echo(peer)
            peer.accept()
            peer._exactly(1000)
            deaf.set()
            wait(over)
            return peer.cut(reset=True)

        tally.tried(fault)
        server = serve(script)
        client = client_of(server, **settings)
        caller: Any = client.session(end_session_timeout=SOON).open() if in_session else client
        aborting = InThread(abort_when, deaf, caller) if gives_up == "abort" else None
        watch = Stopwatch()
        with pytest.raises(RuntimeUseError) as caught:
            caller.query(TOO_MUCH, **options)
        assert is_right(caught.value), caught.value
        if aborting:
            aborting.result()
        if in_session:
            caller.close()
        assert watch.seconds < PATIENCE - 2
        over.set()
        # Not with a keepalive that a busy machine is too slow for.
        assert client_of(server).query("next", timeout=PATIENCE).text == "next"
        tally.survived(fault)


def abort_when(event: threading.Event, caller: Any) -> None:
    wait(event)
    caller.abort()


# SIGSTOP: the process is frozen, and the system goes on to acknowledge what it is sent.


def while_idle(client: RuntimeUseClient, runtime: FrozenRuntime) -> None:
    with client.session(end_session_timeout=SOON) as session:
        session.execute_commands(["true"], timeout=PATIENCE)
        runtime.freeze()
        session.execute_commands(["true"])


def in_the_middle_of_a_stream(client: RuntimeUseClient, runtime: FrozenRuntime) -> None:
    with client.stream_commands(["while true; do echo more; sleep 0.01; done"]) as run:
        next(run)
        runtime.freeze()
        for _ in run:
            pass


def before_its_first_message(client: RuntimeUseClient, runtime: FrozenRuntime) -> None:
    with client.stream_commands(["sleep 60"]) as run:
        runtime.freeze()
        run.result.results.clear()


def at_the_end_of_a_session(client: RuntimeUseClient, runtime: FrozenRuntime) -> None:
    session = client.session(end_session_timeout=PATIENCE).open()
    options: Any = {"artifacts_dirs": ["out"], "on_artifact_upload_request": lambda _: None}
    try:
        session.execute_commands(["true"], timeout=PATIENCE, **options)
    finally:
        runtime.freeze()
        session.close()


MOMENTS = [while_idle, in_the_middle_of_a_stream, before_its_first_message, at_the_end_of_a_session]


def test_frozen_by_sigstop(frozen: FrozenRuntime, tally: Tally) -> None:
    """Noticed within the keepalive bound; thawed, it serves the next call."""
    fault = "silence: SIGSTOP on the runtime"
    for moment in seeded(fault).sample(MOMENTS * 10, tries(3, 10 * len(MOMENTS))):
        tally.tried(fault)
        watch = Stopwatch()
        with pytest.raises(ConnectionLostError) as caught:
            moment(RuntimeUseClient(frozen.url, **KEEPALIVE), frozen)
        assert noticed(caught.value), caught.value
        assert SOON <= watch.seconds < PATIENCE - 2
        frozen.thaw()
        assert RuntimeUseClient(frozen.url).execute_commands(["echo next"]).results[0].stdout == "next\n"
        tally.survived(fault)


@pytest.mark.timeout(600)
def test_frozen_at_random_instants(frozen: FrozenRuntime, tally: Tally) -> None:
    """Connecting, asking, answering, ending: whatever is under way."""
    fault = "silence: SIGSTOP at random instants"
    chance = seeded(fault)
    client = RuntimeUseClient(frozen.url, connect_timeout=2 * SOON, **KEEPALIVE)

    def talk() -> None:
        while True:
            with client.session(end_session_timeout=2 * SOON) as session:
                for number in range(2):
                    done = session.execute_commands([f"echo {number}"])
                    assert done.results[0].stdout == f"{number}\n"

    for _ in range(tries(2, 150)):
        tally.tried(fault)
        timer = threading.Timer(chance.uniform(0, 0.1), frozen.freeze)
        timer.start()
        with pytest.raises(RuntimeConnectionError) as caught:
            talk()
        timer.join(PATIENCE)
        error = caught.value
        assert noticed(error) if isinstance(error, ConnectionLostError) else f"within {2 * SOON:g} s" in str(error)
        frozen.thaw()
        assert RuntimeUseClient(frozen.url).execute_commands(["echo next"]).results[0].stdout == "next\n"
        tally.survived(fault)
