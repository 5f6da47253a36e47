from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any, Dict, List, Optional, Tuple

import psutil
import pytest

from runtimeuse_sync.runtime.commands.output import _Pipe

from ..support.processes import Pipe, wait_until_ended
from .conftest import Connect, StartRuntime
from .wire import CANCELLED, Wire, output, wire_to


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_commands_run_in_order_and_stop_after_the_first_failure(wire: Wire, tmp_path: Path) -> None:
    messages = wire.commands(
        {"command": "echo $G; pwd", "env": {"G": "ready"}, "cwd": "new/dir"},
        "echo warn >&2",
        "printf x",
        "exit 3",
        "echo never",
    )
    printed: Dict[Tuple[str, str], str] = {}
    for message in messages[:-1]:  # in as many pieces as it pleases
        key = (message["command"], message["stream"])
        printed[key] = printed.get(key, "") + message["text"]
    assert list(printed.items()) == [
        (("echo $G; pwd", "stdout"), f"ready\n{tmp_path}/new/dir\n"),
        (("echo warn >&2", "stderr"), "warn\n"),
        (("printf x", "stdout"), "x"),
    ]
    assert messages[-1] == {
        "message_type": "command_execution_result_message",
        "results": [
            {"command": "echo $G; pwd", "exit_code": 0, "stdout": f"ready\n{tmp_path}/new/dir\n"},
            {"command": "echo warn >&2", "exit_code": 0},
            {"command": "printf x", "exit_code": 0, "stdout": "x"},
            {"command": "exit 3", "exit_code": 3},
        ],
    }


