"""Every call ends: an exception that another thread sets in a waiting one is noticed at once, whatever it waits for.

Dramatiq and others set time limits so: by `PyThreadState_SetAsyncExc`, which no wait in C notices by itself. Nothing
else ends the waits here, or only long after the limit.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator
from urllib.parse import urlsplit

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    RuntimeUseClient,
    WebSocketTransport,
    _artifact_server,
)
from runtimeuse_sync._call import Wakeup
from runtimeuse_sync._threads import join_thread
from runtimeuse_sync.artifacts import UploadDirectory

from ..support.builders import LATE, Serve, Stopwatch, answer_all, assistant, client_of, put_anywhere, text, upload
from ..support.doubles import MemoryTransports
from ..support.servers import PATIENCE, Peer, PeerGone
from ..support.threads import InThread, raise_in, wait_until_inside, when, without_collector

#: Seconds in which it must be noticed, and many more for a busy machine. Nothing else happens within them.
LIMIT = 5.0

#: What a case yields: the call that waits. What it needs is there for as long as it is entered.
Case = Callable[[Serve], "contextlib.AbstractContextManager[Callable[[], object]]"]

CASES: Dict[str, Case] = {}


_REQUEST = ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "a", "/out/a")


class TimeLimit(Exception):
    """An `Exception`, as Celery's is, which must not be taken for any error that is expected."""


def case(make: Callable[[Serve], Iterator[Callable[[], object]]]) -> None:
    CASES[make.__name__] = contextlib.contextmanager(make)


def never_accepts(peer: Peer) -> None:
    peer.read_request()
    peer.until_gone()


def never_answers(peer: Peer) -> None:
    """Takes what comes, and a client that goes."""
    peer.accept()
    peer.until_gone()


def never_confirms(peer: Peer) -> None:
    peer.accept()
    peer.expect("invocation_message")
    peer.send(text("done"))
    peer.until_gone()


def answers_when_cancelled(peer: Peer) -> None:
    peer.accept()
    peer.expect("invocation_message")
    peer.send(assistant("started"))
    peer.expect("cancel_message")
    peer.send(text("late"))
    answer_all(peer)


@case
def a_one_shots_answer(serve: Serve) -> Any:
    client = client_of(serve(never_answers))
    yield lambda: client.query("hi")


@case
def a_one_shots_connection(serve: Serve) -> Any:
    client = client_of(serve(never_accepts), connect_timeout=None)
    yield lambda: client.query("hi", idle_timeout=PATIENCE)


@case
def a_message(serve: Serve) -> Any:
    client = client_of(serve(never_answers))

    def read() -> None:
        with client.stream_commands(["sleep 60"]) as run:
            next(run)

    yield read


@case
def a_sessions_answer(serve: Serve) -> Any:
    with client_of(serve(answers_when_cancelled)).session() as session:
        yield lambda: session.query("hi", on_assistant_message=None)
        assert session.query("next", timeout=PATIENCE).text == "next"


@case
def the_turn(serve: Serve) -> Any:
    with client_of(serve(answers_when_cancelled)).session() as session:
        started = threading.Event()
        run = session.stream("first", on_assistant_message=lambda _: started.set())
        other = InThread(lambda: run.__enter__().result)
        assert started.wait(PATIENCE)
        yield lambda: session.query("second")
        run.abort()
        other.error()
        run.close()
        assert session.query("next", timeout=PATIENCE).text == "next"


@case
def a_sessions_connection(serve: Serve) -> Any:
    session = client_of(serve(never_accepts), connect_timeout=None).session()
    yield session.open


@case
def the_end_of_a_session(serve: Serve) -> Any:
    session = client_of(serve(never_confirms)).session().open()
    session.query("hi", artifacts_dirs=["/out"], on_artifact_upload_request=put_anywhere)
    yield session.close


@case
def the_end_of_a_session_behind_another_call(serve: Serve) -> Any:
    session = client_of(serve(never_answers)).session().open()
    other = InThread(session.query, "first")
    yield session.close
    other.error()


@case
def the_end_of_a_one_shot(serve: Serve) -> Any:
    client = client_of(serve(never_confirms))
    yield lambda: client.query("hi", artifacts_dirs=["/out"], on_artifact_upload_request=put_anywhere)


