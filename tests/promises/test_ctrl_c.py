"""Ctrl-C in a blocked call cancels the run on the runtime, then propagates; the session stays usable."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import weakref
from typing import Any, Callable, List
from unittest import mock

import pytest

from runtimeuse_sync import ConnectionLostError
from runtimeuse_sync._connection.base import Connection
from runtimeuse_sync._threads import Start
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import BOTH, CANCELLED, SOON, Serve, answer, answer_all, assistant, caller_of, client_of, echo
from ..support.processes import killed_in_the_end
from ..support.servers import PATIENCE, Peer, PeerGone
from ..support.threads import InThread

CHILD = """
import sys
from runtimeuse_sync import RuntimeUseClient

client = RuntimeUseClient(sys.argv[1], model="m")

def say(*words):
    print(*words, flush=True)

def one_shot():
    client.query("echo started; sleep 60", on_assistant_message=lambda m: say(m.text_blocks[0]))

def commands():
    client.execute_commands(["echo started; sleep 60"], on_command_output=lambda m: say(m.text.strip()))

def shown():
    client.execute_commands("echo started; sleep 60", show=True)

def stream():
    with client.stream("echo started; sleep 60") as run:
        for message in run:
            say(message.text_blocks[0])

def session():
    with client.session() as session:
        try:
            session.query("echo started; sleep 60", on_assistant_message=lambda m: say(m.text_blocks[0]))
        finally:
            say(session.query("echo usable", timeout=10).text)

def connecting():
    say("started")
    client.query("hi")

try:
    {name}()
except KeyboardInterrupt:
    say("KeyboardInterrupt")
"""


def interrupted(name: str, url: str) -> str:
    """Runs one of the child's functions, sends SIGINT once it has started, and returns what it printed."""
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", CHILD.replace("{name}", name), url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed_in_the_end(child):
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        child.send_signal(signal.SIGINT)
        printed, complaints = child.communicate(timeout=PATIENCE)
    assert (child.returncode, complaints) == (0, "")
    return printed


@pytest.mark.parametrize("name", ["one_shot", "commands", "stream"])
def test_a_real_process(runtime: LocalRuntime, name: str) -> None:
    assert interrupted(name, runtime.ws_url) == "KeyboardInterrupt\n"


def test_a_real_process_with_a_session(runtime: LocalRuntime) -> None:
    assert interrupted("session", runtime.ws_url) == "usable\n\nKeyboardInterrupt\n"


def test_a_real_process_that_shows_what_comes(runtime: LocalRuntime) -> None:
    assert interrupted("shown", runtime.ws_url) == "KeyboardInterrupt\n"


def test_a_real_process_that_connects(serve: Serve) -> None:
    # A refused connection is tried again for ten seconds.
    assert interrupted("connecting", "ws://127.0.0.1:1") == "KeyboardInterrupt\n"


