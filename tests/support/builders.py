"""The runtime's messages in short, the scripts of fault servers that many tests use, and their clients."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from typing import Any, Callable, Iterator, List, Optional

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    RuntimeConnectionError,
    RuntimeUseClient,
)
from runtimeuse_sync.runtime import LocalRuntime

from .servers import PATIENCE, FaultServer, Message, Peer
from .threads import InThread

Serve = Callable[..., FaultServer]
Start = Callable[..., LocalRuntime]

#: No deadline may be late by more than this, however busy the machine, in seconds.
LATE = 5.0

#: A deadline that must not pass before a request has arrived and something has come back, in seconds.
SOON = 1.0

#: For tests of both kinds of calls: `caller_of` returns the caller.
BOTH = pytest.mark.parametrize("in_session", [False, True], ids=["one-shot", "session"])

BUSY = "Received request while another is in flight!"


def cannot_connect(call: Callable[[float], Any], reason: str, seconds: float = 0.3) -> RuntimeConnectionError:
    """Returns the error of a call that cannot connect.

    Args:
        call: Makes the call with the `connect_timeout` that it is given.
        reason: A regular expression that is found in the error.
        seconds: The first `connect_timeout`. If the reason does not show within that, on a busy machine, the call is
            made again, with more time.
    """
    for timeout in (seconds, PATIENCE):
        with pytest.raises(RuntimeConnectionError) as caught:
            call(timeout)
        if re.search(reason, str(caught.value)):
            break
    else:
        raise AssertionError(f"another reason: {caught.value}")
    return caught.value


def text(said: str, **metadata: Any) -> Message:
    return {"message_type": "result_message", "data": {"type": "text", "text": said}, "metadata": metadata}


def ran(*commands: str, exit_code: int = 0, stdout: Optional[str] = None) -> Message:
    """Returns the result of commands; of none, the answer to the barrier."""
    shown = {} if stdout is None else {"stdout": stdout}
    results = [{"command": command, "exit_code": exit_code, **shown} for command in commands]
    return {"message_type": "command_execution_result_message", "results": results}


def error(said: str, **metadata: Any) -> Message:
    return {"message_type": "error_message", "error": said, "metadata": metadata}


def assistant(*blocks: str) -> Message:
    return {"message_type": "assistant_message", "text_blocks": list(blocks)}


def output(said: str, stream: str = "stdout", command: str = "c") -> Message:
    return {"message_type": "command_output_message", "stream": stream, "text": said, "command": command}


def heartbeat(elapsed_ms: int = 15000) -> Message:
    return {"message_type": "heartbeat_message", "phase": "request_in_flight", "elapsed_ms": elapsed_ms}


def upload(filepath: str) -> Message:
    name = filepath.rsplit("/", 1)[-1]
    return {"message_type": "artifact_upload_request_message", "filename": name, "filepath": filepath}


CONFIRM: Message = {"message_type": "end_session_confirm_message"}
CANCELLED = error("Request cancelled")


def echo(peer: Peer) -> None:
    """Answers every request by its prompt, or its commands, and the end of the session."""
    peer.accept()
    answer_all(peer)


def answer_all(peer: Peer) -> None:
    """Answers every request until the client has gone."""
    for message in peer.requests():
        answer(peer, message)


def answer(peer: Peer, message: Message) -> None:
    kind = message["message_type"]
    if kind == "invocation_message":
        peer.send(text(message["user_prompt"]))
    elif kind == "command_execution_message":
        peer.send(ran(*(command["command"] for command in message["commands"])))
    elif kind == "end_session_message":
        peer.send(CONFIRM)


def begin_until_cancelled(peer: Peer, said: str) -> None:
    """Takes a query and says something, but not its end; returns when it is cancelled."""
    peer.accept()
    peer.expect("invocation_message")
    peer.send(assistant(said))
    peer.expect("cancel_message")


def end(peer: Peer) -> None:
    """The proper end of a session."""
    peer.expect("end_session_message")
    peer.send(CONFIRM)


def next_and_end(peer: Peer) -> None:
    """The next call, and the end; before that, an idle runtime's answers to barriers.

    The client asks again soon after a refusal, so on a busy machine it may have asked once more than the script knows.
    """
    message = peer.receive()
    while message["message_type"] == "command_execution_message" and message["commands"] == []:
        peer.send(ran())
        message = peer.receive()
    assert (message["message_type"], message.get("user_prompt")) == ("invocation_message", "next"), message
    peer.send(text("next"))
    end(peer)


def until_end(peer: Peer, *said: Message) -> None:
    """Answers a query by these messages, and returns when the end of the session is announced."""
    peer.accept()
    peer.expect("invocation_message")
    peer.send(*said)
    peer.expect("end_session_message")


def put_anywhere(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
    """An upload callback for runtimes that upload nothing; its URLs have a secret."""
    return ArtifactUploadResult(f"http://storage/{request.filename}?sig=hidden", "text/plain")


def wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE), "it never happened"


def client_of(server: Any, **settings: Any) -> RuntimeUseClient:
    """A client of a fault server or an embedded runtime."""
    url = server.url if isinstance(server, FaultServer) else server.ws_url
    return RuntimeUseClient(url, model="m", **settings)


@contextlib.contextmanager
def caller_of(client: RuntimeUseClient, in_session: bool) -> Any:
    """Yields the client itself, or a session of it."""
    with client.session() if in_session else contextlib.nullcontext(client) as caller:
        yield caller


@contextlib.contextmanager
def on_alarm(action: Callable[[], None], every: float = 0.0) -> Iterator[None]:
    """Has an action done by a signal handler, in the main thread: whenever somebody calls `ring`.

    Args:
        action: What is done.
        every: Also after so many seconds, again and again: where nothing tells that a call has begun, and an action
            that comes before it has no effect.
    """
    previous = signal.signal(signal.SIGALRM, lambda *_: action())
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def ring() -> None:
    """Sends this process the alarm."""
    os.kill(os.getpid(), signal.SIGALRM)


def interrupt_when(event: threading.Event) -> InThread:
    """Sends this process a SIGINT when something has happened, from another thread."""

    def interrupt() -> None:
        wait(event)
        os.kill(os.getpid(), signal.SIGINT)

    return InThread(interrupt)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun


def recorder() -> Any:
    """Returns a list and a callback that appends to it."""
    seen: List[Any] = []
    return seen, seen.append
