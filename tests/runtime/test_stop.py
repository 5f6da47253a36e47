"""The runtime's stop, while commands and agents run that do not care."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any, List

import pytest
from websockets.sync.client import connect

from runtimeuse_sync.runtime import AsyncSender, Invocation, LocalRuntime, Sender

from ..support.processes import Pipe, wait_until_ended
from ..support.servers import PATIENCE
from .conftest import StartRuntime
from .test_main import running, url_of
from .wire import CANCELLED, Wire, assert_closed, wire_to

#: What ignores SIGTERM, having said so.
STUBBORN = "trap '' TERM; echo $$; while :; do sleep 100; done"


def assert_told(wire: Wire) -> None:
    """Checks that the client of a request hears of its end and of the session's, and of nothing else."""
    assert wire.receive() == CANCELLED
    assert_closed(wire.connection)
    assert wire.connection.protocol.close_code == 1001


@pytest.mark.parametrize("stop_timeout", [0.0, 0.5])
def test_a_command_that_outlives_its_first_signal_is_killed_in_time(start: StartRuntime, stop_timeout: float) -> None:
    runtime = start(kill_grace=4 * PATIENCE, stop_timeout=stop_timeout)
    with wire_to(runtime) as wire, wire_to(runtime) as other:
        pids: List[int] = []
        for each in (wire, other):
            each.send_commands(STUBBORN)
            pids.append(int(each.receive()["text"]))
        stopping = threading.Thread(target=runtime.stop)
        stopping.start()
        for each in (wire, other):
            assert_told(each)
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
    wait_until_ended(*pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_so_it_is_when_a_signal_ends_the_runtime(number: int) -> None:
    with running("--kill-grace", str(4 * PATIENCE), "--stop-timeout", "0.5") as process:
        with connect(url_of(process)) as connection:
            wire = Wire(connection)
            wire.send_commands(STUBBORN)
            pid = int(wire.receive()["text"])
            process.send_signal(number)
            assert_told(wire)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0
    wait_until_ended(pid)


def test_what_a_command_left_behind_is_killed_in_time(start: StartRuntime, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pid")
    runtime = start(kill_grace=4 * PATIENCE, stop_timeout=0.5)
    with wire_to(runtime) as wire:
        # In a session of its own, where no signal to the command's group finds it.
        script = "trap '' TERM; echo \\$\\$ > pid; while :; do sleep 100; done"
        wire.commands(f'setsid sh -c "{script}" > /dev/null 2>&1 &')
        [pid] = pipe.numbers()
        stopping = threading.Thread(target=runtime.stop)
        stopping.start()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
    wait_until_ended(pid)


class Ignoring:
    """Agents that do not end when they are cancelled, until the test lets them."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.threads: List[threading.Thread] = []
        self.said: List[BaseException] = []

    def plain(self, invocation: Invocation, sender: Sender) -> str:
        self.threads.append(threading.current_thread())
        sender.send_assistant_message("running")
        assert self.let_go.wait(4 * PATIENCE)
        try:
            sender.send_assistant_message("late")
        except ConnectionError as error:
            self.said.append(error)
        return "late"

    async def blocking(self, invocation: Invocation, sender: AsyncSender) -> str:
        self.threads.append(threading.current_thread())
        await sender.send_assistant_message("running")
        assert self.let_go.wait(4 * PATIENCE)
        try:
            await sender.send_assistant_message("late")
        except ConnectionError as error:
            self.said.append(error)
        return "late"

    async def catching(self, invocation: Invocation, sender: AsyncSender) -> str:
        self.threads.append(threading.current_thread())
        await sender.send_assistant_message("running")
        while not self.let_go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        try:
            await sender.send_assistant_message("late")
        except ConnectionError as error:
            self.said.append(error)
        return "late"

    def end(self) -> None:
        self.let_go.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["plain", "blocking", "catching"])
@pytest.mark.parametrize("stop_timeout", [0.0, 0.3])
def test_clients_of_agents_that_ignore_their_cancel_are_told(
    kind: str, stop_timeout: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ignoring = Ignoring()
    agent: Any = getattr(ignoring, kind)
    runtime = LocalRuntime(agent, root=str(tmp_path), stop_timeout=stop_timeout)
    try:
        with runtime, wire_to(runtime) as wire, wire_to(runtime) as idle:
            wire.send_query()
            wire.receive()
            stopping = threading.Thread(target=runtime.stop)
            stopping.start()
            assert_told(wire)
            assert_closed(idle.connection)
            assert idle.connection.protocol.close_code == 1001
            stopping.join(PATIENCE)
            assert not stopping.is_alive()
    finally:
        ignoring.end()
    assert "Abandoned when the runtime stopped" in caplog.text
    if kind != "catching":  # that one's loop has been closed below it
        assert len(ignoring.said) == 1


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_agent_that_stops_its_own_runtime_does_not_wait_for_itself(kind: str, tmp_path: Path) -> None:
    def plain(invocation: Invocation, sender: Sender) -> str:
        runtime.stop()
        return "stopping"

    async def asynchronous(invocation: Invocation, sender: AsyncSender) -> str:
        runtime.stop()
        return "stopping"

    runtime = LocalRuntime(plain if kind == "plain" else asynchronous, root=str(tmp_path), stop_timeout=4 * PATIENCE)
    with runtime, wire_to(runtime) as wire:
        assert wire.query()[0]["message_type"] in ("result_message", "error_message")
        assert_closed(wire.connection)
        assert wire.connection.protocol.close_code == 1001