@pytest.mark.parametrize("in_session", [False, True])
def test_the_runtime_is_told(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        os.kill(os.getpid(), signal.SIGINT)
        peer.expect("cancel_message")
        if in_session:
            peer.send(CANCELLED)
            answer_all(peer)

    client = client_of(serve(script))
    if not in_session:
        with pytest.raises(KeyboardInterrupt):
            client.execute_commands(["sleep 60"])
        return
    with client.session() as session:
        with pytest.raises(KeyboardInterrupt):
            session.execute_commands(["sleep 60"])
        assert session.query("next", timeout=10).text == "next"


def test_leaving_a_session_by_an_interrupt(serve: Serve) -> None:
    """The interrupt comes out of the `with` block as it is, and the session ends properly."""
    server = serve(echo)

    def use() -> None:
        with client_of(server).session() as session:
            session.query("hi")
            raise KeyboardInterrupt("mine")

    with pytest.raises(KeyboardInterrupt) as caught:
        use()
    assert str(caught.value) == "mine"
    server.wait_for("end_session_message")


@pytest.mark.parametrize("what", ["query", "session", "wait_until_ready"])
def test_while_the_thread_of_the_connection_starts(serve: Serve, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    client = client_of(serve(tolerant_echo))
    call: Any = {
        "query": lambda: client.query("hi"),
        "session": lambda: client.session().open(),
        "wait_until_ready": client.wait_until_ready,
    }[what]
    with monkeypatch.context() as patch:
        interrupt_starts(patch)
        with pytest.raises(KeyboardInterrupt):
            call()
    assert client.query("next").text == "next"


@BOTH
def test_while_the_thread_of_a_callback_starts(serve: Serve, monkeypatch: pytest.MonkeyPatch, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        with contextlib.suppress(PeerGone):
            peer.accept()
            for message in peer.requests():
                if message["message_type"] == "invocation_message":
                    peer.send(assistant("hello"))
                answer(peer, message)

    options: Any = {"on_assistant_message": lambda _: None, "assistant_callback_timeout": 60, "timeout": 60}
    with caller_of(client_of(serve(script)), in_session) as caller:
        with monkeypatch.context() as patch:
            interrupt_starts(patch, first=0 if in_session else 1)
            with pytest.raises(KeyboardInterrupt):
                caller.query("hi", **options)
        assert caller.query("next", **options).text == "next"


def interrupt_starts(patch: pytest.MonkeyPatch, first: int = 0, when: Callable[[], object] = lambda: None) -> None:
    """Has an interrupt come right after the system has made a thread, of those from the `first` on."""
    begin, count = Start.begin, itertools.count()

    def begin_and_interrupt(start: Start) -> None:
        begin(start)
        if next(count) >= first:
            when()
            raise KeyboardInterrupt

    patch.setattr(Start, "begin", begin_and_interrupt)


@pytest.mark.parametrize("what", ["query", "stream", "commands"])
def test_the_runtime_is_told_before_the_connection_closes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The interrupt comes when the request has left, in the start of the thread; and closing is done at once."""
    sent = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        sent.set()
        peer.expect("cancel_message")

    close = Connection.close

    def close_wholly(connection: Connection) -> None:
        close(connection)
        while connection.inbox.closed is None:
            connection._thread.join(0.001)

    client = client_of(serve(script))
    call: Any = {
        "query": lambda: client.query("hi"),
        "stream": lambda: client.stream("hi").__enter__(),
        "commands": lambda: client.execute_commands(["sleep 60"]),
    }[what]
    interrupt_starts(monkeypatch, when=lambda: sent.wait(PATIENCE))
    monkeypatch.setattr(Connection, "close", close_wholly)
    with pytest.raises(KeyboardInterrupt):
        call()


def test_a_call_that_the_end_of_its_session_waited_for_in_vain_is_cancelled(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        sent.set()
        peer.expect("cancel_message")

    sent = threading.Event()
    session = client_of(serve(script)).session(end_session_timeout=0.2).open()
    other = InThread(session.query, "hi")
    assert sent.wait(PATIENCE)
    session.close()
    assert isinstance(other.error(), ConnectionLostError)


def tolerant_echo(peer: Peer) -> None:
    """Like `echo`, for clients that may leave before they have said anything."""
    if not peer.readable(PATIENCE) or not peer.sock.recv(1, 2):
        return
    echo(peer)


@pytest.mark.parametrize("in_session", [False, True])
def test_while_a_call_gives_back_what_it_took(serve: Serve, monkeypatch: pytest.MonkeyPatch, in_session: bool) -> None:
    """A second Ctrl-C while the first is still being cleaned up after."""
    from runtimeuse_sync._call import Call

    cancel = Call.cancel_on_runtime
    hits: List[bool] = []

    def cancel_and_interrupt(call: Call) -> None:
        cancel(call)
        if not hits:
            hits.append(True)
            raise KeyboardInterrupt("second")

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.expect("cancel_message")
        if in_session:
            peer.send(CANCELLED)
        answer_all(peer)

    client = client_of(serve(script))
    monkeypatch.setattr(Call, "cancel_on_runtime", cancel_and_interrupt)
    if in_session:
        with client.session() as session:
            with pytest.raises(KeyboardInterrupt, match="second"):
                session.query("hi", timeout=SOON)
            assert session.query("next", timeout=10).text == "next"
    else:
        with pytest.raises(KeyboardInterrupt, match="second"):
            client.query("hi", timeout=SOON)


def test_an_interrupt_on_the_way_into_a_run_leaves_the_session_usable(serve: Serve) -> None:
    with client_of(serve(echo)).session() as session:
        with mock.patch.object(weakref, "finalize", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            session.stream("interrupted").__enter__()
        assert session.query("next", timeout=10).text == "next"
