"""How the exit of a command is noticed: by a descriptor of its process, or by a thread that waits."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import threading
from typing import Any, List

import pytest

from runtimeuse_sync.runtime.commands import exits
from runtimeuse_sync.runtime.commands.exits import ExitWatch
from runtimeuse_sync.runtime.workers import Workers

from ..support.servers import PATIENCE
from .wire import Wire


def no_descriptors_left(_: int) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def waiting_threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "runtimeuse-wait"]


@pytest.mark.parametrize("open_descriptor", [None, no_descriptors_left], ids=["not there", "none left"])
def test_a_thread_waits_where_there_is_no_descriptor(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, open_descriptor: Any
) -> None:
    monkeypatch.setattr(exits, "_open_descriptor", open_descriptor)
    results = wire.commands("echo $$", "kill -9 $$")[-1]["results"]
    assert [result["exit_code"] for result in results] == [0, -1]
    wire.send_commands("echo begun; sleep 600")
    wire.receive()
    assert waiting_threads() == ["runtimeuse-wait"]
    wire.cancel()
    wire.receive_until()


@pytest.mark.skipif(exits._open_descriptor is None, reason="there are no descriptors of processes here")
def test_no_thread_waits_where_there_is_one(wire: Wire) -> None:
    wire.send_commands("echo begun; sleep 600")
    wire.receive()
    assert waiting_threads() == []
    wire.cancel()
    wire.receive_until()


@pytest.mark.skipif(exits._open_descriptor is None, reason="there are no descriptors of processes here")
@pytest.mark.parametrize("threads", [True, False], ids=["by a thread", "by subprocess"])
def test_a_process_that_nobody_waits_for_any_more_is_reaped(monkeypatch: pytest.MonkeyPatch, threads: bool) -> None:
    workers = Workers()
    if not threads:
        monkeypatch.setattr(workers, "start", refuse)

    async def begin_and_end() -> None:
        ExitWatch(process, workers).end()

    process = subprocess.Popen(["sleep", "600"])
    asyncio.run(begin_and_end())
    process.kill()
    assert workers.join(PATIENCE) == []
    assert process.wait(PATIENCE) == -9


def refuse(*_: Any) -> None:
    raise RuntimeError("can't start new thread")
