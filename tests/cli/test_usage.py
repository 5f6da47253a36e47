"""Wrong usage is exit code 2 and one line on stderr, which shows no value that may be secret; help is help."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

import runtimeuse_sync
from runtimeuse_sync.cli import main

from ..support.processes import CHILD_LIMIT
from .conftest import Command

ROOT = Path(__file__).resolve().parents[2]

HERE = ["--url", "ws://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "no such command"),
        (["query", "--nosuch", "x"], "no such option"),
        (["query", "x"], "which runtime? Pass --url, or set RUNTIMEUSE_WS_URL, or start one by --local"),
        (["query", *HERE, "--local", "x"], "--local and --url exclude each other"),
        (["query", *HERE, "--agent", "echo", "x"], "--agent needs --local"),
        (["query", "--local", "--agent", "nosuch", "x"], "unknown agent 'nosuch'"),
        (["query", "--local", "--agent", "nosuch:x", "x"], "cannot be imported"),
        (["query", "--local", "--agent", "openai", "x"], "the agent openai needs --model"),
        (["query", "--url", "ftp://x", "x"], "the URL must begin with ws://, wss://, http:// or https://"),
        (["query", *HERE, "--timeout", "0", "x"], "it must be more than 0 seconds, not 0"),
        (["query", *HERE, "--timeout", "nan", "x"], "it must be more than 0 seconds, not nan"),
        (["query", *HERE, "--timeout", "soon", "x"], "'soon' is not a number of seconds"),
        (["query", *HERE, "--header", "no-colon-s3cret", "x"], "--header number 1 is not of the form 'NAME: VALUE'"),
        (["query", *HERE, "--header", "A: b", "--header", ": s3cret", "x"], "--header number 2"),
        (["query", *HERE, "--header", "A B: s3cret", "x"], "headers"),
        (["query", *HERE, "--env", "=s3cret", "x"], "--env needs NAME=VALUE"),
        (["query", *HERE, "--env", "NO_SUCH", "x"], "no variable NO_SUCH"),
        (["query", *HERE, "--env", "sk-s3cret", "x"], "no variable of that name"),
        (["query", *HERE, "--secret", "s3cret", "x"], "--secret number 1 names a variable that"),
        (["query", *HERE, "--secret", "KEY=s3cret", "x"], "needs the name of an environment variable alone"),
        (["query", *HERE, "--schema", "-", "x"], "--schema needs a file"),
        (["exec", *HERE], "missing argument"),
        (["exec", *HERE, " "], "the command is empty"),
        (["exec", *HERE, "--env", "A B=x", "--cwd", "", "x"], "cwd must not be empty"),
        (["cp", "a"], "cp needs a source and a target"),
        (["cp", "a", "b"], "both on this machine"),
        (["cp", "sandbox:a", "sandbox:b"], "both in the sandbox"),
        (["cp", "a", "sandbox:b", "sandbox:c"], "both in the sandbox"),
        (["cp", "sandbox:a", "sandbox:b", "-"], "several sources need a directory"),
        (["cp", "-T", "a", "b", "sandbox:c"], "several sources need a directory"),
        (["cp", "-", "a", "sandbox:c"], "standard input can only be the one source"),
        (["cp", "", "sandbox:c"], "a path is empty"),
        (["cp", *HERE, "-", "sandbox:c/"], "needs a name"),
        (["doctor", "ws://a", *HERE], "the URL is given twice"),
        (["doctor", "ftp://a"], "the URL must begin with ws://, wss://, http:// or https://"),
        (["completion", "powershell"], "'powershell' is not one of"),
    ],
)
def test_wrong_usage(command: Command, arguments: List[str], said: str) -> None:
    code, out, err = command(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("runtimeuse-sync: ")
    assert said in err
    assert "s3cret" not in err


def test_no_subcommand_shows_the_help_on_stderr(command: Command) -> None:
    code, out, err = command()
    assert (code, out) == (2, "")
    for name in ("query", "exec", "cp", "serve", "doctor", "completion"):
        assert f"  {name} " in err


@pytest.mark.parametrize("name", ["query", "exec", "cp", "doctor", "completion"])
def test_help(command: Command, name: str) -> None:
    code, out, err = command(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: runtimeuse-sync {name} ")
    assert "\b" not in out


@pytest.mark.parametrize("name", ["", "query", "exec", "cp", "doctor", "completion"])
def test_the_reference_has_the_help(command: Command, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    title = f"runtimeuse-sync {name}".strip()
    # Versions of click differ in whether the command is optional.
    shown = command(*name.split(), "--help").out.replace("] COMMAND [ARGS]", "] [COMMAND] [ARGS]")
    assert f"## `{title}`\n\n```text\n{shown}```\n" in page


def test_streams_that_are_no_files() -> None:
    """As `contextlib.redirect_stdout` and notebooks put them in place."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert (main(["--version"]), main(["query"])) == (0, 2)
    assert out.getvalue().startswith("runtimeuse-sync")
    assert err.getvalue()


def test_version(command: Command) -> None:
    assert command("--version") == (0, f"runtimeuse-sync {runtimeuse_sync.__version__}\n", "")


@pytest.mark.parametrize("package", ["click", "rich"])
def test_a_missing_extra_is_named(package: str) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None; "
    program = hidden + "from runtimeuse_sync.cli import main; sys.exit(main(['query', '--local', 'echo hi']))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=CHILD_LIMIT, check=False
    )
    said = (
        f"runtimeuse-sync needs the package '{package}', which is not installed: pip install 'runtimeuse-sync[cli]'\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_missing_extra_of_the_runtime_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets", None)
    for name in [name for name in sys.modules if name.startswith("websockets.")]:
        monkeypatch.setitem(sys.modules, name, None)
    code, out, err = command("query", "--local", "echo hi")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert 'pip install "runtimeuse-sync[runtime]"' in err


def test_what_the_command_imports() -> None:
    """A query over the network needs neither the runtime nor what draws on terminals."""
    program = (
        "import json, sys; from runtimeuse_sync.cli import main; main(['query', '--url', 'ws://127.0.0.1:1', '']);"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=CHILD_LIMIT, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "click" in loaded
    unwanted = {"asyncio", "concurrent.futures", "rich.console", "runtimeuse_sync.runtime", "runtimeuse_sync.files"}
    assert loaded & unwanted == set()
