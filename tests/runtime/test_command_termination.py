"""The end of commands: of groups that do not want to, of runtimes in commands, of runtimes that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List

import pytest
from websockets.sync.client import connect

from runtimeuse_sync.runtime.commands import process_groups
from runtimeuse_sync.runtime.commands.termination import MARK

from ..support.processes import CHILD_LIMIT, Pipe, wait_until_ended
from ..support.servers import PATIENCE
from .conftest import Connect, StartRuntime
from .test_main import COMMAND, running, url_of
from .wire import CANCELLED, Wire, wire_to

STUBBORN = "trap '' TERM; echo $$; while :; do sleep 100; done"

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no /proc")


class Looks:
    """Counts the looks at all processes, by the thread that they were made in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: Dict[str, int] = {}
        look = process_groups._pids

        def noted() -> Any:
            name = threading.current_thread().name
            self.threads[name] = self.threads.get(name, 0) + 1
            return look()

        monkeypatch.setattr(process_groups, "_pids", noted)


@needs_proc
def test_a_shell_that_ignores_its_signal_is_waited_for_without_a_look_at_all_processes(
    talk: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    wire = talk()
    wire.send_commands(STUBBORN)
    pid = int(wire.receive()["text"])
    wire.cancel()
    assert wire.receive() == CANCELLED
    assert looks.threads == {}
    wait_until_ended(pid)


@needs_proc
def test_many_groups_that_do_not_end_share_their_looks_and_keep_nobody_waiting(
    start: StartRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    pipe = Pipe(tmp_path / "pids")
    # The shells end by the signal, and their children do not: to see that, one has to look.
    stubborn = "(trap '' TERM; echo > ready; exec sleep 100) & read x < ready; echo $! > pids; wait"
    runtime = start(kill_grace=1.0)
    wires = []
    pids: List[int] = []
    with wire_to(runtime) as other:
        with contextlib.ExitStack() as stack:
            for number in range(8):
                wire = stack.enter_context(wire_to(runtime))
                directory = tmp_path / str(number)
                directory.mkdir()
                os.mkfifo(directory / "ready")
                os.symlink(tmp_path / "pids", directory / "pids")
                wire.send_commands({"command": stubborn, "cwd": str(directory)})
                pids += pipe.numbers()
                wires.append(wire)
            for wire in wires:
                wire.cancel()
            for _ in range(20):
                other.assert_idle()
            for wire in wires:
                assert wire.receive_until()[-1] == CANCELLED
    wait_until_ended(*pids)
    assert set(looks.threads) == {"runtimeuse-look"}
    # At most two for each group, however long it lasts: one for who is there, one when they have ended.
    assert looks.threads["runtimeuse-look"] <= 2 * len(wires)


@needs_proc
def test_what_a_runtime_in_a_command_has_started_carries_both_marks(start: StartRuntime, tmp_path: Path) -> None:
    command = " ".join([*COMMAND, "--port", "0", "--root", str(tmp_path)])
    pipe = Pipe(tmp_path / "pid")
    runtime = start(stop_timeout=10.0, kill_grace=10.0)
    with wire_to(runtime) as wire:
        wire.send_commands({"command": f"exec {command}", "env": {"PYTHONPATH": os.getcwd()}})
        said = wire.receive()["text"]
        with connect(said.split()[-1]) as connection:
            inner = Wire(connection)
            inner.commands("setsid sh -c 'echo $$ > pid; sleep 100; :' > /dev/null 2>&1 &")
            [pid] = pipe.numbers()
            with open(f"/proc/{pid}/environ", "rb") as environment:
                [marks] = [entry for entry in environment.read().split(b"\0") if entry.startswith(MARK.encode())]
            outer, own = marks.decode().partition("=")[2].split(":")
            assert pid in process_groups.processes_with(MARK, outer)
            assert pid in process_groups.processes_with(MARK, own)
            assert pid not in process_groups.processes_with(MARK, f"{outer}:{own}")
            wire.cancel()
            assert wire.receive_until()[-1] == CANCELLED
    wait_until_ended(pid)


@needs_proc
def test_a_runtime_that_is_killed_takes_its_commands_with_it(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pid")
    with running("--root", str(tmp_path)) as process, connect(url_of(process)) as connection:
        wire = Wire(connection)
        wire.commands("setsid sh -c 'trap \"\" TERM; echo $$ > pid; sleep 100; :' > /dev/null 2>&1 &")
        pids = pipe.numbers()
        wire.send_commands("trap '' TERM; sleep 100 & echo $! $$; wait")
        pids += [int(word) for word in wire.receive()["text"].split()]
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        wait_until_ended(*pids)


@needs_proc
def test_so_does_a_runtime_in_a_command_that_is_killed(start: StartRuntime, tmp_path: Path) -> None:
    command = " ".join([*COMMAND, "--port", "0", "--root", str(tmp_path)])
    runtime = start(kill_grace=0.0)
    with wire_to(runtime) as wire:
        wire.send_commands({"command": f"exec {command}", "env": {"PYTHONPATH": os.getcwd()}})
        with connect(wire.receive()["text"].split()[-1]) as connection:
            inner = Wire(connection)
            inner.send_commands(STUBBORN)
            pid = int(inner.receive()["text"])
            wire.cancel()
            assert wire.receive_until()[-1] == CANCELLED
            wait_until_ended(pid)


@needs_proc
def test_a_program_that_ends_without_a_word_takes_its_runtimes_commands_with_it(tmp_path: Path) -> None:
    code = """
import json, os, sys
from runtimeuse_sync.runtime import LocalRuntime
from websockets.sync.client import connect
connection = connect(LocalRuntime().start().ws_url)
command = {"command": "trap '' TERM; echo $$; sleep 100; :"}
connection.send(json.dumps({"message_type": "command_execution_message", "commands": [command]}))
print(json.loads(connection.recv())["text"], flush=True)
os._exit(0)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=CHILD_LIMIT
    ).stdout
    wait_until_ended(int(said))
