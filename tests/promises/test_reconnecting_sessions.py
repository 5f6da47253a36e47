"""Retry only what is safe: a session that was cut while idle says that nothing was sent, or connects again."""

from __future__ import annotations

import socket
import threading
from typing import Any, Callable, Dict, List, Optional

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    CancelledException,
    ConnectionLostError,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    SessionStateError,
)
from runtimeuse_sync._websocket.poller import Poller

from ..support.builders import (
    SOON,
    Serve,
    answer,
    answer_all,
    assistant,
    client_of,
    echo,
    interrupt_when,
    put_anywhere,
    text,
    upload,
    wait,
)
from ..support.doubles import MemoryTransports
from ..support.servers import CLOSE, PATIENCE, FaultServer, Message, Peer, frame, free_port
from ..support.threads import InThread, when

#: The ways in which a runtime, or what is between, ends a connection that is idle.
CUTS: Dict[str, Callable[[Peer], None]] = {
    "FIN": Peer.cut,
    "RST": lambda peer: peer.cut(reset=True),
    "close frame": lambda peer: peer.close(1001, "going away"),
    "junk": lambda peer: peer.raw(b"HTTP/1.1 408 Request Timeout\r\n\r\n"),
}

ALL_CUTS = pytest.mark.parametrize("cut", CUTS.values(), ids=list(CUTS))


class Cutting:
    """A script: answers so many requests on each connection, then cuts it; the last connection answers all.

    Attributes:
        cuts: How many connections have been cut.
    """

    def __init__(self, cut: Callable[[Peer], None] = Peer.cut, *, times: int = 1, after: int = 1) -> None:
        self.cuts = 0
        self._cut, self._times, self._after = cut, times, after
        self._changed = threading.Condition()

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        # What ends the connection must not wait until the client has confirmed the answer before.
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, message in enumerate(peer.requests(), 1):
            answer(peer, message)
            if number == self._after and peer.number < self._times:
                self._cut(peer)
                with self._changed:
                    self.cuts += 1
                    self._changed.notify_all()
                break

    def wait_for(self, count: int = 1) -> None:
        """Waits until so many connections have been cut: what ends them has then arrived, as it is this machine's."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.cuts >= count, PATIENCE), self.cuts


def asked(server: FaultServer) -> List[str]:
    return [message["user_prompt"] for message in server.said("invocation_message")]


# The error.


@ALL_CUTS
def test_the_error_after_an_idle_cut_says_that_nothing_was_sent(serve: Serve, cut: Callable[[Peer], None]) -> None:
    script = Cutting(cut)
    server = serve(script)
    with client_of(server).session() as session:
        assert session.query("one").text == "one"
        script.wait_for()
        # A `ProtocolError` after the junk, a `ConnectionLostError` after all others.
        with pytest.raises(AgentRuntimeError) as caught:
            session.query("two")
        assert str(caught.value.args[0]).endswith("; nothing was sent")
        assert caught.value.metadata == {"in_flight": "query", "sent": False}
        assert session.closed
        assert not session.is_healthy()
        assert "lost" in repr(session)
    assert asked(server) == ["one"]


def test_the_error_of_a_request_that_was_sent_does_not_say_so(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.cut()

    with client_of(serve(script)).session() as session, pytest.raises(ConnectionLostError) as caught:
        session.query("one")
    assert "nothing was sent" not in str(caught.value)
    assert caught.value.metadata == {"in_flight": "query"}


@pytest.mark.parametrize("reconnect", [False, True])
def test_what_has_arrived_is_read_before_a_request_is_sent(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, reconnect: bool
) -> None:
    """Also what arrives when the connection's thread has looked at the socket for the last time before it sends."""
    cut, go_on, blind = threading.Event(), threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        if peer.number == 0:
            answer(peer, peer.expect("invocation_message"))
            wait(go_on)
            peer.cut()
            cut.set()
            return
        answer_all(peer)

    server = serve(script)
    with client_of(server).session(reconnect=reconnect) as session:
        assert session.query("one").text == "one"
        channel: Any = session._channel
        poller, look = channel.connection._poller, Poller.wait

        def wait_blindly(self: Poller, *arguments: Any) -> Any:
            if self is not poller:
                return look(self, *arguments)
            blind.set()
            look(self, None, False, False, arguments[3])
            return False, False

        monkeypatch.setattr(Poller, "wait", wait_blindly)
        # Ends the wait that still looks.
        channel.connection.poke()
        wait(blind)
        go_on.set()
        wait(cut)
        assert not session.closed
        if reconnect:
            assert session.query("two").text == "two"
        else:
            with pytest.raises(ConnectionLostError, match="nothing was sent"):
                session.query("two")
    assert asked(server) == (["one", "two"] if reconnect else ["one"])


# Reconnecting.


