"""Safe to share: any thread may ask whether a session is healthy or closed, whatever else goes on."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any, List

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import LATE, Serve, Stopwatch, answer_all, assistant, client_of, echo, end, text, wait
from ..support.doubles import MemoryTransports
from ..support.servers import PATIENCE, Peer
from ..support.threads import InThread, when


def test_the_life_of_a_session(serve: Serve) -> None:
    session = client_of(serve(echo)).session()
    assert (session.closed, session.is_healthy()) == (False, False)
    with session:
        assert (session.closed, session.is_healthy()) == (False, True)
        session.query("one")
        assert (session.closed, session.is_healthy(timeout=60)) == (False, True)
        assert session.is_healthy(timedelta(minutes=1))
    assert (session.closed, session.is_healthy()) == (True, False)


def test_a_runtime_that_does_not_answer(serve: Serve) -> None:
    """Nothing arrives from a frozen sandbox, and nothing says that it is gone."""
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.answers_pings = False
        wait(over)
        end(peer)

    with client_of(serve(script)).session() as session:
        watch = Stopwatch()
        assert not session.is_healthy(timeout=0.2)
        assert 0.2 <= watch.seconds < LATE
        assert not session.closed
        over.set()


def test_a_pong_of_another_ping_is_no_answer(serve: Serve) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.answers_pings = False
        for payload in (b"", b"other", b"\0" * 8):
            peer.frame(0xA, payload)
        peer.send(assistant("nobody asked"))
        wait(over)
        end(peer)

    with client_of(serve(script)).session() as session:
        assert not session.is_healthy(timeout=0.2)
        over.set()


def test_the_keepalive_is_not_disturbed(serve: Serve) -> None:
    """One that is off stays off; one that is on still notices a runtime that answers nothing."""
    server = serve(echo)
    with client_of(server, ping_interval=None).session() as session:
        for _ in range(3):
            assert session.is_healthy()
        assert session.query("one").text == "one"
    assert server.peers[0].pings == 3

    def deaf(peer: Peer) -> None:
        peer.accept()
        peer.answers_pings = False
        peer.until_gone()

    def questions(seconds: float) -> int:
        """Returns how often one asks in vain before the keepalive, with such limits, ends the session."""
        session = client_of(serve(deaf), ping_interval=seconds, ping_timeout=seconds).session().open()
        while session.is_healthy(timeout=0.01):
            pass
        watch = Stopwatch()
        asked = 0
        while not session.closed:
            assert not session.is_healthy(timeout=0.01)
            asked += 1
            assert watch.seconds < PATIENCE
        session.close()
        return asked

    # A busy machine may need longer for two questions.
    assert any(questions(seconds) > 1 for seconds in (0.2, 1.0, 5.0))


def test_while_a_call_is_in_flight_and_in_its_callback(serve: Serve) -> None:
    asked = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("working"))
        opcode, payload = peer._frame()
        assert opcode == 0x9, "the callback's ping"
        peer.frame(0xA, payload)
        opcode, payload = peer._frame()
        assert opcode == 0x9, "the other thread's"
        peer.frame(0xA, payload)
        wait(asked)
        peer.send(text("done"))
        end(peer)

    in_callback: List[bool] = []
    with client_of(serve(script)).session() as session:
        called = threading.Event()

        def ask(_: Any) -> None:
            in_callback.append(session.is_healthy())
            called.set()

        caller = InThread(session.query, "one", on_assistant_message=ask)
        wait(called)
        assert session.is_healthy()
        asked.set()
        assert caller.result().text == "done"
    assert in_callback == [True]


@pytest.mark.parametrize("how", ["FIN", "RST", "close", "own close"])
def test_a_cut_while_it_asks(serve: Serve, how: str) -> None:
    pinged = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.answers_pings = False
        opcode, _ = peer._frame()
        assert opcode == 0x9
        pinged.set()
        if how == "close":
            peer.close(1001)
        elif how != "own close":
            peer.cut(reset=how == "RST")

    server = serve(script)
    session = client_of(server).session(end_session_timeout=0.2).open()
    asker = InThread(session.is_healthy, timeout=10 * PATIENCE)
    if how == "own close":
        wait(pinged)
        session.close()
    assert asker.result() is False
    assert when(lambda: session.closed)
    session.close()


def test_many_threads_ask_at_once(serve: Serve) -> None:
    with client_of(serve(echo)).session() as session:
        callers = [InThread(session.query, str(number)) for number in range(4)]
        askers = [InThread(session.is_healthy, 60) for _ in range(16)]
        assert all(asker.result() for asker in askers)
        assert [caller.result().text for caller in callers] == ["0", "1", "2", "3"]
        channel: Any = session._channel
        assert channel.connection._asked_pings._waiting == {}


def test_a_full_inbox_does_not_make_it_unhealthy(serve: Serve) -> None:
    """Its pong waits behind messages that nobody takes, so nothing says that the runtime is gone."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(*[assistant("x" * 10_000)] * 500)
        peer.send(text("done"))
        answer_all(peer)

    with client_of(serve(script), max_buffered=1000).session() as session, session.stream("one") as run:
        next(run)
        channel: Any = session._channel
        when(lambda: channel.connection.paused)
        assert session.is_healthy(timeout=0.1)
        assert run.result.text == "done"


def test_a_custom_transport_has_no_pings() -> None:
    transports = MemoryTransports()
    session = RuntimeUseClient(transport=transports, model="m").session().open()
    transport = transports.next_connected()
    assert session.is_healthy()
    assert transport.sent.empty()
    transport.hang_up()
    assert when(lambda: session.closed)
    assert not session.is_healthy()
    session.close()


def test_the_embedded_runtime_answers_while_it_works(runtime: LocalRuntime) -> None:
    with client_of(runtime).session() as session, session.stream("echo one; sleep 60") as run:
        next(run)
        assert session.is_healthy(timeout=60)


@pytest.mark.parametrize(
    ("timeout", "kind", "said"),
    [
        (0, ValueError, "more than 0"),
        (-1, ValueError, "more than 0"),
        (timedelta(0), ValueError, "more than 0"),
        (float("nan"), ValueError, "more than 0"),
        (None, TypeError, "timeout must be a number of seconds, not NoneType"),
        ("5", TypeError, "timeout must be a number of seconds, not str"),
        (True, TypeError, "timeout must be a number of seconds, not bool"),
    ],
)
def test_bad_timeouts(timeout: Any, kind: Any, said: str) -> None:
    session = RuntimeUseClient("ws://localhost:1", model="m").session()
    with pytest.raises(kind, match=said):
        session.is_healthy(timeout=timeout)
