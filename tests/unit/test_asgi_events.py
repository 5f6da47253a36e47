"""The events of a run beside an event loop: what they are, and what ends the run when their reader leaves."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any, Iterator, List

import pytest

from runtimeuse_sync import (
    asgi,
    sse,
)

from ..support.builders import (
    LATE,
    Serve,
    Stopwatch,
    assistant,
    begin_until_cancelled,
    client_of,
    text,
)
from ..support.event_loops import run, said, threads
from ..support.event_streams import GREETING, read
from ..support.fixtures import serve
from ..support.servers import PATIENCE, Peer

__all__ = ["serve"]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_the_events_of_a_run(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        peer.send(*(assistant(f"{number}") for number in range(100)), text("done"))

    async def main() -> None:
        chunks = [chunk async for chunk in asgi.events(client_of(serve(script)).stream("p"))]
        assert chunks[0] == GREETING
        events = read(chunks)
        assert [event.id for event in events] == list(range(1, 102))
        assert [event.data["text"] for event in events[:-1]] == [f"{number}" for number in range(100)]

    run(main)
    assert threads() == []


def test_callbacks_run_in_the_thread_with_the_context_of_the_caller(serve: Serve) -> None:
    seen: List[Any] = []

    def note(_: Any) -> None:
        seen.append((variable.get(), threading.current_thread().name.startswith("runtimeuse-asgi")))

    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        peer.send(assistant("a"), text("done"))

    async def main() -> None:
        variable.set("outside")
        stream = asgi.events(client_of(serve(script)).stream("p", on_assistant_message=note))
        variable.set("later")
        async for _ in stream:
            pass

    run(main)
    assert seen == [("outside", True)]


@pytest.mark.parametrize("how", ["cancel", "aclose", "close", "drop", "break"])
def test_a_reader_that_leaves(serve: Serve, how: str) -> None:
    server = serve(lambda peer: begin_until_cancelled(peer, "begun"))

    async def main() -> None:
        stream = asgi.events(client_of(server).stream("p"), comment_every=1000)
        assert await stream.__anext__() == GREETING
        assert b"begun" in await stream.__anext__()
        clock = Stopwatch()
        if how == "cancel":
            task = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
        elif how == "aclose":
            await stream.aclose()
            assert threads() == []
        elif how == "close":
            stream.close()
            assert [chunk async for chunk in stream] == []
        elif how == "break":
            server.peers[0].send(assistant("more"))
            async for _ in stream:
                break
        del stream
        await said(server, "cancel_message")
        assert clock.seconds < LATE

    run(main)


def test_a_stream_that_was_never_read(serve: Serve) -> None:
    server = serve(lambda peer: begin_until_cancelled(peer, "begun"))

    async def main() -> None:
        asgi.events(client_of(server).stream("p"))
        await asgi.events(client_of(server).stream("p")).aclose()
        assert server.messages == []
        entered = client_of(server).stream("p").__enter__()
        await said(server, "invocation_message")
        stream = asgi.events(entered)
        del stream
        await said(server, "cancel_message")

    run(main)


def test_a_reader_that_is_slow_holds_the_run_up(serve: Serve) -> None:
    """Instead of filling the memory; and one that is gone then ends it all the same."""
    taken = []

    def tail() -> Iterator[Any]:
        while True:
            taken.append(1)
            yield sse.Event("more", len(taken))

    async def main() -> None:
        stream = asgi.events(tail())
        await stream.__anext__()
        until = Stopwatch()
        while len(taken) < 10:
            await asyncio.sleep(0.001)
            assert until.seconds < PATIENCE
        await asyncio.sleep(0.05)
        assert len(taken) < 30
        assert [event.id for event in read([await stream.__anext__() for _ in range(50)])] == list(range(1, 51))
        await stream.aclose()

    run(main)
    assert threads() == []


def test_what_a_callback_raises_comes_out(serve: Serve) -> None:
    def fail(_: Any) -> None:
        raise KeyError("why")

    async def main() -> None:
        server = serve(lambda peer: begin_until_cancelled(peer, "begun"))
        stream = asgi.events(client_of(server).stream("p", on_assistant_message=fail))
        assert await stream.__anext__() == GREETING
        assert read([await stream.__anext__()])[0].data == {"error": "the server failed", "type": "InternalError"}
        with pytest.raises(KeyError, match="why"):
            await stream.__anext__()
        assert [chunk async for chunk in stream] == []

    run(main)


def test_two_readers() -> None:
    go_on = threading.Event()

    def tail() -> Iterator[Any]:
        go_on.wait(PATIENCE)
        yield sse.Event("one", 1)

    async def main() -> None:
        stream = asgi.events(tail())
        await stream.__anext__()
        first = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await stream.__anext__()
        go_on.set()
        assert b"one" in await first

    run(main)


def test_a_loop_that_ends_before_the_stream(serve: Serve) -> None:
    server = serve(lambda peer: begin_until_cancelled(peer, "begun"))
    streams = []

    async def main() -> None:
        stream = asgi.events(client_of(server).stream("p"), comment_every=0.01)
        streams.append(stream)
        await stream.__anext__()
        await stream.__anext__()
        await said(server, "invocation_message")

    run(main)
    server.wait_for("cancel_message")
    with pytest.raises(RuntimeError, match="event loop"):
        run(lambda: streams[0].__anext__())


@pytest.mark.parametrize("settings", [{"comment_every": 0}, {"last_event_id": 1.5}, {"retry": "1"}])
def test_wrong_arguments(settings: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(settings))):
        asgi.events([], **settings)


def test_recorded_events_and_where_the_reader_was() -> None:
    recorded = [sse.Event("a", 1), sse.Event("b", 2)]

    async def main() -> None:
        first, *others = [chunk async for chunk in asgi.events(recorded, last_event_id="1", retry=2)]
        assert first == b":\nid: 1\nretry: 2000\n\n"
        assert [event.name for event in read(others)] == ["b"]

    run(main)
