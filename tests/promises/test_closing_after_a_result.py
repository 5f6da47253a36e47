"""Every call ends: a one-shot closes its connection once a short result has come after which nothing may follow."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List

import pytest

from runtimeuse_sync import RuntimeUseClient

from ..support.builders import Serve, assistant, client_of, output, put_anywhere, ran, text
from ..support.servers import PATIENCE, Peer

LONG = text("x" * 20_000)


def with_a_callback(client: RuntimeUseClient, note: Any) -> str:
    return client.query("hi", on_assistant_message=note).text


def commands(client: RuntimeUseClient, note: Any) -> str:
    return client.execute_commands(["c"], on_command_output=note).results[0].command


def streamed(client: RuntimeUseClient, note: Any) -> str:
    with client.stream("hi") as run:
        for message in run:
            note(message)
        return run.result.text


def in_session(client: RuntimeUseClient, note: Any) -> str:
    with client.session() as session:
        return session.query("hi", on_assistant_message=note).text


def with_artifacts(client: RuntimeUseClient, note: Any) -> str:
    options: Dict[str, Any] = {"artifacts_dir": "/out", "on_artifact_upload_request": put_anywhere}
    answer: str = client.query("hi", on_assistant_message=note, **options).text
    return answer


@pytest.mark.parametrize(
    ("call", "answer"),
    [(with_a_callback, [assistant("a"), text("done")]), (commands, [output("a"), ran("c")])],
)
def test_while_the_caller_is_in_a_callback(serve: Serve, call: Callable[..., Any], answer: List[Any]) -> None:
    gone = threading.Event()
    closed: List[bool] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        peer.send(*answer)
        peer.until_gone()
        gone.set()

    server = serve(script)
    call(client_of(server), lambda _: closed.append(gone.wait(PATIENCE)))
    assert closed == [True]
    assert server.peers[0].closed_with == 1000


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (streamed, [assistant("a"), text("done")]),
        (in_session, [assistant("a"), text("done")]),
        (with_artifacts, [assistant("a"), text("done")]),
        (with_a_callback, [assistant("a"), LONG]),
        # Each says the type of a result, and none is one.
        (with_a_callback, [{**assistant("a"), "x": "result_message"}]),
        (with_a_callback, [{**assistant("a"), "x": {"message_type": "result_message"}}]),
        (with_a_callback, [assistant('"message_type": "result_message"')]),
    ],
)
def test_otherwise_only_afterwards(serve: Serve, call: Callable[..., Any], answer: List[Any]) -> None:
    """The callback sees that the connection is open: what is sent on it then arrives."""
    heard = threading.Event()
    noted: List[bool] = []
    ends = answer[-1] if answer[-1]["message_type"] == "result_message" else None

    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        peer.send(*answer)
        # By a ping: the client answers it as long as it has not closed the connection.
        peer.until_read()
        heard.set()
        if ends is None:
            peer.send(text("done"))
        for message in peer.requests():
            if message["message_type"] == "end_session_message":
                peer.send({"message_type": "end_session_confirm_message"})

    result = call(client_of(serve(script)), lambda _: noted.append(heard.wait(PATIENCE)))
    assert noted == [True]
    assert result == (ends or text("done"))["data"]["text"]
