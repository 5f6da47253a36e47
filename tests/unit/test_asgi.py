"""Calls beside an event loop: what they return, and what ends them when the task is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
from typing import Any, List

import pytest

from runtimeuse_sync import (
    CancelledException,
    RunTimeoutError,
    asgi,
)

from ..support.builders import (
    BOTH,
    LATE,
    SOON,
    Serve,
    Stopwatch,
    answer_all,
    begin_until_cancelled,
    caller_of,
    client_of,
    echo,
    error,
    text,
)
from ..support.event_loops import in_time, run, said, threads
from ..support.fixtures import serve
from ..support.servers import PATIENCE, Peer, PeerGone

__all__ = ["serve"]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


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
            await asyncio.wait_for(asgi.run_in_thread(client_of(server).query, "p"), SOON)
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