def test_the_environment_is_merged_over_the_runtimes_own(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEPT", "kept")
    monkeypatch.setenv("TEST_CHANGED", "old")
    messages = wire.commands({"command": "echo $TEST_KEPT $TEST_CHANGED", "env": {"TEST_CHANGED": "new"}})
    assert output(messages) == "kept new\n"


def test_a_command_ended_by_a_signal_has_the_exit_code_minus_one(wire: Wire) -> None:
    assert wire.commands("kill -9 $$")[-1]["results"] == [{"command": "kill -9 $$", "exit_code": -1}]


def test_output_comes_as_it_is_printed(wire: Wire, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    wire.send_commands("echo one; read x < go; echo two")
    assert wire.receive()["text"] == "one\n"
    (tmp_path / "go").write_text("\n")
    assert wire.receive()["text"] == "two\n"
    assert wire.receive()["results"][0]["stdout"] == "one\ntwo\n"


def test_characters_split_over_two_reads_stay_whole(wire: Wire) -> None:
    messages = wire.commands(r"printf '\303'; sleep 0.1; printf '\251\377\360\237'")
    assert output(messages) == "é\ufffd\ufffd"
    assert messages[-1]["results"][0]["stdout"] == "é\ufffd\ufffd"


def test_output_of_any_size_is_returned_whole(wire: Wire) -> None:
    size = 5_000_000
    messages = wire.commands(f"yes 123456789 | head -c {size}")
    assert output(messages) == messages[-1]["results"][0]["stdout"] == "123456789\n" * (size // 10)


def test_a_cancel_ends_the_whole_group(wire: Wire, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pids")
    wire.send_commands("sleep 60 & echo $! $$ > pids; wait", "echo never")
    child, shell = pipe.numbers()
    wire.cancel()
    assert wire.receive() == CANCELLED
    assert has_ended(child)
    assert has_ended(shell)
    assert wire.commands("echo next")[-1]["results"][0]["stdout"] == "next\n"


def test_processes_that_ignore_the_first_signal_get_the_second(talk: Connect, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pids")
    wire = talk(kill_grace=0.2)
    script = "trap '' TERM; (trap '' TERM; while :; do sleep 60; done) & echo $! $$ > pids; while :; do wait; done"
    wire.send_commands(script)
    pids = pipe.numbers()
    started = time.monotonic()
    wire.cancel()
    assert wire.receive() == CANCELLED
    assert time.monotonic() - started >= 0.2
    wait_until_ended(*pids)


def test_a_stopped_process_is_ended_too(wire: Wire, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pids")
    wire.send_commands("echo $$ > pids; kill -STOP $$")
    [pid] = pipe.numbers()
    wire.cancel()
    assert wire.receive() == CANCELLED
    assert has_ended(pid)


def test_a_cancel_comes_through_while_the_client_does_not_read(wire: Wire) -> None:
    wire.send_commands("yes")
    wire.receive()
    wire.cancel()
    assert wire.receive_until()[-1] == CANCELLED


def test_background_children_do_not_keep_a_request_waiting(wire: Wire, tmp_path: Path) -> None:
    wire.send_commands("echo before; sleep 60 & echo $! > pid")
    messages = wire.receive_until()
    assert messages[-1]["results"][0]["stdout"] == "before\n"
    pid = int((tmp_path / "pid").read_text())
    assert not has_ended(pid)
    os.kill(pid, signal.SIGKILL)


def test_not_even_background_children_that_never_stop_printing(wire: Wire) -> None:
    messages = wire.commands("yes & exit 0")
    assert messages[-1]["results"][0]["exit_code"] == 0


def test_a_cancel_while_a_slow_client_reads_what_is_left_ends_background_children(wire: Wire, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pid")
    # The shell exits at once; what its child prints is more than anybody takes without being read.
    wire.send_commands("yes & echo $! > pid")
    [pid] = pipe.numbers()
    wire.cancel()
    last = wire.receive_until()[-1]
    # The cancel may come too late: after the runtime has read all that can be the shell's.
    assert last == CANCELLED or last["results"][0]["exit_code"] == 0
    if last == CANCELLED:
        assert has_ended(pid)


def test_background_children_end_with_the_runtime(start: StartRuntime, tmp_path: Path) -> None:
    runtime = start()
    with wire_to(runtime) as wire:
        wire.commands("sleep 60 & echo $! > one", "setsid sleep 60 > /dev/null & echo $! > two")
    pids = [int((tmp_path / name).read_text()) for name in ("one", "two")]
    assert not any(has_ended(pid) for pid in pids)
    runtime.stop()
    wait_until_ended(*pids)


def test_a_client_that_vanishes_leaves_no_process(start: StartRuntime, tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pids")
    with wire_to(start()) as wire:
        wire.send_commands("sleep 60 & echo $! $$ > pids; wait")
        pids = pipe.numbers()
        wire.connection.socket.shutdown(2)
    wait_until_ended(*pids)


@pytest.mark.parametrize(
    ("command", "error_name"),
    [
        ({"command": "true", "cwd": "file/below"}, "NotADirectoryError"),
        ({"command": "true\0"}, "ValueError"),
        ({"command": "true", "env": {"A=B": "c"}}, "ValueError"),
    ],
)
def test_a_command_that_cannot_be_started_is_an_error(
    wire: Wire, tmp_path: Path, command: Any, error_name: str
) -> None:
    (tmp_path / "file").write_text("")
    [answer] = wire.commands(command)
    assert answer["message_type"] == "error_message"
    assert answer["metadata"]["error_name"] == error_name
    wire.assert_idle()


def test_commands_before_and_after_the_agent(talk: Connect) -> None:
    messages = talk("echo").query(
        "x",
        pre_agent_invocation_commands=[{"command": "echo pre"}],
        post_agent_invocation_commands=[{"command": "echo post"}],
    )
    assert [message.get("text") for message in messages[:-1]] == ["pre\n", "post\n"]
    assert messages[-1]["data"]["text"] == "x"


@pytest.mark.parametrize("when", ["pre", "post"])
def test_a_failing_command_around_the_agent_is_an_error(talk: Connect, when: str) -> None:
    commands = {f"{when}_agent_invocation_commands": [{"command": "echo x; exit 4"}, {"command": "echo never"}]}
    messages = talk("echo").query("x", **commands)
    assert output(messages) == "x\n"
    assert messages[-1]["error"] == f"{when}-agent command failed with exit code: 4"
    assert messages[-1]["metadata"]["error_name"] == "Error"


@pytest.mark.parametrize(
    ("limit", "stdout"),
    [(None, "123456789\nSECRET"), (100, "123456789\nSECRET"), (4, "1234\n[cut: 4 of 20 characters]")],
)
def test_how_much_stdout_a_result_has_can_be_limited(talk: Connect, limit: Optional[int], stdout: str) -> None:
    messages = talk(max_stdout=limit).commands("echo 123456789; printf SECRET", secrets_to_redact=["SECRET"])
    masked = "123456789\n[REDACTED]"
    # What is streamed is never cut.
    assert output(messages) == masked
    assert messages[-1]["results"][0]["stdout"] == stdout.replace("SECRET", "[REDACTED]")


def test_a_limit_falls_between_characters(talk: Connect) -> None:
    messages = talk(max_stdout=3).commands("""printf %s 'é"\\é'""")
    assert output(messages) == 'é"\\é'
    assert messages[-1]["results"][0]["stdout"] == 'é"\\\n[cut: 3 of 4 characters]'


def test_the_shell_agents_text_is_limited_likewise(talk: Connect) -> None:
    messages = talk(max_stdout=6).query("echo my SECRET", secrets_to_redact=["SECRET"])
    assert messages[0]["text_blocks"] == ["my [REDACTED]"]
    assert messages[-1]["data"]["text"] == "my [RE\n[cut: 6 of 10 characters]"


async def widened(pipe: IO[bytes], writer: int, *reads: int) -> int:
    """Returns how much a pipe holds from which so much has been read at once."""
    reader = _Pipe("stdout", pipe, lambda: None)
    reader.start()
    for size in reads:
        os.write(writer, b"x" * size)
        assert reader.look()
        assert reader.take() == "x" * size
    holds = fcntl.fcntl(pipe.fileno(), 1032)
    reader.close()
    return holds


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets pipes be made larger")
def test_the_pipe_of_a_command_that_fills_it_is_made_larger() -> None:
    reader, writer = os.pipe()
    with open(writer, "wb"), open(reader, "rb") as pipe:
        before = fcntl.fcntl(reader, 1032)
        with open(os.dup(reader), "rb") as copy:
            assert asyncio.run(widened(copy, writer, 100, 4096, before - 1)) == before
        assert asyncio.run(widened(pipe, writer, 100, before, before)) == 2**18


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets pipes be made larger")
def test_a_pipe_that_may_not_be_made_larger_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fcntl.fcntl
    tried: List[int] = []

    def refuse(pipe: int, operation: int, size: int = 0) -> int:
        if operation == 1032:
            return plain(pipe, operation)
        tried.append(size)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("runtimeuse_sync.runtime.commands.output.fcntl.fcntl", refuse)
    reader, writer = os.pipe()
    with open(writer, "wb"), open(reader, "rb") as pipe:
        before = plain(reader, 1032)
        assert asyncio.run(widened(pipe, writer, before, before)) == before
    assert tried == [2**18]