@ALL_CUTS
def test_a_session_that_reconnects_goes_on(serve: Serve, cut: Callable[[Peer], None]) -> None:
    script = Cutting(cut, times=3, after=2)
    server = serve(script)
    with client_of(server).session(reconnect=True) as session:
        for number in range(8):
            assert session.query(str(number)).text == str(number)
            script.wait_for((number + 1) // 2 if number < 6 else 3)
            assert not session.closed
    assert asked(server) == [str(number) for number in range(8)]
    assert len(server.peers) == 4
    assert len(server.said("end_session_message")) == 1


def test_streams_and_commands_reconnect_too(serve: Serve) -> None:
    script = Cutting(times=2)
    server = serve(script)
    with client_of(server).session(reconnect=True) as session:
        with session.stream("one") as run:
            assert run.result.text == "one"
        script.wait_for(1)
        with session.stream_commands(["two"], idle_timeout=60) as commands:
            assert [item.command for item in commands.result.results] == ["two"]
        script.wait_for(2)
        assert session.execute_commands(["three"]).results[0].command == "three"
    assert len(server.peers) == 3


@pytest.mark.parametrize("said", [False, True], ids=["at once", "after a message"])
def test_a_request_that_was_sent_is_never_sent_again(serve: Serve, said: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt") == "two":
                if said:
                    peer.send(assistant("working"))
                peer.cut()
                return
            answer(peer, message)

    server = serve(script)
    with client_of(server).session(reconnect=True) as session:
        assert session.query("one").text == "one"
        with pytest.raises(ConnectionLostError, match="the request counts as sent, so it was not sent again"):
            session.query("two")
        assert session.query("three").text == "three"
    assert asked(server) == ["one", "two", "three"]


def test_many_callers_share_the_new_connection(serve: Serve) -> None:
    script = Cutting()
    server = serve(script)
    with client_of(server).session(reconnect=True) as session:
        assert session.query("first").text == "first"
        script.wait_for()
        callers = [InThread(session.query, str(number)) for number in range(8)]
        assert [caller.result().text for caller in callers] == [str(number) for number in range(8)]
    assert sorted(asked(server)) == sorted(["first", *map(str, range(8))])
    assert len(server.peers) == 2


def test_a_call_left_early_before_the_cut_does_not_matter(serve: Serve) -> None:
    cut = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        if peer.number == 0:
            peer.expect("invocation_message")
            peer.send(assistant("working"))
            peer.expect("cancel_message")
            peer.cut()
            cut.set()
            return
        answer_all(peer)

    with client_of(serve(script)).session(reconnect=True) as session:
        with session.stream("one") as run:
            next(iter(run))
        wait(cut)
        assert session.query("two").text == "two"


def test_it_does_not_reconnect_once_artifacts_were_asked_for(serve: Serve) -> None:
    script = Cutting(times=2)
    server = serve(script)
    options: Any = {"artifacts_dir": "out", "on_artifact_upload_request": put_anywhere}
    session = client_of(server).session(reconnect=True).open()
    assert session.query("one").text == "one"
    script.wait_for(1)
    # Of a call whose request is not sent before the cut nothing can be missing.
    assert session.query("two", **options).text == "two"
    script.wait_for(2)
    for _ in range(2):
        with pytest.raises(ConnectionLostError, match="nothing was sent; no new connection was opened, because artif"):
            session.query("three")
    assert session.closed
    with pytest.raises(ConnectionLostError, match="the end of the session"):
        session.close()
    assert asked(server) == ["one", "two"]
    assert len(server.peers) == 2


def test_it_does_not_reconnect_where_a_file_was_announced_unasked(serve: Serve) -> None:
    cut = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("one"), upload("/out/a"))
        peer.cut()
        cut.set()

    session = client_of(serve(script)).session(reconnect=True).open()
    assert session.query("one").text == "one"
    wait(cut)
    with pytest.raises(ConnectionLostError, match="artifacts of earlier calls"):
        session.query("two")
    with pytest.raises(ConnectionLostError):
        session.close()


# Where reconnecting fails.


def test_a_runtime_that_is_down_for_good_and_one_that_comes_back() -> None:
    with free_port() as port:
        script = Cutting(times=9)
        with FaultServer(script, port=port) as server:
            client = client_of(server, connect_timeout=SOON)
            session = client.session(reconnect=True).open()
            assert session.query("one").text == "one"
            script.wait_for()
        for _ in range(2):
            with pytest.raises(RuntimeConnectionError, match="could not connect") as caught:
                session.query("two")
            assert not isinstance(caught.value, ConnectionLostError)
            assert not session.closed
            assert not session.is_healthy()
        with FaultServer(echo, port=port) as server:
            assert session.query("three").text == "three"
            session.close()
            assert asked(server) == ["three"]


def test_the_deadline_holds_while_connecting_again() -> None:
    with free_port() as port:
        script = Cutting()
        with FaultServer(script, port=port) as server:
            session = client_of(server, connect_timeout=None).session(reconnect=True).open()
            assert session.query("one").text == "one"
            script.wait_for()
        with pytest.raises(RunTimeoutError, match="Query did not end within"):
            session.query("two", timeout=0.3)
        with FaultServer(echo, port=port):
            assert session.query("three").text == "three"
            session.close()


@pytest.mark.parametrize("how", ["session", "run", "interrupt", "close"])
def test_connecting_again_can_be_ended(how: str) -> None:
    with free_port() as port:
        script = Cutting()
        with FaultServer(script, port=port) as server:
            session = client_of(server, connect_timeout=None).session(reconnect=True, end_session_timeout=0.3).open()
            assert session.query("one").text == "one"
            script.wait_for()
        trying = threading.Event()

        def watch() -> None:
            channel: Any = session._channel
            first = channel.connection
            when(lambda: channel.connection is not first and channel.connection.last_failure)
            trying.set()
            if how == "session":
                session.abort()
            elif how == "run":
                run.abort()
            elif how == "close":
                session.close()

        run = session.stream("two")
        expected: Any = {"interrupt": KeyboardInterrupt, "close": RuntimeConnectionError}.get(how, CancelledException)
        watcher = InThread(watch)
        interrupter = interrupt_when(trying) if how == "interrupt" else None
        with pytest.raises(expected), run:
            pytest.fail(run.result.text)
        watcher.result()
        if interrupter is not None:
            interrupter.result()
        with FaultServer(echo, port=port):
            if how == "close":
                with pytest.raises(SessionStateError, match="the session is closed"):
                    session.query("three")
            else:
                assert session.query("three").text == "three"
            session.close()


def test_a_runtime_that_hangs_up_at_once_is_not_tried_without_end(serve: Serve) -> None:
    cut = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.number:
            peer.raw(peer.handshake() + frame(CLOSE))
            return
        peer.upgrade()
        answer(peer, peer.expect("invocation_message"))
        peer.cut()
        cut.set()

    server = serve(script)
    with client_of(server).session(reconnect=True) as session:
        assert session.query("one").text == "one"
        wait(cut)
        with pytest.raises(ConnectionLostError, match="nothing was sent"):
            session.query("two")
        assert len(server.peers) == 6
    assert asked(server) == ["one"]


def test_the_first_connection_is_not_tried_again(serve: Serve) -> None:
    server = serve(lambda peer: peer.refuse("404 Not Found"))
    session = client_of(server).session(reconnect=True)
    with pytest.raises(RuntimeConnectionError, match="404"):
        session.open()
    assert session.closed
    assert len(server.peers) == 1


# What stays.


def test_the_secrets_of_earlier_calls_stay_masked(serve: Serve) -> None:
    cut = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect("invocation_message")
        if peer.number == 0:
            answer(peer, message)
            peer.cut()
            cut.set()
            return
        peer.send({"message_type": "error_message", "error": "the password is hunter2hunter2", "metadata": {}})
        answer_all(peer)

    with client_of(serve(script)).session(reconnect=True) as session:
        session.query("one", secrets_to_redact=["hunter2hunter2"])
        wait(cut)
        with pytest.raises(Exception, match=r"the password is \[REDACTED\]"):
            session.query("two")


def test_the_end_of_a_session_that_is_cut_opens_no_connection(serve: Serve) -> None:
    script = Cutting(times=9)
    server = serve(script)
    with client_of(server).session(reconnect=True) as session:
        assert session.query("one").text == "one"
        script.wait_for()
    assert session.closed
    assert len(server.peers) == 1


def test_a_custom_transport_reconnects() -> None:
    transports = MemoryTransports()
    session = RuntimeUseClient(transport=transports, model="m").session(reconnect=True).open()
    first = transports.next_connected()
    prompts: List[str] = []

    def play(transport: Any, then: Callable[[], None]) -> Callable[[], None]:
        def work() -> None:
            message: Message = transport.next_sent()
            prompts.append(message["user_prompt"])
            transport.say(text(message["user_prompt"]))
            then()

        return work

    player = InThread(play(first, first.hang_up))
    assert session.query("one").text == "one"
    player.result()
    wait(first.closed)
    caller = InThread(session.query, "two")
    second = transports.next_connected()
    play(second, lambda: None)()
    assert caller.result().text == "two"
    closer = InThread(session.close)
    assert second.next_sent()["message_type"] == "end_session_message"
    second.hang_up()
    closer.result()
    assert prompts == ["one", "two"]


def test_it_is_logged_when_a_session_has_reconnected(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    script = Cutting()
    with client_of(serve(script)).session(reconnect=True) as session:
        session.query("one")
        script.wait_for()
        session.query("two")

        def logged() -> Optional[str]:
            return next((record.getMessage() for record in caplog.records if "again" in record.getMessage()), None)

        said = when(logged)
    assert said.startswith("the connection to ws://127.0.0.1:")
    assert said.endswith("the runtime closed the connection without a closing handshake; connected again")


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_reconnect_must_be_a_bool(value: Any) -> None:
    with pytest.raises(TypeError, match="reconnect must be a bool, not"):
        RuntimeUseClient("ws://localhost:1", model="m").session(reconnect=value)
