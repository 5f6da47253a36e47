"""`async` agents have an event loop of their own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from pathlib import Path
from typing import List

import pytest

from runtimeuse_sync.runtime import AsyncSender, Invocation

from ..support.processes import Pipe, wait_until_ended
from ..support.servers import PATIENCE
from .conftest import StartRuntime
from .wire import CANCELLED, wire_to


@pytest.mark.parametrize("how", ["waiting", "computing"])
def test_an_agent_that_blocks_its_loop_does_not_keep_the_runtime_from_answering(start: StartRuntime, how: str) -> None:
    let_go = threading.Event()

    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        await sender.send_assistant_message("running")
        if how == "waiting":
            assert let_go.wait(4 * PATIENCE)
        while not let_go.is_set():  # in pure Python, all the time
            pass
        return "done"

    runtime = start(agent, heartbeat_interval=0.05)
    with wire_to(runtime) as wire, wire_to(runtime) as other:
        wire.send_query()
        assert wire.receive_until("assistant_message")
        try:
            wire.ping()
            assert wire.receive_until("heartbeat_message")
            other.assert_idle()
            other.ping()
        finally:
            let_go.set()
        assert wire.receive_until()[-1]["data"]["text"] == "done"
        wire.assert_idle()


def test_agents_share_one_loop(start: StartRuntime) -> None:
    loops: List[asyncio.AbstractEventLoop] = []

    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        loops.append(asyncio.get_running_loop())
        await sender.send_assistant_message("running")
        while len(loops) < 2:  # noqa: ASYNC110 (an event of asyncio's is one loop's, which is the question)
            await asyncio.sleep(0.001)
        return threading.current_thread().name

    runtime = start(agent)
    with wire_to(runtime) as one, wire_to(runtime) as other:
        for wire in (one, other):
            wire.send_query()
        for wire in (one, other):
            assert wire.receive_until()[-1]["data"]["text"] == "runtimeuse-agents"
    assert loops[0] is loops[1]


def test_each_run_has_a_context_of_its_own(start: StartRuntime) -> None:
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")

    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        before = seen.get()
        seen.set(invocation.user_prompt)
        return before

    with wire_to(start(agent)) as wire:
        for prompt in ("first", "second"):
            assert wire.query(prompt)[-1]["data"]["text"] == "nothing"


def test_an_agent_that_stops_its_loop_ends_nothing(start: StartRuntime, tmp_path: Path) -> None:
    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "done"

    runtime = start(agent)
    left_behind = Pipe(tmp_path / "pid")
    with wire_to(runtime) as wire:
        for _ in range(2):
            assert wire.query("stop")[-1]["data"]["text"] == "done"
        # Nor does the runtime's own stop break off: it ends what a command has left behind.
        wire.send_commands("sleep 300 & echo $! > pid")
        pids = left_behind.numbers()
        wire.receive_until()
    runtime.stop()
    wait_until_ended(*pids)


def test_an_agent_that_never_waits_hears_of_its_cancel(start: StartRuntime) -> None:
    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        while True:
            await sender.send_assistant_message("more")

    with wire_to(start(agent)) as wire:
        wire.send_query()
        wire.receive()
        wire.cancel()
        assert wire.receive_until()[-1] == CANCELLED
        wire.assert_idle()


def test_an_agent_is_held_up_by_a_client_that_does_not_read_and_nobody_else_is(start: StartRuntime) -> None:
    sent: List[int] = []

    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        if invocation.user_prompt == "short":
            return "short"
        for count in range(400):
            await sender.send_assistant_message("x" * 100_000)
            sent.append(count)
        return "long"

    runtime = start(agent)
    with wire_to(runtime) as wire, wire_to(runtime) as other:
        wire.send_query("long")
        wire.receive()
        assert other.query("short")[-1]["data"]["text"] == "short"
        assert len(sent) < 400
        assert len(wire.receive_until()) == 400
