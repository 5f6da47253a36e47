"""The example site's own tests, run as its developers run them: in a process of their own, which has its settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.packages import needs
from ..support.processes import CHILD_LIMIT
from .running import ROOT, SITE


@needs("django")
@pytest.mark.timeout(2 * CHILD_LIMIT + 60)
def test_the_tests_of_the_site_pass(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SITE_DATA": str(tmp_path)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    command = [sys.executable, "-W", "error", "manage.py", "test", "--shuffle"]
    done = subprocess.run(
        command,
        cwd=SITE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * CHILD_LIMIT,
    )
    assert done.returncode == 0, done.stdout
    assert "\nOK" in done.stdout
    assert (tmp_path / "secret-key").stat().st_mode & 0o077 == 0
