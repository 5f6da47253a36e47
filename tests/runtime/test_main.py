from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from .processes import Pipe, wait_until_ended
from .wire import CANCELLED, PATIENCE, Wire, assert_closed

COMMAND = [sys.executable, "-m", "runtimeuse_sync.runtime"]


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Runtime is listening on ws://127.0.0.1:"), line
    return line.split()[-1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_what_runs_and_ends_it(tmp_path: Path, number: int) -> None:
    pipe = Pipe(tmp_path / "pids")
    with running("--root", str(tmp_path)) as process, connect(url_of(process)) as connection:
        wire = Wire(connection)
        wire.send_commands("sleep 60 & echo $! $$ > pids; wait")
        pids = pipe.numbers()
        os.kill(process.pid, number)
        assert wire.receive() == CANCELLED
        assert_closed(connection)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (0, "", "")
    wait_until_ended(*pids)


def test_agent_token_and_origin(tmp_path: Path) -> None:
    arguments = ["--agent", "echo", "--token", "t", "--allow-origin", "http://a", "--log-level", "debug"]
    with running(*arguments) as process:
        url = url_of(process)
        with connect(url + "?token=t", origin=Origin("http://a")) as connection:
            assert Wire(connection).query("hello there")[0]["data"]["text"] == "hello there"
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert "hello there" not in err
        assert "token=t" not in err


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with running() as process:
        port = url_of(process).rpartition(":")[2]
        failed = run("--port", port)
    assert failed.returncode == 2
    assert failed.stderr == f"runtimeuse_sync.runtime: cannot listen on 127.0.0.1:{port}: the port is in use\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--agent", "no_such"], "unknown agent 'no_such'"),
        (["--agent", "no_such_module:run"], "no_such_module"),
        (["--host", "0.0.0.0"], "token"),
        (["--port", "70000"], "--port"),
        (["--heartbeat-interval", "0"], "heartbeat_interval"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(arguments: List[str], said: str) -> None:
    failed = run(*arguments)
    assert failed.returncode == 2
    assert said in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_help_says_it_all() -> None:
    said = run("--help").stdout
    for option in ("--agent", "--host", "--port", "--root", "--token", "--no-auth", "--allow-origin", "--log-level"):
        assert option in said
    assert "it is no sandbox" in said
