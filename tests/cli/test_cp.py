"""`runtimeuse-sync cp`: files and trees both ways, to where `cp` would put them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from runtimeuse_sync.cli._cp import Progress
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Start
from .conftest import Command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the command is run in."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    path = tmp_path / "sandbox"
    path.mkdir()
    return path


@pytest.fixture
def runtime(start: Start, sandbox: Path) -> LocalRuntime:
    return start(root=str(sandbox))


def put(place: Path, files: Dict[str, str]) -> None:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(content)


def found(place: Path) -> Dict[str, str]:
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "there", "copied"),
    [
        (["a.txt", "sandbox:b.txt"], {}, {"b.txt": "A"}),
        (["a.txt", "sandbox:"], {}, {"a.txt": "A"}),
        (["a.txt", "sandbox:new/"], {}, {"new/a.txt": "A"}),
        (["a.txt", "sandbox:old"], {"old/x": "X"}, {"old/x": "X", "old/a.txt": "A"}),
        (["a.txt", "sandbox:old"], {"old": "X"}, {"old": "A"}),
        (["tree", "sandbox:copy"], {}, {"copy/t.txt": "T", "copy/sub/s.txt": "S"}),
        (["tree/", "sandbox:old"], {"old/x": "X"}, {"old/x": "X", "old/tree/t.txt": "T", "old/tree/sub/s.txt": "S"}),
        (["-r", "-T", "tree", "sandbox:old"], {"old/x": "X"}, {"old/x": "X", "old/t.txt": "T", "old/sub/s.txt": "S"}),
        (["a.txt", "tree/t.txt", "sandbox:many"], {}, {"many/a.txt": "A", "many/t.txt": "T"}),
        (["-T", "a.txt", "sandbox:."], {}, None),
    ],
)
def test_to_the_sandbox(
    command: Command,
    here: Path,
    sandbox: Path,
    runtime: LocalRuntime,
    arguments: List[str],
    there: Dict[str, str],
    copied: Any,
) -> None:
    put(here, {"a.txt": "A", "tree/t.txt": "T", "tree/sub/s.txt": "S"})
    put(sandbox, there)
    code, out, err = command("cp", "--url", runtime.ws_url, *arguments)
    if copied is None:
        assert (code, out, err) == (1, "", "runtimeuse-sync: '.': Is a directory\n")
    else:
        assert (code, out, err) == (0, "", "")
        assert found(sandbox) == copied


@pytest.mark.parametrize(
    ("arguments", "there", "copied"),
    [
        (["sandbox:a.txt", "b.txt"], {}, {"b.txt": "A"}),
        (["sandbox:a.txt", "."], {}, {"a.txt": "A"}),
        (["sandbox:tree/t.txt", "old"], {"old/x": "X"}, {"old/x": "X", "old/t.txt": "T"}),
        (["sandbox:tree", "copy"], {}, {"copy/t.txt": "T", "copy/sub/s.txt": "S"}),
        (["sandbox:tree", "old"], {"old/x": "X"}, {"old/x": "X", "old/tree/t.txt": "T", "old/tree/sub/s.txt": "S"}),
        (["sandbox:tree/.", "copy"], {}, {"copy/t.txt": "T", "copy/sub/s.txt": "S"}),
        (
            ["sandbox:a.txt", "sandbox:tree/t.txt", "old"],
            {"old/x": "X"},
            {"old/x": "X", "old/a.txt": "A", "old/t.txt": "T"},
        ),
        (["sandbox:a.txt", "./sandbox:"], {}, {"sandbox:": "A"}),
    ],
)
def test_from_the_sandbox(
    command: Command,
    here: Path,
    sandbox: Path,
    runtime: LocalRuntime,
    arguments: List[str],
    there: Dict[str, str],
    copied: Dict[str, str],
) -> None:
    put(sandbox, {"a.txt": "A", "tree/t.txt": "T", "tree/sub/s.txt": "S"})
    put(here, there)
    assert command("cp", "--url", runtime.ws_url, *arguments) == (0, "", "")
    assert found(here) == copied


def test_standard_input_and_output(command: Command, here: Path, sandbox: Path, runtime: LocalRuntime) -> None:
    assert command("cp", "--url", runtime.ws_url, "-", "sandbox:in/piped", stdin="grün".encode()).code == 0
    assert found(sandbox) == {"in/piped": "grün"}
    assert command("cp", "--url", runtime.ws_url, "sandbox:in/piped", "-") == (0, "grün", "")


def test_json_lines(command: Command, here: Path, runtime: LocalRuntime) -> None:
    put(here, {"a.txt": "A", "b.txt": "BB"})
    code, out, err = command("cp", "--json", "--url", runtime.ws_url, "a.txt", "none", "sandbox:x/")
    assert (code, err) == (1, "runtimeuse-sync: local 'none': No such file or directory\n")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"message_type": "copied", "source": "a.txt", "target": "sandbox:x/a.txt", "bytes": 1},
        {
            "message_type": "error_message",
            "error": "local 'none': No such file or directory",
            "metadata": None,
            "type": "FileMissingError",
            "exit_code": 1,
        },
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="utilities of other systems say it in other words")
def test_what_fails_says_why(command: Command, here: Path, runtime: LocalRuntime) -> None:
    code, out, err = command("cp", "--url", runtime.ws_url, "sandbox:none", ".")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "'none'" in err
    assert "No such file" in err


def test_a_timeout_is_124(command: Command, here: Path, runtime: LocalRuntime) -> None:
    put(here, {"a.txt": "A"})
    code, out, err = command("cp", "--url", runtime.ws_url, "--timeout", "0.000001", "a.txt", "sandbox:")
    assert (code, out, err.count("\n")) == (124, "", 1)


def test_the_progress_of_a_copy() -> None:
    progress = Progress("a\nname")
    assert [text for text, _ in progress.pieces()] == ["0s", "0 bytes", "a name"]
    progress(512_000, 2_048_000)
    bar, sizes, *_, name = (text for text, _ in progress.pieces())
    assert (bar, sizes, name) == ("[######------------------]  25%", "512.0 kB of 2.0 MB", "a name")
    progress(3_000_000, 2_048_000)
    assert progress.pieces()[0][0] == "[########################] 100%"