@case
def a_callback_with_a_timeout(serve: Serve) -> Any:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(upload("/out/a"))
        peer.until_gone()

    go_on = threading.Event()

    def answer(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        assert go_on.wait(PATIENCE)
        return put_anywhere(request)

    options: Any = {"artifact_upload_callback_timeout": PATIENCE, "artifacts_dir": "/out"}
    client = client_of(serve(script))
    yield lambda: client.query("hi", on_artifact_upload_request=answer, **options)
    go_on.set()


@case
def readiness(serve: Serve) -> Any:
    yield lambda: client_of(serve(never_accepts)).wait_until_ready(None)


@case
def the_readiness_of_a_custom_transport(serve: Serve) -> Any:
    go_on = threading.Event()

    class Sleeping:
        def connect(self) -> Any:
            assert go_on.wait(PATIENCE)
            raise ConnectionRefusedError

    yield lambda: RuntimeUseClient(transport=Sleeping()).wait_until_ready(None)
    go_on.set()


@case
def a_custom_transports_answer(serve: Serve) -> Any:
    client = RuntimeUseClient(transport=MemoryTransports())
    yield lambda: client.execute_commands(["sleep 60"])


@case
def a_transport_that_connects(serve: Serve) -> Any:
    yield WebSocketTransport(serve(never_accepts).url, connect_timeout=None).connect


@case
def a_transport_that_receives(serve: Serve) -> Any:
    connected = WebSocketTransport(serve(never_answers).url).connect()
    yield connected.receive
    connected.close()


@case
def a_transport_that_is_called(serve: Serve) -> Any:
    received = WebSocketTransport(serve(never_answers).url)(queue.Queue())
    yield lambda: next(received)


@pytest.mark.parametrize("thread", ["main", "other"])
@pytest.mark.parametrize("name", sorted(CASES))
@without_collector()
def test_it_is_noticed_in_the_wait_for(serve: Serve, name: str, thread: str) -> None:
    def serve_who_leaves(script: Callable[[Peer], None]) -> Any:
        def until_it_leaves(peer: Peer) -> None:
            # The wait that is hit may be an earlier one, before the request was sent.
            with contextlib.suppress(PeerGone):
                script(peer)

        return serve(until_it_leaves)

    with CASES[name](serve_who_leaves) as call:
        if thread == "other":
            caller = InThread(call)
            assert caller.ident is not None
            wait_until_inside(caller.ident, Wakeup.wait.__code__)
            watch = Stopwatch()
            raise_in(caller.ident, TimeLimit)
            assert type(caller.error()) is TimeLimit
        else:
            main = threading.get_ident()

            def limit() -> Stopwatch:
                wait_until_inside(main, Wakeup.wait.__code__)
                begun = Stopwatch()
                raise_in(main, TimeLimit)
                return begun

            limiter = InThread(limit)
            with pytest.raises(TimeLimit):
                call()
            watch = limiter.result()
        assert watch.seconds < LIMIT


@without_collector()
def test_it_is_noticed_in_the_wait_for_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_artifact_server, "_GRACE", PATIENCE)
    with contextlib.ExitStack() as stack:
        uploads = stack.enter_context(UploadDirectory(tmp_path))
        url = urlsplit(uploads.callback(_REQUEST).presigned_url)
        client = stack.enter_context(socket.create_connection((url.hostname, url.port), PATIENCE))
        head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
        client.sendall(head.encode() + b"ab")
        [upload_thread] = when(lambda: [each for each in threading.enumerate() if each.name == "runtimeuse-upload"])
        leaver = InThread(uploads.__exit__, None, None, None)
        assert leaver.ident is not None
        when(lambda: is_joining(leaver, upload_thread))
        watch = Stopwatch()
        raise_in(leaver.ident, TimeLimit)
        assert type(leaver.error()) is TimeLimit
        assert watch.seconds < LATE, "as long as uploads may take at the end"


def is_joining(joiner: threading.Thread, joined: threading.Thread) -> bool:
    frame = sys._current_frames().get(joiner.ident or 0)
    while frame is not None:
        if frame.f_code is join_thread.__code__ and frame.f_locals["thread"] is joined:
            return True
        frame = frame.f_back
    return False
