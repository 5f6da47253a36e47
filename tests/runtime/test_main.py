from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ContextManager, List

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from ..support.processes import CHILD_LIMIT, Pipe, killed_in_the_end, wait_until_ended
from ..support.servers import PATIENCE
from .wire import CANCELLED, Wire, assert_closed

COMMAND = [sys.executable, "-m", "runtimeuse_sync.runtime"]


def running(*arguments: str) -> ContextManager[subprocess.Popen[str]]:
    return killed_in_the_end(
        subprocess.Popen(
            [*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    )


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Runtime is listening on ws://127.0.0.1:"), line
    return line.split()[-1]


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=CHILD_LIMIT, **more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


def test_a_parent_that_ignores_the_end_of_its_children(tmp_path: Path) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", ignoring, *COMMAND, "--port", "0", "--root", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with killed_in_the_end(started) as process, connect(url_of(process)) as connection:
        [result] = [item for message in Wire(connection).commands("exit 3") for item in message.get("results", [])]
        assert result["exit_code"] == 3


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


def test_it_stops_at_the_end_of_stdin(tmp_path: Path) -> None:
    """As it does when the process that started it is killed."""
    command = [*COMMAND, "--port", "0", "--until-eof", "--root", str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pipe = Pipe(tmp_path / "pids")
    process: subprocess.Popen[str] = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
    with killed_in_the_end(process), connect(url_of(process)) as connection:
        assert process.stdin is not None
        process.stdin.write("what comes before the end does not matter\n")
        process.stdin.flush()
        wire = Wire(connection)
        wire.send_commands("echo $$ > pids; sleep 60")
        pids = pipe.numbers()
        process.stdin.close()
        assert wire.receive() == CANCELLED
        assert process.wait(PATIENCE) == 0
    wait_until_ended(*pids)


def test_there_is_no_end_of_stdin_to_wait_for() -> None:
    failed = run("--port", "0", "--until-eof", stdin=subprocess.DEVNULL)
    assert failed.returncode == 2
    assert failed.stderr.startswith("runtimeuse_sync.runtime: --until-eof needs a pipe or a terminal as stdin")


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
        (["--root", "/no/such/directory"], "root '/no/such/directory' is not a directory"),
        (["--root", "/dev/null"], "root '/dev/null' is not a directory"),
        # Nobody has to be asked for this one, whatever network there is.
        (["--host", "fe80::1%no-such-interface", "--no-auth"], "cannot listen on fe80::1%no-such-interface:8080"),
        (["--agent", "broken_agent:run"], "'broken_agent' cannot be imported: ValueError: it has two lines"),
        (["--agent", "unmakable_agent:Agent"], "cannot be created: RuntimeError: not today"),
        (["--agent", "leaving_agent:run"], "'leaving_agent' cannot be imported: SystemExit: 7"),
        (["--agent", "unmakable_agent:Leaving"], "cannot be created: SystemExit: 7"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    arguments: List[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "broken_agent.py").write_text("raise ValueError('it has\\ntwo lines')")
    (tmp_path / "leaving_agent.py").write_text("import sys; sys.exit(7)")
    (tmp_path / "unmakable_agent.py").write_text(
        "class Agent:\n    def __init__(self): raise RuntimeError('not today')\n"
        "class Leaving:\n    def __init__(self): raise SystemExit(7)\n"
    )
    failed = run(*arguments)
    assert failed.returncode == 2
    assert said in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_where_an_agents_module_failed_is_logged_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "broken_agent.py").write_text("\n\n1 / 0\n")
    failed = run("--agent", "broken_agent:run", "--log-level", "debug")
    assert failed.returncode == 2
    assert f'File "{tmp_path / "broken_agent.py"}", line 3' in failed.stderr
    assert failed.stderr.splitlines()[-1].endswith("cannot be imported: ZeroDivisionError: division by zero")


def test_help_says_it_all() -> None:
    said = run("--help").stdout
    for option in ("--agent", "--host", "--port", "--root", "--token", "--no-auth", "--allow-origin", "--log-level"):
        assert option in said
    assert "It is not a sandbox" in said


def test_the_token_of_the_environment_is_for_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIMEUSE_TOKEN", "opensesame")
    (tmp_path / "tokens.py").write_text("import os\nagent = lambda *_: repr(os.environ.get('RUNTIMEUSE_TOKEN'))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with running("--root", str(tmp_path), "--agent", "tokens:agent") as process:
        with connect(url_of(process) + "?token=opensesame") as connection:
            wire = Wire(connection)
            assert wire.query("x")[-1]["data"]["text"] == "None"
            show = "echo ${RUNTIMEUSE_TOKEN-none}"
            results = wire.commands(show, {"command": show, "env": {"RUNTIMEUSE_TOKEN": "its own"}})[-1]["results"]
            assert [result["stdout"] for result in results] == ["none\n", "its own\n"]


def test_nor_is_that_of_a_program_with_a_runtime(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIMEUSE_TOKEN", "opensesame")
    assert wire.query("echo ${RUNTIMEUSE_TOKEN-none}")[-1]["data"]["text"] == "none\n"
