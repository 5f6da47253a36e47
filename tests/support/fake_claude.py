"""A program `claude` that does what a test writes down; `claude_program.py` is what it runs."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any, Dict, List

from . import claude_program

Step = Dict[str, Any]


class FakeClaude:
    """The program, in a directory of its own that is meant for `PATH`.

    Args:
        directory: The directory, which is made.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.executable = directory / "claude"
        self._script, self._seen = directory / "script.json", directory / "seen.jsonl"
        words = [sys.executable, "-I", "-S", claude_program.__file__, str(self._script), str(self._seen)]
        self.executable.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        self.executable.chmod(0o755)
        self.plays()

    @property
    def path(self) -> str:
        """The value of `PATH` with this program."""
        return f"{self.directory}{os.pathsep}{os.environ['PATH']}"

    def plays(self, *steps: Step, start: List[Step] = []) -> None:  # noqa: B006
        """Says what each run does: with the prompt, and before it answers that it has started."""
        self._script.write_text(json.dumps({"steps": steps, "start": start}))

    def seen(self) -> List[Dict[str, Any]]:
        """Returns the arguments, the environment, the directory and the prompt of each run."""
        return list(claude_program.runs_of(str(self._seen)))


def says(*texts: str) -> Step:
    return {"says": texts}


def runs(command: str) -> Step:
    return {"runs": command}


def ends(result: str = "Done.", **fields: Any) -> Step:
    return {"ends": {"result": result, **fields}}


def refuses(result: str, **fields: Any) -> Step:
    return {"refuses": {"result": result, **fields}}
