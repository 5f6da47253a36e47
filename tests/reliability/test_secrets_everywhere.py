"""Every other test of this suite once more, with marked secrets in it: no fault brings one out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ..support.tally import FULL, Tally

HERE = Path(__file__).parent

#: These have marks of their own, or are not about the client.
LEFT_OUT = {"test_secrets.py", "test_secrets_everywhere.py", "test_tally.py"}


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not FULL, reason="runs all the others again: only where RUNTIMEUSE_RELIABILITY is full")
def test_all_others_with_marked_secrets(tally: Tally, tmp_path: Path) -> None:
    fault = "secrets: every other test of this suite with marked secrets"
    report = tmp_path / "report.xml"
    modules = sorted(str(path) for path in HERE.glob("test_*.py") if path.name not in LEFT_OUT)
    options = [
        "-p",
        "tests.reliability.secrets_plugin",
        "-n",
        "0",
        "-q",
        "-o",
        f"cache_dir={tmp_path}",
        f"--junitxml={report}",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    # The others' faults were tried in full by the others: here it is about what they bring out.
    environment["RUNTIMEUSE_RELIABILITY"] = ""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *modules],
        cwd=HERE.parent.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=1700,
    )
    said = done.stdout.decode(errors="replace")
    assert report.exists(), said
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    count, bad, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "skipped"))
    bad += int(suite.attrib["errors"])
    tally.tried(fault, count - skipped)
    tally.survived(fault, count - skipped - bad)
    assert done.returncode == 0, said
    assert count - skipped > 50
