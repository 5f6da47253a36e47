"""`event_stream`: a run's events as a response, under WSGI and under ASGI, and behind middleware."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, List

import pytest
from django.db import connections
from django.middleware.gzip import GZipMiddleware
from django.middleware.http import ConditionalGetMiddleware
from django.test import AsyncRequestFactory, RequestFactory

from runtimeuse_sync import sse
from runtimeuse_sync.django import event_stream

from ..support.builders import Serve, assistant, begin_until_cancelled, client_of, text
from ..support.event_streams import COMMENT, GREETING, read
from ..support.fixtures import serve
from ..support.servers import PATIENCE, FaultServer, Peer

__all__ = ["serve"]


def answers(peer: Peer) -> None:
    peer.accept()
    peer.receive()
    peer.send(assistant("a"), text("done"))


def hangs(peer: Peer) -> None:
    begin_until_cancelled(peer, "begun")


def get(**headers: str) -> Any:
    return RequestFactory().get("/", **{f"HTTP_{name}": value for name, value in headers.items()})


def chunks_under_asgi(response: Any) -> List[bytes]:
    """Returns what Django would send under ASGI."""

    async def main() -> List[bytes]:
        chunks = [chunk async for chunk in response]
        response.close()
        return chunks

    return asyncio.run(main())


def test_under_wsgi(serve: Serve) -> None:
    seen = []
    run = client_of(serve(answers)).stream("p", on_assistant_message=lambda _: seen.append(threading.get_ident()))
    response = event_stream(run, get())
    assert (response.status_code, response.streaming, response.is_async) == (200, True, False)
    assert response["Content-Type"] == "text/event-stream"
    assert response["Cache-Control"] == "no-cache"
    assert response["X-Accel-Buffering"] == "no"
    assert seen == [], "the run starts when the response is sent"
    assert [event.name for event in read(response)] == ["assistant", "result"]
    assert seen == [threading.get_ident()], "callbacks have the database connection of the request's thread"
    response.close()


def test_under_asgi(serve: Serve) -> None:
    response = event_stream(client_of(serve(answers)).stream("p"), AsyncRequestFactory().get("/"))
    assert (response.status_code, response.streaming, response.is_async) == (200, True, True)
    assert response["Content-Type"] == "text/event-stream"
    assert [event.name for event in read(chunks_under_asgi(response))] == ["assistant", "result"]


def test_database_connections_of_callbacks_under_asgi_are_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the thread that has them, at its end. (A database in memory, as here, stays when it is closed.)"""
    threads: List[Any] = []
    monkeypatch.setattr(connections, "close_all", lambda: threads.append(("closed", threading.current_thread())))
    run = client_of(serve(answers)).stream(
        "p", on_assistant_message=lambda _: threads.append(("callback", threading.current_thread()))
    )
    chunks_under_asgi(event_stream(run, AsyncRequestFactory().get("/")))
    (callback, closed) = threads
    assert (callback[0], closed[0]) == ("callback", "closed")
    assert callback[1] is closed[1] is not threading.current_thread()


@pytest.mark.parametrize("under_asgi", [False, True], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("entered", [False, True], ids=["new", "entered"])
def test_a_response_that_is_closed(serve: Serve, under_asgi: bool, entered: bool) -> None:
    """As Django does it when the reader has left, or when nobody ever reads."""
    server = serve(hangs)
    run = client_of(server).stream("p")
    if entered:
        run.__enter__()
        server.wait_for("invocation_message")
    response = event_stream(run, AsyncRequestFactory().get("/") if under_asgi else get())
    response.close()
    if entered:
        server.wait_for("cancel_message")
    assert entered or server.messages == []


def test_a_view_that_is_cancelled(serve: Serve) -> None:
    """As Django does it under ASGI when the reader has left."""
    server = serve(hangs)

    async def main() -> None:
        response = event_stream(client_of(server).stream("p"), AsyncRequestFactory().get("/"), comment_every=1000)
        begun = asyncio.Event()

        async def send() -> None:
            async for chunk in response:
                if b"begun" in chunk:
                    begun.set()

        sending = asyncio.ensure_future(send())
        await asyncio.wait_for(begun.wait(), PATIENCE)
        sending.cancel()
        await asyncio.wait({sending})
        assert sending.cancelled()
        await asyncio.get_running_loop().run_in_executor(None, server.wait_for, "cancel_message")
        response.close()

    asyncio.run(main())


def test_middleware_does_not_hold_events_back(serve: Serve) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        peer.send(assistant("first"))
        assert go_on.wait(PATIENCE)
        peer.send(text("done"))

    run = client_of(serve(script)).stream("p")
    gzip = GZipMiddleware(lambda request: event_stream(run, request))
    response: Any = ConditionalGetMiddleware(gzip)(get(ACCEPT_ENCODING="gzip"))
    chunks = iter(response)
    assert next(chunks) == GREETING
    assert read([next(chunk for chunk in chunks if chunk != COMMENT)])[0].data["text"] == "first"
    go_on.set()
    assert [event.name for event in read(chunks)] == ["result"]
    response.close()


@pytest.mark.parametrize(("entered", "seen"), [(False, "3"), (True, "3"), (True, "0")])
def test_a_browser_that_connects_again_does_not_run_it_twice(serve: Serve, entered: bool, seen: str) -> None:
    server = serve(hangs)
    run = client_of(server).stream("p")
    if entered:
        run.__enter__()
        server.wait_for("invocation_message")
    response = event_stream(run, get(LAST_EVENT_ID=seen))
    assert (response.status_code, response.content) == (204, b"")
    if entered:
        server.wait_for("cancel_message")
    assert entered or server.peers == []


def test_a_run_in_any_case(serve: Serve) -> None:
    response = event_stream(client_of(serve(answers)).stream("p"), get(LAST_EVENT_ID="3"), last_event_id=None)
    assert [event.id for event in read(response)] == [1, 2]


def test_recorded_events_go_on_where_the_reader_was() -> None:
    recorded = [sse.Event("a", 1), sse.Event("b", 2), sse.Event("c", 3)]
    assert [event.name for event in read(event_stream(recorded, get(LAST_EVENT_ID="2")))] == ["c"]
    assert [event.name for event in read(event_stream(recorded, get()))] == ["a", "b", "c"]
    assert [event.name for event in read(event_stream(recorded, get(), last_event_id=1))] == ["b", "c"]
    request = AsyncRequestFactory().get("/", **{"Last-Event-ID": "2"})
    assert [event.name for event in read(chunks_under_asgi(event_stream(recorded, request)))] == ["c"]


def test_when_to_connect_again() -> None:
    assert list(event_stream([], get(), retry=2)) == [b":\nid: 0\nretry: 2000\n\n"]


def test_head_runs_nothing() -> None:
    with FaultServer(hangs) as server:
        response = event_stream(client_of(server).stream("p"), RequestFactory().head("/"))
        assert (response.status_code, response["Content-Type"]) == (200, "text/event-stream")
        assert server.peers == []


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        (([], None), {}, "request"),
        (("run", get), {}, "request"),
        ((None, RequestFactory().get("/")), {}, "a run"),
        (([], RequestFactory().get("/")), {"comment_every": 0}, "comment_every"),
        (([], RequestFactory().get("/")), {"last_event_id": 1.5}, "last_event_id"),
        (([], RequestFactory().get("/")), {"retry": -1}, "retry"),
    ],
)
def test_wrong_arguments(arguments: Any, settings: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        event_stream(*arguments, **settings)
