"""Abort from anywhere: `abort()` never blocks, and the blocked call raises promptly."""

from __future__ import annotations

import functools
import gc
import threading
import time
from typing import Any, Callable, List

import pytest

from runtimeuse_sync import CancelledException, RuntimeUseClient, _call

from ..support.builders import (
    LATE,
    Serve,
    Stopwatch,
    answer_all,
    begin_until_cancelled,
    client_of,
    echo,
    end,
    on_alarm,
    ring,
    text,
    wait,
)
from ..support.servers import PATIENCE, Peer, black_hole, free_port
from ..support.threads import InThread

#: What "promptly" may come to on a busy machine, in seconds. What is aborted here would never end.
PROMPT = LATE


class Clock:
    """Runs an abort, notes when, and asserts that it came back and took effect promptly."""

    def __init__(self, abort: Callable[[], None]) -> None:
        self._abort = abort
        self._watch: List[Stopwatch] = []

    def __call__(self, *_: Any) -> None:
        self._watch.append(Stopwatch())
        self._abort()
        assert self._watch[0].seconds < PROMPT

    def assert_prompt(self) -> None:
        assert self._watch[0].seconds < PROMPT


class Stubborn:
    """A runtime that ignores the cancel of what it was asked first, and answers it long after.

    Attributes:
        asked: It has been asked.
        ended: Set by the test when its call has ended, which must not wait for this runtime.
    """

    def __init__(self, *, in_session: bool, rings: bool = False) -> None:
        self._rings = rings
        self.asked = threading.Event()
        self.ended = threading.Event()
        self._in_session = in_session

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        peer.receive()
        self.asked.set()
        if self._rings:
            ring()
        peer.expect("cancel_message")
        if self._in_session:
            wait(self.ended)
            peer.send(text("late"))
        answer_all(peer)


def soon(abort: Clock) -> None:
    # Long enough for the caller to wait; if it was not, the test still holds.
    time.sleep(0.1)
    abort()


