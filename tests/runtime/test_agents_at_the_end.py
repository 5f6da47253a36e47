"""The end of an agent's run: cancels, clients that have gone, agents that never return."""

from __future__ import annotations

import asyncio
import threading
from typing import List

import pytest

from runtimeuse_sync.runtime import AsyncSender, Invocation, LocalRuntime, Sender

from ..support.servers import PATIENCE
from .conftest import Connect, StartRuntime
from .wire import CANCELLED, wire_to


def test_an_async_agents_task_is_cancelled(talk: Connect) -> None:
    cleaned_up = threading.Event()

    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        await sender.send_assistant_message("running")
        try:
            await asyncio.sleep(60)
        finally:
            assert invocation.cancelled.is_set()
            cleaned_up.set()
        return "never"

    wire = talk(agent)
    wire.send_query()
    wire.receive()
    wire.cancel()
    assert wire.receive() == CANCELLED
    assert cleaned_up.is_set()


def test_what_a_cancelled_agent_returns_does_not_count(talk: Connect) -> None:
    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        await sender.send_assistant_message("running")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "all the same"
        return "never"

    wire = talk(agent)
    wire.send_query()
    wire.receive()
    wire.cancel()
    assert wire.receive() == CANCELLED
    wire.assert_idle()


def test_an_agent_that_cancels_itself_has_failed(talk: Connect) -> None:
    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        raise asyncio.CancelledError

    assert talk(agent).query()[0]["error"] == "the agent cancelled itself"


def test_a_sender_sends_nothing_after_its_run(talk: Connect) -> None:
    senders: List[Sender] = []

    def agent(invocation: Invocation, sender: Sender) -> str:
        senders.append(sender)
        return "done"

    wire = talk(agent)
    wire.query()
    with pytest.raises(RuntimeError, match="the run has ended"):
        senders[0].send_assistant_message("late")
    wire.assert_idle()


def test_a_sender_says_when_the_client_has_gone(start: StartRuntime) -> None:
    failed: List[BaseException] = []
    ended = threading.Event()

    def agent(invocation: Invocation, sender: Sender) -> str:
        sender.send_assistant_message("running")
        assert invocation.cancelled.wait(PATIENCE)
        try:
            sender.send_assistant_message("anybody?")
        except ConnectionError as error:
            failed.append(error)
        ended.set()
        return ""

    with wire_to(start(agent)) as wire:
        wire.send_query()
        wire.receive()
    assert ended.wait(PATIENCE)
    assert len(failed) == 1


@pytest.mark.leaks_allowed("an agent that never returns cannot be ended")
def test_an_agent_that_never_returns_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    let_go = threading.Event()
    running = threading.Event()
    errors: List[BaseException] = []

    def agent(invocation: Invocation, sender: Sender) -> str:
        running.set()
        assert let_go.wait(PATIENCE)
        try:
            sender.send_assistant_message("anybody?")
        except ConnectionError as error:
            errors.append(error)
        running.clear()
        return ""

    with LocalRuntime(agent, stop_timeout=0.1) as runtime, wire_to(runtime) as wire:
        wire.send_query()
        assert running.wait(PATIENCE)
        runtime.stop()
    assert "Abandoned when the runtime stopped" in caplog.text
    let_go.set()
    for thread in threading.enumerate():
        if thread.name == "runtimeuse-agent":
            thread.join(PATIENCE)
    assert len(errors) == 1


@pytest.mark.leaks_allowed("tasks that ignore their cancel cannot be ended")
def test_nor_is_an_async_agent_waited_for_that_ignores_its_cancel(caplog: pytest.LogCaptureFixture) -> None:
    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        await sender.send_assistant_message("running")
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    runtime = LocalRuntime(agent, stop_timeout=0.1, kill_grace=0.1)
    with runtime, wire_to(runtime) as wire:
        wire.send_query()
        wire.receive()
        stopping = threading.Thread(target=runtime.stop)
        stopping.start()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
    assert "Abandoned when the runtime stopped" in caplog.text


def test_a_plain_agent_that_waits_for_its_client_is_told_that_it_has_gone(start: StartRuntime) -> None:
    failed: List[BaseException] = []
    ended = threading.Event()

    def agent(invocation: Invocation, sender: Sender) -> str:
        try:
            while True:
                sender.send_assistant_message("x" * 100_000)
        except ConnectionError as error:
            failed.append(error)
        ended.set()
        return ""

    with wire_to(start(agent)) as wire:
        wire.send_query()
        wire.receive()
        wire.connection.socket.shutdown(2)
    assert ended.wait(PATIENCE)
    assert len(failed) == 1
