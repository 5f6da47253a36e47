"""The runtime as a process whose terminal, or whatever reads its output, goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
from websockets.sync.client import connect

from ..support.processes import CHILD_LIMIT, wait_until_ended
from ..support.servers import PATIENCE
from .test_main import COMMAND, running, url_of
from .wire import CANCELLED, Wire, output


def test_a_closed_terminal_may_say_so_twice(tmp_path: Path) -> None:
    for name in ("hold", "end"):
        os.mkfifo(tmp_path / name)
    long = str(4 * PATIENCE)
    with running("--kill-grace", long, "--stop-timeout", long) as process, connect(url_of(process)) as connection:
        wire = Wire(connection)
        # The child says itself that it is there. One that has just been forked still has the shell's trap, and a signal
        # is lost that comes before it becomes another program.
        child = f"sh -c 'echo $PPID; read line < {tmp_path}/hold'"
        wire.send_commands(f"trap 'echo stopping' TERM; {child} & wait; read line < {tmp_path}/end")
        pid = int(wire.receive()["text"])
        process.send_signal(signal.SIGHUP)
        while wire.receive()["text"] != "stopping\n":
            continue  # what the shell has to say of it
        # Now it is stopping, and waits for the command.
        process.send_signal(signal.SIGHUP)
        (tmp_path / "end").write_text("now\n")
        assert wire.receive_until()[-1] == CANCELLED
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0
    wait_until_ended(pid)


def test_what_nohup_started_outlives_its_terminal() -> None:
    with subprocess.Popen(
        ["nohup", *COMMAND, "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            with connect(url_of(process)) as connection:
                process.send_signal(signal.SIGHUP)
                assert output(Wire(connection).commands("echo still here")) == "still here\n"
            process.terminate()
            assert process.communicate(timeout=PATIENCE) == ("", "")
            assert process.returncode == 0
        finally:
            process.kill()


@pytest.mark.parametrize("options", [[], ["-W", "error"]])
def test_without_anybody_to_tell_where_it_listens_it_does_not_start(options: List[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        failed = subprocess.run(
            [sys.executable, *options, *COMMAND[1:], "--port", "0"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=CHILD_LIMIT,
        )
    finally:
        os.close(writing)
    assert failed.stderr == "runtimeuse_sync.runtime: cannot write its address to stdout: Broken pipe\n"
    assert failed.returncode == 2
