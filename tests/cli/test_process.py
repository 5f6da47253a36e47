"""The command in pipes: output as it comes, closed pipes, signals, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import pytest

from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, Start, assistant, output, ran, text
from ..support.processes import CHILD_LIMIT, Pipe, wait_until_ended
from ..support.servers import PATIENCE, Peer
from .processes import line_of, started

pytestmark = pytest.mark.skipif(
    (3, 9) <= sys.version_info < (3, 13), reason="many processes: on the oldest and the newest interpreter only"
)


def test_output_comes_as_it_is_printed(serve: Serve) -> None:
    """The second line comes only once the first has been read at the other end of the pipe."""
    read = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("one"))
        assert read.wait(PATIENCE)
        peer.send(assistant("two"), text("one\ntwo\n"))

    with started("query", "--url", serve(script).url, "hi") as process:
        assert line_of(process) == b"one\n"
        read.set()
        assert process.communicate(timeout=CHILD_LIMIT) == (b"two\n", b"")
        assert process.returncode == 0


def test_a_closed_pipe_cancels_and_is_141(serve: Serve) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("y\n"))
        assert closed.wait(PATIENCE)
        peer.send(output("y\n"))
        peer.expect("cancel_message")

    with started("exec", "--url", serve(script).url, "yes") as process:
        assert line_of(process) == b"y\n"
        assert process.stdout is not None
        process.stdout.close()
        closed.set()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(CHILD_LIMIT) == 141


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["completion", "bash"], ["completion", "fish"]])
def test_a_closed_pipe_of_other_texts_is_141(arguments: List[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with started(*arguments, stdout=writing) as process:
        os.close(writing)
        assert (process.communicate(timeout=CHILD_LIMIT)[1], process.returncode) == (b"", 141)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("arguments", [["exec", "echo hi"], ["--help"]])
def test_a_full_disk_is_1(runtime: LocalRuntime, arguments: List[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with started(*arguments, stdout=full, env={"RUNTIMEUSE_WS_URL": runtime.ws_url}) as process:
        os.close(full)
        said = process.communicate(timeout=CHILD_LIMIT)[1]
        assert said == b"runtimeuse-sync: cannot write to stdout: No space left on device\n"
        assert process.returncode == 1


def test_ctrl_c_cancels_and_waits(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("working\n"))
        peer.expect("cancel_message")
        peer.send(output("cleaning up\n"), ran("make", exit_code=2))

    with started("exec", "--url", serve(script).url, "make") as process:
        assert line_of(process) == b"working\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=CHILD_LIMIT)
        assert (out, err) == (b"cleaning up\n", b"runtimeuse-sync: cancelling; Ctrl-C again leaves at once\n")
        assert process.returncode == 130


@pytest.mark.parametrize("json", [False, True])
def test_a_second_ctrl_c_leaves_at_once(serve: Serve, json: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("working"))
        peer.expect("cancel_message")  # and it is not heeded

    server = serve(script)
    with started("query", *["--json"] * json, "--url", server.url, "hi") as process:
        line_of(process)
        process.send_signal(signal.SIGINT)
        server.wait_for("cancel_message")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=CHILD_LIMIT)
        assert (err, process.returncode) == (b"runtimeuse-sync: cancelling; Ctrl-C again leaves at once\n", 130)


def test_ctrl_c_while_it_connects(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.until_gone()

    server = serve(script)
    with started("query", "--url", server.url, "hi") as process:
        server.wait_for_connections(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=CHILD_LIMIT)
        assert (out, process.returncode) == (b"", 130)
        assert b"Traceback" not in err


def test_sigterm_cancels(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("working"))
        peer.expect("cancel_message")

    with started("query", "--url", serve(script).url, "hi") as process:
        assert line_of(process) == b"working\n"
        process.terminate()
        assert (process.communicate(timeout=CHILD_LIMIT), process.returncode) == ((b"", b""), 128 + signal.SIGTERM)


def test_an_ignored_ctrl_c_is_ignored(serve: Serve) -> None:
    """As in the background of a script."""
    sent = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("working"))
        assert sent.wait(PATIENCE)
        peer.send(text("done"))

    ignore = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-m", "runtimeuse_sync", "query", "--url", serve(script).url, "hi"]
    process = subprocess.Popen([sys.executable, "-c", ignore, *command], stdout=subprocess.PIPE, bufsize=0)
    with process:
        assert line_of(process) == b"working\n"
        process.send_signal(signal.SIGINT)
        sent.set()
        assert line_of(process) == b"done\n"
    assert process.returncode == 0


def test_ctrl_c_ends_what_the_embedded_runtime_runs(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pids")
    with started("exec", "--local", "echo $$ > pids; sleep 60", cwd=str(tmp_path)) as process:
        pids = pipe.numbers()
        process.send_signal(signal.SIGINT)
        assert process.wait(CHILD_LIMIT) == 130
    wait_until_ended(*pids)


def test_without_stderr_it_works(runtime: LocalRuntime) -> None:
    line = f"exec {sys.executable} -m runtimeuse_sync exec --url {runtime.ws_url} 'echo hi; echo err >&2' 2>&-"
    done = subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE, timeout=CHILD_LIMIT, check=False)
    assert (done.returncode, done.stdout) == (0, b"hi\n")


def test_without_stdout_it_says_so(runtime: LocalRuntime) -> None:
    line = f"exec {sys.executable} -m runtimeuse_sync exec --url {runtime.ws_url} 'echo hi' >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, timeout=CHILD_LIMIT, check=False)
    said = b"runtimeuse-sync: cannot write to stdout: Bad file descriptor\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_stream_that_lacks_characters(start: Start) -> None:
    url = start().ws_url
    with started("query", "--url", url, "echo ü€", env={"PYTHONIOENCODING": "latin-1"}) as process:
        assert process.communicate(timeout=CHILD_LIMIT) == ("ü\\u20ac\n".encode("latin-1"), b"")
    with started("query", "--json", "--url", url, "echo ü", env={"PYTHONIOENCODING": "ascii"}) as process:
        assert b'["\\u00fc"]' in process.communicate(timeout=CHILD_LIMIT)[0]


def test_serve(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text(
        "def run(invocation, sender):\n    return 'served ' + invocation.user_prompt\n"
    )
    with started("serve", "--port", "0", "--agent", "my_agent:run", cwd=str(tmp_path)) as server:
        url = line_of(server).decode().split()[-1]
        with started("query", "--url", url, "it") as process:
            assert process.communicate(timeout=CHILD_LIMIT) == (b"served it\n", b"")
        server.send_signal(signal.SIGINT)
        assert (server.wait(CHILD_LIMIT), server.stderr.read() if server.stderr else b"") == (0, b"")


def test_the_help_of_serve_is_the_runtimes() -> None:
    with started("serve", "--help") as process:
        out, err = process.communicate(timeout=CHILD_LIMIT)
        assert (process.returncode, err) == (0, b"")
        assert out.startswith(b"usage: runtimeuse-sync serve [-h]")
        assert b"  runtimeuse-sync serve --agent my_package.agents:Reviewer" in out
