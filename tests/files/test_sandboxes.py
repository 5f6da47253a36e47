"""The scripts run with each shell and each set of utilities that a sandbox may have; those that this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import List, Optional, Tuple

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.files import _scripts as scripts

from ..support.strict_runtime import StrictRuntime
from .test_files import NAMES, random_bytes
from .test_trees import make_tree, tree

#: Shells, each as the program and its arguments before `-c`.
SHELLS: List[Tuple[str, ...]] = [
    ("dash",),
    ("bash",),
    ("bash", "--posix"),
    ("busybox", "sh"),
    ("ksh",),
    ("zsh", "--emulate", "sh"),
]


def path_of(program: str) -> Optional[str]:
    return shutil.which(program)


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest, strict: StrictRuntime) -> Tuple[str, ...]:
    program = path_of(request.param[0])
    if program is None:
        pytest.skip(f"needs {request.param[0]}")
    strict.shell = (program, *request.param[1:])
    return strict.shell


def everything(strict: StrictRuntime, client: RuntimeUseClient, tmp_path: Path) -> None:
    """Does all that scripts do, with names and contents that are hard on them."""
    files = client.files
    for size in (0, 10, 200_000, 3_000_000):
        files.write("a/b/file", random_bytes(size))
        assert files.read("a/b/file") == random_bytes(size)
    (strict.root / "a/b/file").chmod(0o640)
    files.write("a/b/file", "text")
    assert (strict.root / "a/b/file").stat().st_mode & 0o777 == 0o640
    for name in NAMES:
        files.write(f"names/{name}", name.encode("utf-8", "surrogateescape"))
    assert [entry.name for entry in files.list("names")] == sorted(NAMES)
    for name in NAMES:
        assert files.read(f"names/{name}") == name.encode("utf-8", "surrogateescape")
        files.remove(f"names/{name}")
    assert files.list("names/") == []
    (strict.root / "link").symlink_to("a/b/file")
    files.write("link", "through")
    assert (strict.root / "a/b/file").read_text() == "through"
    make_tree(tmp_path / "local")
    files.upload(tmp_path / "local", "deep/tree")
    assert tree(strict.root / "deep/tree") == tree(tmp_path / "local")
    files.download("deep/tree", tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(tmp_path / "local")
    (strict.root / "deep/tree/read only").chmod(0o755)
    files.upload(tmp_path / "local", "deep/tree")
    assert tree(strict.root / "deep/tree") == tree(tmp_path / "local")
    for kind, act in (
        (FileNotFoundError, lambda: files.read("none")),
        (IsADirectoryError, lambda: files.read("a")),
        (NotADirectoryError, lambda: files.read("a/b/file/c")),
        (NotADirectoryError, lambda: files.write("a/b/file/c", "x")),
        (FileNotFoundError, lambda: files.write("/proc/none/c", "x")),
        (IsADirectoryError, lambda: files.write("a", "x")),
        (NotADirectoryError, lambda: files.list("a/b/file")),
        (IsADirectoryError, lambda: files.remove("a")),
        (FileNotFoundError, lambda: files.remove("none")),
        (OSError, lambda: files.remove(".", recursive=True)),
        (NotADirectoryError, lambda: files.upload(tmp_path / "local", "a/b/file")),
    ):
        with pytest.raises(kind):
            act()
    assert files.exists("a")
    assert not files.exists("none")
    files.remove("deep", recursive=True)
    assert sorted(os.listdir(strict.root)) == ["a", "link", "names"]
    assert [path for path in strict.root.rglob("*") if "runtimeuse" in path.name] == []


@pytest.mark.usefixtures("shell")
def test_each_shell(strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path) -> None:
    everything(strict, strict_client, tmp_path)


def test_the_utilities_of_busybox(strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path) -> None:
    busybox = path_of("busybox")
    if busybox is None:
        pytest.skip("needs busybox")
    tools = tmp_path / "tools"
    tools.mkdir()
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    for applet in applets:
        (tools / applet).symlink_to(busybox)
    # Debian leaves some out of its build that POSIX demands.
    for tool in {"cksum", "stat"} - set(applets):
        (tools / tool).symlink_to(str(path_of(tool)))
    strict.env = {"PATH": str(tools)}
    strict.shell = (str(tools / "sh"),)
    everything(strict, strict_client, tmp_path)


def test_the_utilities_of_macos(strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path) -> None:
    """As far as they differ: `base64` decodes with -D only, `stat` has -f, and `getconf` says less than Linux."""
    tools = tmp_path / "tools"
    tools.mkdir()
    wrappers = {
        "base64": '[ "$1" != -d ] || exit 64\n[ "$1" != -D ] || set -- -d\n',
        "stat": """[ "$1" = -f ] || exit 1
case $2 in %Xp) exit ;; '%Xp %z %m %N/') ;; *) exit 1 ;; esac
shift 2; set -- -c '%f %s %Y %n/' "$@"
""",
        "getconf": "echo 1048576; exit\n",
        "head": '[ "$1" = -c ] || exit 1\n',
    }
    for name, body in wrappers.items():
        (tools / name).write_text(f'#!/bin/sh\n{body}exec {path_of(name)} "$@"\n')
        (tools / name).chmod(0o755)
    strict.env["PATH"] = f"{tools}:{strict.env['PATH']}"
    everything(strict, strict_client, tmp_path)


@pytest.mark.parametrize("value", [b"./plain", *(b"./" + os.fsencode(name) for name in NAMES), bytes(range(1, 256))])
@pytest.mark.usefixtures("shell")
def test_a_variable_gets_any_bytes(strict: StrictRuntime, value: bytes) -> None:
    script = "LC_ALL=C;export LC_ALL\n" + scripts.assigned("p", value) + 'printf %s "$p"'
    assert script.isascii()
    printed = subprocess.run([*strict.shell, "-c", script], stdout=subprocess.PIPE, check=True).stdout
    assert printed == value
