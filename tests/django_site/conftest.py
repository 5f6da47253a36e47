"""The fixtures of these tests: an agent runtime as a process, and one that a module shares."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from ..reliability.frozen import runtime_process


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a runtime whose agent is a shell. It does not wait long for files that are written last."""
    options = ["--artifact-settle", "0.2", "--end-session-delay", "0.2"]
    with runtime_process(tmp_path_factory.mktemp("sandbox"), *options) as process:
        yield process.url


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path