@pytest.mark.parametrize("kind", ["client", "session", "run", "session run"])
def test_from_another_thread(serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    # Else the main thread, which waits in slices, would notice an abort that does not wake it.
    monkeypatch.setattr(_call, "SLICE", PATIENCE)
    runtime = Stubborn(in_session="session" in kind)
    client = client_of(serve(runtime))
    if kind == "client":
        abort = Clock(client.abort)
        call = InThread(client.query, "hi")
        wait(runtime.asked)
        abort()
        with pytest.raises(CancelledException):
            call.result()
        abort.assert_prompt()
        return
    if kind == "run":
        run: Any = client.stream("hi")
        abort = Clock(run.abort)
        with run:
            wait(runtime.asked)
            aborter = InThread(soon, abort)
            with pytest.raises(CancelledException):
                next(run)
        abort.assert_prompt()
        aborter.result()
        return
    with client.session() as session:
        run = session.stream("hi")
        abort = Clock(session.abort if kind == "session" else run.abort)
        with run:
            wait(runtime.asked)
            aborter = InThread(soon, abort)
            with pytest.raises(CancelledException):
                _ = run.result
        abort.assert_prompt()
        aborter.result()
        runtime.ended.set()
        assert session.query("next", timeout=10).text == "next"


@pytest.mark.parametrize("kind", ["session", "run"])
def test_from_a_signal_handler(serve: Serve, kind: str) -> None:
    runtime = Stubborn(in_session=True, rings=True)
    with client_of(serve(runtime)).session() as session:
        run = session.stream("hi")
        abort = Clock({"session": session.abort, "run": run.abort}[kind])
        with on_alarm(abort), pytest.raises(CancelledException), run:
            _ = run.result
        abort.assert_prompt()
        runtime.ended.set()
        assert session.query("next", timeout=10).text == "next"


def test_of_a_one_shot_from_a_signal_handler(serve: Serve) -> None:
    client = client_of(serve(Stubborn(in_session=False, rings=True)))
    abort = Clock(client.abort)
    with on_alarm(abort), pytest.raises(CancelledException):
        client.query("hi")
    abort.assert_prompt()


@pytest.mark.parametrize("attempt", range(10))
def test_the_cancel_leaves_however_soon_the_abort_comes(serve: Serve, attempt: int) -> None:
    """At the moment when the request arrives, the connection's thread may still be on its way back from sending it."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        client.abort()
        peer.expect("cancel_message")

    client = client_of(serve(script))
    with pytest.raises(CancelledException):
        client.query("hi")


def test_from_a_finalizer(serve: Serve) -> None:
    class Dying:
        def __init__(self, abort: Callable[[], None]) -> None:
            self._abort = abort
            self._me = self

        def __del__(self) -> None:
            self._abort()

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "a")

    client = client_of(serve(script))

    def collect(_: Any) -> None:
        Dying(client.abort)
        gc.collect()

    with pytest.raises(CancelledException):
        client.query("hi", on_assistant_message=collect)


def test_before_the_connection_is_up(serve: Serve) -> None:
    with black_hole() as port:
        clients = [RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m")]
        server = serve(lambda peer: peer.read_request())
        clients.append(client_of(server))
        with free_port() as closed:
            clients.append(RuntimeUseClient(f"ws://127.0.0.1:{closed}", model="m"))
            for client in clients:
                for call in (functools.partial(client.query, "hi"), client.wait_until_ready):
                    abort = Clock(client.abort)
                    with on_alarm(abort, every=0.2), pytest.raises(CancelledException):
                        call()
                    abort.assert_prompt()
                session = client.session()
                abort = Clock(session.abort)
                with on_alarm(abort, every=0.2), pytest.raises(CancelledException):
                    session.open()
                abort.assert_prompt()


def test_while_waiting_for_the_turn(serve: Serve) -> None:
    """A run's abort ends it while it waits; a session's ends only the call that has the turn."""
    runtime = Stubborn(in_session=True)
    with client_of(serve(runtime)).session() as session:
        first = InThread(session.query, "first")
        wait(runtime.asked)
        second = session.stream("second")
        abort = Clock(second.abort)
        with on_alarm(abort, every=0.2), pytest.raises(CancelledException):
            second.__enter__()
        abort.assert_prompt()
        assert first.is_alive()
        third = InThread(session.query, "third")
        session.abort()
        with pytest.raises(CancelledException):
            first.result()
        runtime.ended.set()
        assert third.result().text == "third"


def test_a_clients_abort_ends_all_its_one_shots_and_no_session(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        if peer.receive()["user_prompt"] == "one-shot":
            peer.expect("cancel_message")
            return
        peer.expect("cancel_message")
        peer.send(text("late"))
        end(peer)

    server = serve(script)
    client = client_of(server)
    calls = [InThread(client.query, "one-shot") for _ in range(8)]
    server.wait_for("invocation_message", 8)
    with client.session() as session, session.stream("in session") as run:
        server.wait_for("invocation_message", 9)
        client.abort()
        for call in calls:
            with pytest.raises(CancelledException):
                call.result()
        assert not run._call.aborted
        run.abort()


def test_with_nothing_in_flight_it_has_no_effect(serve: Serve) -> None:
    client = client_of(serve(echo))
    client.abort()
    assert client.query("hi").text == "hi"
    client.abort()
    with client.session() as session:
        session.abort()
        assert session.query("one").text == "one"
        session.abort()
        client.abort()
        assert session.query("two").text == "two"
        run = session.stream("three")
        with run:
            assert run.result.text == "three"
            run.abort()
            assert run.result.text == "three"
        run.abort()
        assert session.query("four", timeout=10).text == "four"
    session.abort()


def test_of_a_run_before_it_starts(serve: Serve) -> None:
    client = client_of(serve(echo))
    run = client.stream("hi")
    run.abort()
    with pytest.raises(CancelledException):
        run.__enter__()
    assert client.query("next").text == "next"


@pytest.mark.parametrize("in_session", [False, True])
def test_the_cancel_leaves_while_the_caller_is_stuck_in_a_callback(serve: Serve, in_session: bool) -> None:
    cancelled, inside = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "a")
        cancelled.set()
        if in_session:
            peer.send(text("late"))
            end(peer)

    def stuck(_: Any) -> None:
        inside.set()
        wait(cancelled)

    client = client_of(serve(script))
    session = client.session().open() if in_session else None
    caller: Any = session or client
    call = InThread(caller.query, "hi", on_assistant_message=stuck)
    wait(inside)
    caller.abort()
    with pytest.raises(CancelledException):
        call.result()
    if session is not None:
        session.close()


def test_aborts_from_many_threads_at_once(serve: Serve) -> None:
    client = client_of(serve(echo))
    stop = threading.Event()

    def keep_aborting() -> None:
        while not stop.is_set():
            session.abort()
            client.abort()

    with client.session() as session:
        aborters = [InThread(keep_aborting) for _ in range(3)]
        outcomes: List[str] = []
        # Sooner or later one is hit, and on no machine is it known which.
        while len(outcomes) < 60 or "cancelled" not in outcomes:
            number = len(outcomes)
            try:
                assert session.query(f"{number}", timeout=15).text == f"{number}"
                outcomes.append("answered")
            except CancelledException:
                outcomes.append("cancelled")
        stop.set()
        for aborter in aborters:
            aborter.result()
        assert session.query("last", timeout=15).text == "last"
