"""Shells complete the command: their scripts, and what these get as an answer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from ..support.processes import CHILD_LIMIT
from .conftest import Command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(command: Command, shell: str) -> None:
    code, out, err = command("completion", shell)
    assert (code, err) == (0, "")
    assert f"_RUNTIMEUSE_SYNC_COMPLETE={shell}_complete" in out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=out.encode(), check=True, timeout=CHILD_LIMIT)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("q", ["query"]),
        ("", ["completion", "cp", "doctor", "exec", "query", "serve"]),
        ("query --sy", ["--system-prompt"]),
        ("query --local --agent s", ["shell"]),
        ("completion z", ["zsh"]),
        ("serve --ho", ["--host"]),
        ("serve --agent shell --po", ["--port"]),
    ],
)
def test_what_is_completed(command: Command, monkeypatch: pytest.MonkeyPatch, words: str, completed: List[str]) -> None:
    line = f"runtimeuse-sync {words}"
    monkeypatch.setenv("_RUNTIMEUSE_SYNC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    code, out, err = command()
    assert (code, err) == (0, "")
    assert [each.partition(",")[2] for each in out.splitlines()] == completed


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_in_bash(tmp_path: Path) -> None:
    script = tmp_path / "runtimeuse-sync"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m runtimeuse_sync "$@"\n')
    script.chmod(0o755)
    program = f"""
        PATH={tmp_path}:$PATH
        eval "$(runtimeuse-sync completion bash)"
        complete -p runtimeuse-sync
        COMP_WORDS=(runtimeuse-sync doc) COMP_CWORD=1
        _runtimeuse_sync_completion runtimeuse-sync
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", program], capture_output=True, text=True, timeout=CHILD_LIMIT, check=True
    )
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _runtimeuse_sync_completion runtimeuse-sync",
        "doctor",
    ]
