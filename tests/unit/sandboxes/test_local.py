"""The embedded runtime in a process of its own: started, used, and ended in any event; failures to start in words."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient
from runtimeuse_sync.sandboxes import LocalProcess, SandboxError, local_process

from ...support.processes import CHILD_LIMIT, killed_in_the_end, wait_until_ended
from ...support.servers import PATIENCE
from ...support.threads import InThread

#: Each starts an interpreter, or more than one.
on_the_newest = pytest.mark.skipif(sys.version_info < (3, 13), reason="many processes: on the newest interpreter only")


def client_of(sandbox: LocalProcess, **keywords: Any) -> RuntimeUseClient:
    return RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="any", **keywords)


def pid_of(sandbox: LocalProcess) -> int:
    return int(client_of(sandbox).run("echo $PPID").stdout or "")


def agent(invocation: Any, sender: Any) -> str:  # the signature of agents
    """Runs in the process of the runtime."""
    logging.getLogger("runtimeuse_sync.runtime").warning("careful")
    print("printed by the agent")
    return f"{os.environ['COLOUR']}, {os.getcwd()}"


@contextlib.contextmanager
def written_to(tmp_path: Path, program: str) -> Iterator[subprocess.Popen[str]]:
    """Yields a program that runs."""
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    command = [sys.executable, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)
    with killed_in_the_end(process):
        yield process


def test_it_is_used_as_any_runtime_and_ends_with_the_block() -> None:
    with local_process() as sandbox:
        client = client_of(sandbox)
        client.wait_until_ready()
        with client.session() as session:
            assert session.query("echo hello").text == "hello\n"
        pid = pid_of(sandbox)
        assert pid != os.getpid()
        # Nobody else gets in, and commands do not see how to.
        with pytest.raises(RuntimeConnectionError) as caught:
            RuntimeUseClient(sandbox.ws_url).run("id")
        assert caught.value.status == 401
        token = sandbox.headers["Authorization"].split()[1]
        assert token not in f"{client.run('env').stdout} {sandbox!r} {client!r}"
        assert sandbox.ws_url in repr(sandbox)
        with pytest.raises(TypeError, match="pass its ws_url and headers"):
            pickle.dumps(sandbox)
    wait_until_ended(pid)
    assert repr(sandbox) == "<LocalProcess not running>"
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.ws_url
    sandbox.kill()
    with pytest.raises(RuntimeError, match="once only"):
        sandbox.__enter__()


def test_its_agent_its_place_and_what_it_prints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with local_process(f"{__name__}:agent", root=tmp_path, env={"COLOUR": "blue"}) as sandbox:
        assert client_of(sandbox).query("go").text == f"blue, {os.getcwd()}"
        process = sandbox._process
    # A signal could kill it before it has written what it has printed.
    assert process is not None
    assert process.returncode == 0
    records = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert ("runtimeuse_sync.sandboxes", "INFO", "printed by the agent") in records
    assert ("runtimeuse_sync.runtime", "WARNING", "careful") in records


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"agent": "no_such"}, "its process ended with the exit code 2; it says: .*unknown agent 'no_such'"),
        pytest.param({"agent": "no_such_module:x"}, "No module named 'no_such_module'", marks=on_the_newest),
        pytest.param({"root": "/no/such/directory"}, "'/no/such/directory' is not a directory", marks=on_the_newest),
        pytest.param(
            {"arguments": ["--heartbeat-interval", "x"]},
            "it says: argument --heartbeat-interval: invalid float value: 'x'$",
            marks=on_the_newest,
        ),
        pytest.param({"arguments": ["--host", "300.0.0.1"]}, "300.0.0.1", marks=on_the_newest),
        pytest.param({"start_timeout": 0.001}, r"the runtime did not start within 0\.001 s", marks=on_the_newest),
    ],
)
def test_it_says_why_it_does_not_start(keywords: Any, text: str) -> None:
    with pytest.raises(SandboxError, match=text), local_process(**keywords):
        raise AssertionError


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "websockets.py").write_text("raise ModuleNotFoundError(name='websockets')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SandboxError, match=r'pip install "runtimeuse-sync\[runtime\]"'), local_process():
        raise AssertionError


@pytest.mark.parametrize(("program", "text"), [("", "sys.executable"), ("/no/such/python", "/no/such/python")])
def test_there_is_no_interpreter(program: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(SandboxError, match=f"the runtime's process could not be started: .*{text}"), local_process():
        raise AssertionError


@on_the_newest
def test_it_is_killed_while_a_call_runs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    with local_process(root=tmp_path) as sandbox:
        call = InThread(client_of(sandbox).run, "echo $$ > begun; sleep 100")
        pid = int((tmp_path / "begun").read_text())
        sandbox.kill()
        assert "Request cancelled" in str(call.error())
    wait_until_ended(pid)


@on_the_newest
def test_one_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_STOP_LIMIT", "_LAST_LIMIT"):
        monkeypatch.setattr(f"runtimeuse_sync.sandboxes._local.{limit}", 0.2)
    with local_process() as sandbox:
        pid = pid_of(sandbox)
        os.kill(pid, signal.SIGSTOP)
    wait_until_ended(pid)


@on_the_newest
def test_one_that_is_not_told_by_the_end_of_its_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a program written in C was forked off in the middle, and holds the pipe."""
    monkeypatch.setattr("runtimeuse_sync.sandboxes._local._STOP_LIMIT", 0.01)
    monkeypatch.setattr("runtimeuse_sync.sandboxes._local._LAST_LIMIT", PATIENCE)
    with local_process() as sandbox, monkeypatch.context() as patch:
        patch.setattr(sandbox, "_cut_lifeline", lambda: None)
        sandbox.kill()
        process = sandbox._process
    sandbox._cut_lifeline()
    assert process is not None
    assert process.returncode == 0


@on_the_newest
def test_one_that_has_died_by_itself() -> None:
    with local_process() as sandbox:
        pid = pid_of(sandbox)
        os.kill(pid, signal.SIGKILL)
        wait_until_ended(pid)
        with pytest.raises(RuntimeConnectionError):
            client_of(sandbox, connect_timeout=0.1).run("id")


#: A program that starts a runtime, forks, prints the runtime's id and the child's, and waits for its end.
FORKING = """
import os, signal, sys
from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.sandboxes import local_process

with local_process() as sandbox:
    client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="any")
    child = os.fork()
    if child == 0:
        sandbox.kill()
        assert client.run("echo still there").stdout == "still there\\n"
        print(client.run("echo $PPID").stdout.strip(), os.getpid(), flush=True)
        signal.pause()
    os.waitpid(child, 0)
"""


@on_the_newest
def test_it_ends_with_this_program_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    with written_to(tmp_path, FORKING) as process:
        assert process.stdout is not None
        runtime, child = map(int, process.stdout.readline().split())
        try:
            process.kill()
            process.wait(PATIENCE)
            wait_until_ended(runtime)
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


#: One that exits by `sys.exit` in a thread's shadow, without ever leaving the block.
UNLEFT = """
import threading
from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.sandboxes import local_process

sandbox = local_process().__enter__()
client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="any")
print(client.run("echo $PPID").stdout.strip(), flush=True)
"""


@on_the_newest
def test_it_ends_with_a_program_that_never_leaves_the_block(tmp_path: Path) -> None:
    with written_to(tmp_path, UNLEFT) as process:
        assert process.stdout is not None
        runtime = int(process.stdout.readline())
        assert process.wait(CHILD_LIMIT) == 0
        wait_until_ended(runtime)
