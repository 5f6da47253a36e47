"""The examples of the runtime run as they are, say what they are meant to show, and write nothing to stderr."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from ..support.packages import needs
from ..support.processes import CHILD_LIMIT

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

#: A pattern for all that each example prints.
PRINTS = {
    "downloads": r"""
        ls data data/tools: \['data:', 'cities\.csv', 'tools', 'data/tools:', 'count\.sh'\]
        cd data && tools/count\.sh: \['3'\]
        the agent says: Bergen
        error: Download failed: 404 Not Found
        """,
    "artifacts_s3": r"""
        result: the report is written
        stock\.txt \(10 bytes\) is at runs/42/stock\.txt \(text/plain\): 12 apples
        charts/stock of today\.json \(15 bytes\) is at runs/42/charts/.+ \(application/json\): \{"apples": 12\}
        error: the bucket 'report' does not exist
        """,
    "claude_agent": r"""
        assistant: I'll count them\.
        result: \{'lines': 3\}
        2 turns, \$0\.01, session scripted
        """,
    "openai_agent": r"""
        assistant: I'll count them\.
        assistant: \{"lines": 3\}
        result: \{'lines': 3\}
        tokens: 200
        """,
}
#: What some need beside the extra [runtime].
NEEDS = {"artifacts_s3": "moto", "claude_agent": "claude_agent_sdk", "openai_agent": "agents"}


def run(name: str, directory: Path, without: Optional[str] = None) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "OPENAI_", "PYTEST_"))
    }
    path = str(EXAMPLES / f"{name}.py")
    hidden = f"import sys, runpy; sys.modules[{without!r}] = None; runpy.run_path({path!r}, run_name='__main__')"
    command = [sys.executable, path] if without is None else [sys.executable, "-c", hidden]
    return subprocess.run(
        command,
        cwd=str(directory),
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(NEEDS[name]) if name in NEEDS else ()) for name in sorted(PRINTS)]
)
def test_an_example(name: str, tmp_path: Path) -> None:
    ran = run(name, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    pattern = "\n".join(line[8:] for line in PRINTS[name].strip("\n").split("\n"))
    assert re.fullmatch(pattern, ran.stdout), ran.stdout
    assert list(tmp_path.iterdir()) == [], "it cleans up after itself"


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_what_is_missing_is_said(name: str, tmp_path: Path) -> None:
    ran = run(name, tmp_path, without=NEEDS[name])
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("this example needs ")
    assert "pip install" in ran.stderr
    assert ran.stderr.count("\n") == 1
