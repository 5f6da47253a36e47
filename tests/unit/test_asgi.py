"""Calls and runs beside an event loop: what they return, and what ends them when the task is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
from typing import Any, Awaitable, Callable, Iterator, List

import pytest

from runtimeuse_sync import (
    CancelledException,
    RunTimeoutError,
    asgi,
    sse,
)

from ..support.builders import (
    BOTH,
    LATE,
    Serve,
    Stopwatch,
    answer_all,
    assistant,
    begin_until_cancelled,
    caller_of,
    client_of,
    echo,
    error,
    text,
)
from ..support.event_streams import GREETING, read
from ..support.fixtures import serve
from ..support.servers import PATIENCE, Peer, PeerGone

__all__ = ["serve"]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("runtimeuse-asgi")]


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Runs a coroutine function in a loop of its own, for no longer than a test has patience."""

    async def limited() -> Any:
        return await asyncio.wait_for(main(), 3 * PATIENCE)

    return asyncio.run(limited())


async def in_time(happened: threading.Event) -> None:
    """Waits for something that another thread does, and lets the loop run meanwhile."""
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, happened.wait, PATIENCE)


async def said(server: Any, message_type: str) -> None:
    await asyncio.get_running_loop().run_in_executor(None, server.wait_for, message_type)


def hang_once(peer: Peer) -> None:
    """Hangs on the first query until it is cancelled, and answers whatever comes after it."""
    begin_until_cancelled(peer, "begun")
    # The client of a one-shot call has gone.
    with contextlib.suppress(PeerGone):
        peer.send(error("Request cancelled"))
        answer_all(peer)


# --- run_in_thread: results.


@BOTH
def test_a_call(serve: Serve, in_session: bool) -> None:
    async def main() -> None:
        before = threading.get_ident()
        with caller_of(client_of(serve(echo)), in_session) as caller:
            texts = await asyncio.gather(*(asgi.run_in_thread(caller.query, f"{n}", timeout=60) for n in range(3)))
            assert [result.text for result in texts] == ["0", "1", "2"]
            assert threading.get_ident() == before

    run(main)
    assert threads() == []


def test_context_variables_are_those_of_the_caller() -> None:
    def function() -> str:
        found = variable.get()
        variable.set("inside")
        return found

    async def main() -> None:
        variable.set("outside")
        assert await asgi.run_in_thread(function) == "outside"
        assert variable.get() == "outside"

    run(main)


@pytest.mark.parametrize(
    "kind", [KeyError, TimeoutError, RunTimeoutError, CancelledException, asyncio.InvalidStateError]
)
def test_what_the_function_raises(kind: Any) -> None:
    raised = kind("why")

    def function() -> None:
        raise raised

    async def main() -> None:
        with pytest.raises(kind) as caught:
            await asgi.run_in_thread(function)
        assert caught.value is raised
        assert function.__code__ in [entry.frame.code.raw for entry in caught.traceback]

    run(main)


def test_stop_iteration_is_not_taken_for_a_result() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asgi.run_in_thread(next, iter([]))

    run(main)


@pytest.mark.parametrize("function", [None, "query", asyncio.sleep])
def test_what_cannot_be_called(function: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="function"):
            await asgi.run_in_thread(function)

    run(main)


# --- run_in_thread: cancelled.


@BOTH
def test_cancelling_the_task_cancels_the_call(serve: Serve, in_session: bool) -> None:
    server = serve(hang_once)

    async def main() -> None:
        with caller_of(client_of(server), in_session) as caller:
            task = asyncio.ensure_future(asgi.run_in_thread(caller.query, "p"))
            await said(server, "invocation_message")
            clock = Stopwatch()
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert clock.seconds < LATE
            assert caught.value.__cause__ is None
            assert threads() == []
            await said(server, "cancel_message")
            if in_session:
                assert (await asgi.run_in_thread(caller.query, "next")).text == "next"

    run(main)


def test_a_timeout_around_the_call_cancels_it(serve: Serve) -> None:
    server = serve(lambda peer: begin_until_cancelled(peer, "begun"))

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asgi.run_in_thread(client_of(server).query, "p"), 0.5)
        assert threads() == []

    run(main)


def test_only_the_calls_of_the_task_are_cancelled(serve: Serve) -> None:
    """The client has others in flight."""
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect("invocation_message")
        if message["user_prompt"] == "cancelled":
            peer.expect("cancel_message")
            return
        assert go_on.wait(PATIENCE)
        peer.send(text("kept"))

    server = serve(script)

    async def main() -> None:
        client = client_of(server)
        kept = asyncio.ensure_future(asgi.run_in_thread(client.query, "kept"))
        cancelled = asyncio.ensure_future(asgi.run_in_thread(client.query, "cancelled"))
        await asyncio.get_running_loop().run_in_executor(None, server.wait_for, "invocation_message", 2)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        assert cancelled.cancelled()
        go_on.set()
        assert (await kept).text == "kept"

    run(main)


def test_a_function_of_several_calls(serve: Serve) -> None:
    """The call in flight is aborted, and so is each that the function tries after it."""
    server = serve(hang_once)
    seen: List[BaseException] = []

    def function() -> str:
        client = client_of(server)
        for _ in range(2):
            try:
                client.query("p")
            except CancelledException as error:
                seen.append(error)
        return "all the same"

    async def main() -> None:
        task = asyncio.ensure_future(asgi.run_in_thread(function))
        await said(server, "invocation_message")
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        if sys.version_info >= (3, 11):
            assert caught.value.result == "all the same"  # type: ignore[attr-defined]

    run(main)
    assert len(seen) == 2
    assert len(server.said("invocation_message")) == 1, "the second call sends nothing"


def test_what_a_cancelled_function_raises_is_the_cause(serve: Serve) -> None:
    server = serve(hang_once)

    def function() -> None:
        try:
            client_of(server).query("p")
        finally:
            raise KeyError("the clean-up failed")

    async def main() -> None:
        async def outer() -> None:
            try:
                await asgi.run_in_thread(function)
            except asyncio.CancelledError as error:
                causes.append(error.__cause__)
                raise

        causes: List[Any] = []
        task = asyncio.ensure_future(outer())
        await said(server, "invocation_message")
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert [type(cause) for cause in causes] == [KeyError]

    run(main)


def test_cancelling_waits_for_the_function() -> None:
    """However often: nothing goes on behind the task."""
    entered, go_on = threading.Event(), threading.Event()

    def function() -> None:
        entered.set()
        assert go_on.wait(PATIENCE)

    async def main() -> None:
        task = asyncio.ensure_future(asgi.run_in_thread(function))
        await in_time(entered)
        for _ in range(3):
            task.cancel()
            await asyncio.wait({task}, timeout=0.02)
            assert not task.done()
        go_on.set()
        await asyncio.wait({task})
        assert task.cancelled()

    run(main)


def test_a_call_inside_a_call(serve: Serve) -> None:
    """A function that runs a loop of its own, whose calls belong to the outer task as well."""
    server = serve(hang_once)

    def function() -> Any:
        return asyncio.run(asgi.run_in_thread(client_of(server).query, "p"))

    async def main() -> None:
        task = asyncio.ensure_future(asgi.run_in_thread(function))
        await said(server, "invocation_message")
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    run(main)


# --- events.


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
