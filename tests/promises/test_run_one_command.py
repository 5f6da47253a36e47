"""`run`: one command, much as `subprocess.run` does it, on clients and sessions."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, List

import pytest

from runtimeuse_sync import (
    CancelledException,
    CommandFailedError,
    CommandInterface,
    CommandOutputMessageInterface,
    CommandResultItem,
    RunTimeoutError,
    RuntimeUseClient,
)
from runtimeuse_sync._call_methods import commands
from runtimeuse_sync._wire.command_input import MAX_INLINE
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import LATE, SOON, Serve, echo


@pytest.fixture(params=["client", "session"])
def caller(request: pytest.FixtureRequest, runtime: LocalRuntime) -> Any:
    client = RuntimeUseClient(runtime.ws_url)
    if request.param == "client":
        yield client
    else:
        with client.session() as session:
            yield session


def input_files() -> List[str]:
    return glob.glob(os.path.join(tempfile.gettempdir(), "runtimeuse-input-*"))


def test_the_result(caller: Any, tmp_path: Path) -> None:
    assert caller.run("echo out; echo err >&2") == CommandResultItem("echo out; echo err >&2", 0, "out\n", "err\n")
    item = caller.run("pwd; echo $A $B", cwd=tmp_path, env={"A": "1", "B": "2"})
    assert item.stdout == f"{tmp_path}\n1 2\n"


def test_arguments_override_those_of_the_command(caller: Any, tmp_path: Path) -> None:
    command = CommandInterface("pwd; echo $A $B", cwd="/", env={"A": "old", "B": "kept"})
    assert caller.run(command, cwd=tmp_path, env={"A": "new"}).stdout == f"{tmp_path}\nnew kept\n"
    assert command == CommandInterface("pwd; echo $A $B", cwd="/", env={"A": "old", "B": "kept"})


def test_a_failure(caller: Any) -> None:
    with pytest.raises(CommandFailedError) as caught:
        caller.run("echo out; echo err >&2; exit 3")
    assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (3, "out\n", "err\n")
    assert caller.run("exit 3", check=False).exit_code == 3


def test_a_deadline_keeps_what_was_printed(caller: Any) -> None:
    with pytest.raises(RunTimeoutError) as caught:
        caller.run("echo partial; exec sleep 60", timeout=SOON)
    assert caught.value.results == [CommandResultItem("echo partial; exec sleep 60", None, "partial\n")]


@pytest.mark.parametrize(
    "data",
    [
        "",
        "text\n",
        "ü\U0001f600 without an end",
        b"\x00\xff\n",
        pytest.param(b"x" * 300_000, id="several variables"),
        pytest.param(b"y" * MAX_INLINE, id="as much as fits"),
        pytest.param(b"z" * (MAX_INLINE + 1), id="by requests of its own"),
        pytest.param(b"z" * 3_000_000, id="several requests"),
    ],
)
def test_input(caller: Any, data: Any) -> None:
    raw = data if isinstance(data, bytes) else data.encode()
    sums = caller.run("cksum; env | grep -c RUNTIMEUSE_INPUT; true", input=data, timeout=60).stdout.split()
    assert int(sums[1]) == len(raw)
    assert sums[2] == "0"
    assert input_files() == []


def test_the_input_arrives_unchanged(caller: Any) -> None:
    data = bytes(range(256)) * 3
    shown = caller.run("od -An -v -tx1", input=data).stdout
    assert bytes.fromhex(shown.replace("\n", "").replace(" ", "")) == data


def test_users_see_only_their_command(caller: Any) -> None:
    seen: List[CommandOutputMessageInterface] = []
    command = "cat\ncat >&2; exit 3"
    with pytest.raises(CommandFailedError) as caught:
        caller.run(command, input="why", on_command_output=seen.append)
    assert [message.command for message in seen] == [command]
    assert caught.value.command == command
    assert caught.value.results == [CommandResultItem(command, 3, "why")]
    assert "RUNTIMEUSE_INPUT" not in str(caught.value) + repr(caught.value.args)


def test_an_input_that_is_not_read(caller: Any) -> None:
    assert caller.run("echo done", input="x" * 100_000).stdout == "done\n"
    with pytest.raises(RunTimeoutError):
        caller.run("exec sleep 60", input="x", timeout=SOON)
    assert input_files() == []


def test_a_large_input_is_removed(caller: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests' inputs are in the same directory.
    mark = uuid.uuid4().hex
    monkeypatch.setattr(secrets, "token_hex", lambda size: mark)
    large = b"x" * (MAX_INLINE + 1)
    with pytest.raises(CommandFailedError) as caught:
        caller.run("exit 3", input=large)
    assert (caught.value.command, caught.value.exit_code) == ("exit 3", 3)
    with pytest.raises(RunTimeoutError):
        caller.run("exec sleep 60", input=large, timeout=2 * SOON)
    with pytest.raises(ValueError, match="cwd"):
        caller.run("true", input=large, cwd="")
    assert not Path(f"/tmp/runtimeuse-input-{mark}").exists()


def test_a_command_that_is_wrong_shell(caller: Any) -> None:
    assert caller.run("if then", input="x", check=False).exit_code != 0
    assert input_files() == []


def test_a_sandbox_that_cannot_hold_the_input(caller: Any, tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="this takes base64 and a writable") as caught:
        caller.run("cat", input="x", env={"TMPDIR": "/nowhere"})
    assert caught.value.exit_code == 126
    os.symlink(shutil.which("rm") or "", str(tmp_path / "rm"))
    with pytest.raises(CommandFailedError, match="this takes base64") as caught:
        caller.run("cat", input="x", env={"PATH": str(tmp_path)})
    assert caught.value.exit_code == 126
    assert input_files() == []


def test_what_is_sent(serve: Serve) -> None:
    server = serve(echo)
    assert RuntimeUseClient(server.url).run("ls", input="secret input").command == "ls"
    (said,) = server.said("command_execution_message")
    (command,) = said["commands"]
    assert command["command"].endswith("\nls")
    assert "secret input" not in str(said)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "named"),
    [
        ((3,), {}, TypeError, "command"),
        ((["ls"],), {}, TypeError, "command"),
        ((" ",), {}, ValueError, "command"),
        (("ls",), {"cwd": 3}, TypeError, "cwd"),
        (("ls",), {"cwd": ""}, ValueError, "cwd"),
        (("ls",), {"env": {"A": 1}}, TypeError, r"env\['A'\]"),
        (("ls",), {"env": {"A=": "1"}}, ValueError, "env"),
        (("ls",), {"input": 3}, TypeError, "input"),
        (("ls",), {"input": "\ud800"}, ValueError, "input"),
        (("ls",), {"timeout": 0}, ValueError, "timeout"),
        (("ls", "x"), {}, TypeError, "options"),
    ],
)
def test_bad_arguments(serve: Serve, arguments: Any, keywords: Any, error: Any, named: str) -> None:
    server = serve(echo)
    with pytest.raises(error, match=named):
        RuntimeUseClient(server.url).run(*arguments, **keywords)
    assert server.said("command_execution_message") == []


# A large input is written by requests of its own, which are parts of the one call.

LARGE = b"x" * (MAX_INLINE + 1)


def test_no_timeout_is_no_timeout_for_a_large_input(runtime: LocalRuntime) -> None:
    client = RuntimeUseClient(runtime.ws_url, timeout=0.001)
    assert client.run("wc -c", input=LARGE, timeout=None).stdout == f"{len(LARGE)}\n"


def test_a_deadline_with_a_large_input_names_the_callers_timeout(caller: Any) -> None:
    for size in (len(LARGE), 64 * 1024 * 1024):
        with pytest.raises(RunTimeoutError, match=r"(?m)^Command execution did not end within 1 s$") as caught:
            caller.run("exec sleep 60", input=b"x" * size, timeout=1, source_id="mine")
        assert caught.value.source_id == "mine"


def test_cancel_when_is_asked_while_a_large_input_is_written(caller: Any) -> None:
    asked: List[float] = []

    def cancelled() -> bool:
        asked.append(time.monotonic())
        return len(asked) == 3

    begun = time.monotonic()
    with pytest.raises(CancelledException, match=r"^Command execution was cancelled by cancel_when$"):
        caller.run("exec sleep 60", input=b"x" * 64 * 1024 * 1024, cancel_when=cancelled, cancel_poll_interval=0.1)
    assert time.monotonic() - begun < 2 * LATE
    assert min(after - before for before, after in zip(asked, asked[1:])) >= 0.1


def test_a_large_input_for_a_runtime_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_REMOVAL", 60.0)
    client = RuntimeUseClient("ws://127.0.0.1:1")
    begun = time.monotonic()
    with pytest.raises(RunTimeoutError):
        client.run("cat", input=LARGE, timeout=0.2)
    assert time.monotonic() - begun < LATE, "nothing was written, so there is nothing to wait for"
