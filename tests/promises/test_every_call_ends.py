"""Every call ends, with its own exception, and leaves nothing behind (the leak check around every test sees it)."""

from __future__ import annotations

from typing import Any

import pytest

from runtimeuse_sync import ConnectionLostError, RuntimeConnectionError, RuntimeUseClient, RuntimeUseError

from ..support.builders import BOTH, SOON, Serve, assistant, caller_of, client_of, echo, end, text
from ..support.servers import Peer


def test_a_session_lost_while_idle(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("one"))
        peer.cut()

    with client_of(serve(script)).session() as session:
        assert session.query("one").text == "one"
        with pytest.raises(ConnectionLostError):
            session.query("two", timeout=10)


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, Exception])
@BOTH
def test_whatever_a_callback_raises_comes_out(serve: Serve, raised: Any, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message["message_type"] == "invocation_message":
                peer.send(assistant("a"), text("done"))
            elif message["message_type"] == "end_session_message":
                peer.send({"message_type": "end_session_confirm_message"})

    mine = raised("mine")

    def fail(_: Any) -> None:
        raise mine

    with caller_of(client_of(serve(script)), in_session) as caller:
        with pytest.raises(raised) as caught:
            caller.query("hi", on_assistant_message=fail)
        assert caught.value is mine
        assert caught.value.__cause__ is None


def test_a_session_that_is_forgotten_closes_its_connection(serve: Serve) -> None:
    server = serve(echo)
    session = client_of(server).session().open()
    assert session.query("hi").text == "hi"
    with pytest.warns(ResourceWarning, match="unclosed"):
        del session


def test_nothing_listens() -> None:
    with pytest.raises(RuntimeConnectionError, match="refused") as caught:
        RuntimeUseClient("ws://127.0.0.1:1", model="m", connect_timeout=SOON).query("hi")
    assert isinstance(caught.value, RuntimeUseError)
    assert caught.value.status is None


def test_a_callback_that_raises_stop_iteration_does_not_end_the_loop_quietly(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("one"), text("done"))

    def stop(_: Any) -> None:
        raise StopIteration

    with client_of(serve(script)).stream("hi", on_assistant_message=stop) as run:
        with pytest.raises(RuntimeError, match="StopIteration"):
            next(run)


def test_the_end_of_a_session_is_answered(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        end(peer)

    with client_of(serve(script)).session():
        pass
