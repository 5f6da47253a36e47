"""Commands and prompts that are longer than what a process can be given as an argument."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from .conftest import Connect
from .wire import CANCELLED, Wire, output

#: More than Linux takes for one argument, and than it takes for all of them.
SIZES = [200_000, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_long_command_runs(wire: Wire, size: int) -> None:
    text = "x" * size
    messages = wire.commands(f"printf %s {text}")
    assert messages[-1]["results"] == [{"command": f"printf %s {text}", "exit_code": 0, "stdout": text}]


@pytest.mark.parametrize("size", SIZES)
def test_a_long_prompt_runs(talk: Connect, size: int) -> None:
    assert talk("shell").query(f"echo done\n# {'x' * size}")[-1]["data"]["text"] == "done\n"


@pytest.mark.parametrize(
    "command",
    [
        'echo "$0" "$#" "$-"',
        "bash -c 'echo $0 $#'; sh -c 'echo $0'; echo 'echo $0' | sh",
        "cat; read line; echo $? $line",
        "ls /proc/self/fd | wc -l; readlink /proc/self/fd/0",
        "return 4",
        "exit 5",
        "set -e; false; echo never",
        "kill -KILL $$",
        "false\n",
        "# nothing but a note",
        "\n\necho second line",
        "no_such_command_at_all",
        "cat <<end\n$((1 + 1))\nend\n",
        "trap 'echo at the end' EXIT",
    ],
)
def test_a_long_command_does_what_a_short_one_does(wire: Wire, command: str) -> None:
    def result(text: str) -> object:
        messages = wire.commands(text)
        [result] = messages[-1]["results"]
        # The number of the line, and that a file is read, are the shell's affair.
        return result["exit_code"], result.get("stdout"), output(messages, "stderr").rpartition(":")[2]

    assert result(f"{command}\n# {'x' * 200_000}") == result(f"{command}\n# x")


def test_a_long_command_that_is_none_fails(wire: Wire) -> None:
    messages = wire.commands(f"if (\n# {'x' * 200_000}")
    assert messages[-1]["results"][0]["exit_code"] == 2
    assert "yntax error" in output(messages, "stderr")
    assert "null byte" in wire.commands(f"true\0 {'x' * 200_000}")[-1]["error"]
    wire.assert_idle()


@pytest.mark.parametrize("memory", [True, False])
def test_a_long_command_that_is_cancelled_leaves_no_file(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    if not memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    wire.send_commands(f"echo running; exec sleep 100\n# {'x' * 200_000}")
    assert wire.receive()["text"] == "running\n"
    assert list((tmp_path / "temporary").iterdir()) == []
    wire.cancel()
    assert wire.receive() == CANCELLED
    assert wire.commands("echo $0")[-1]["results"][0]["stdout"] == "/bin/sh\n"
