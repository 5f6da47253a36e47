"""Runs a script in an interpreter of its own, whose every word on stderr is a fault."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from typing import ContextManager, List, Optional, Tuple

from ..support.processes import CHILD_LIMIT, killed_in_the_end

#: Seconds for a child that waits for nothing but its own work; only a failure takes that long.
PATIENCE = CHILD_LIMIT

#: What interpreters since 3.12 say of every `fork` beside threads.
_FORK = "ignore:This process:DeprecationWarning"


def command(script: str, arguments: Tuple[str, ...], *, strict: bool = True) -> List[str]:
    """Returns the command of an interpreter that runs the script; strict is one whose warnings are errors."""
    options = ["-X", "faulthandler", *(["-W", "error", "-W", _FORK] if strict else [])]
    return [sys.executable, *options, "-c", textwrap.dedent(script), *arguments]


def run(
    script: str, *arguments: str, patience: float = PATIENCE, strict: bool = True, tolerated: Optional[str] = None
) -> str:
    """Runs a script to its end; returns what it printed. `tolerated` is a pattern for what it may say on stderr."""
    with started(script, *arguments, strict=strict) as child:
        try:
            printed, complaints = child.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            child.kill()
            printed, complaints = child.communicate()
            raise AssertionError(f"the child process hung\n{printed}\n{complaints}") from None
    unexpected = complaints if tolerated is None else re.sub(tolerated, "", complaints)
    assert (child.returncode, unexpected) == (0, ""), f"{child.returncode}\n{printed}\n{complaints}"
    return printed


def started(script: str, *arguments: str, strict: bool = True) -> ContextManager[subprocess.Popen[str]]:
    """Returns a context with the process of a script; it is killed if it still runs in the end."""
    return killed_in_the_end(
        subprocess.Popen(
            command(script, arguments, strict=strict),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
