"""The Autobahn test suite: finds a Python that can run it, installs it, and runs its fuzzing server.

The suite is for Python 2.7 only, so it runs as a process of its own. It is kept in the directory that the environment's
`RUNTIMEUSE_AUTOBAHN` names, and installed there if it is not yet (from the package index, some 30 MB).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, Optional, Type

from ..support import machine
from ..support.processes import end
from ..support.servers import free_port

#: Names the directory to keep the suite in; without it the suite is not run.
DIRECTORY = "RUNTIMEUSE_AUTOBAHN"

REQUIREMENT = "autobahntestsuite==25.10.1"

#: How long the package index may take, in seconds.
INSTALLING = 600.0

#: All that concerns what we speak; 12 and 13 are about compression, which is never offered.
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]


class Unavailable(Exception):
    """The suite cannot be run on this machine; the text says why."""


class Suite:
    """Autobahn's fuzzing server, as a process on loopback.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, python: str, site: Path, work: Path) -> None:
        self._reports = work / "reports"
        self._said = work / "said.txt"
        with free_port() as port:
            self.url = f"ws://127.0.0.1:{port}"
        spec = work / "spec.json"
        settings = {"url": self.url, "outdir": str(self._reports), "cases": CASES}
        spec.write_text(json.dumps({**settings, "exclude-cases": [], "exclude-agent-cases": {}}))
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [python, "-m", "autobahntestsuite.wstest", "-m", "fuzzingserver", "-s", str(spec)],
                env={**os.environ, "PYTHONPATH": str(site)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        """Returns the end of what the process has printed: why it is not there, if it is not."""
        return self._said.read_text(errors="replace")[-2000:]

    def verdicts(self, agent: str) -> Dict[str, Dict[str, Any]]:
        """Returns what the written reports say of each case."""
        found: Dict[str, Dict[str, Any]] = json.loads((self._reports / "index.json").read_text())[agent]
        return found

    def __enter__(self) -> Suite:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        end(self._process)


def installed(directory: Path) -> str:
    """Installs the suite into a directory unless it is there, and returns the Python to run it with.

    Raises:
        Unavailable: there is no Python 2.7, or the suite cannot be installed.
    """
    python = _python27()
    ready = directory / f"{REQUIREMENT}.ready"
    if ready.exists():
        return python
    directory.mkdir(parents=True, exist_ok=True)
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--target", str(directory), REQUIREMENT]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **machine.settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALLING,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{REQUIREMENT} could not be installed within {INSTALLING:g} s") from None
    if done.returncode != 0:
        raise Unavailable(f"{REQUIREMENT} could not be installed: {done.stdout.decode(errors='replace')[-500:]}")
    # A namespace package that pip tells site-packages of, but no other directory.
    (directory / "zope" / "__init__.py").touch()
    ready.touch()
    return python


def _python27() -> str:
    for candidate in _candidates():
        # That it is there is not enough: pyenv puts stubs on the path, and distributions leave parts out.
        probe = [candidate, "-c", "import sys, ssl, pip; sys.exit(sys.version_info[:2] != (2, 7))"]
        try:
            done = subprocess.run(
                probe, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return candidate
    raise Unavailable("no Python 2.7 with pip, which Autobahn's suite needs, on PATH or in pyenv")


def _candidates() -> Iterator[str]:
    for name in ("python2.7", "python2"):
        found = shutil.which(name)
        if found is not None:
            yield found
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for path in sorted(root.glob("versions/2.7*/bin/python2.7"), reverse=True):
        yield str(path)
