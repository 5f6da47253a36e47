"""Fixtures that folders of tests share: scripted servers, embedded runtimes with short times, a storage, counts.

The `conftest.py` of a folder imports those that its tests use.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Iterator

import pytest

from runtimeuse_sync.runtime import LocalRuntime

from .builders import Serve, Start
from .servers import FaultServer
from .storage import Storage
from .tally import PROPERTY, Tally

#: Settings that make an embedded runtime quick, but keep its times far enough apart to tell one rule from another.
QUICK = {
    "kill_grace": 0.3,
    "pipe_grace": 0.2,
    "artifact_settle": 0.2,
    "artifact_scan_interval": 0.03,
    "end_session_delay": 0.3,
    "upload_retry_delay": 0.02,
}


@contextlib.contextmanager
def runtimes(root: Path, **defaults: Any) -> Iterator[Start]:
    """Yields a function that starts embedded runtimes in a directory; they end with the block.

    Args:
        root: The directory.
        defaults: Settings of all of them, besides `QUICK`.
    """
    with contextlib.ExitStack() as stack:

        def start(agent: Any = "shell", **settings: Any) -> LocalRuntime:
            return stack.enter_context(LocalRuntime(agent, **{"root": str(root), **QUICK, **defaults, **settings}))

        yield start


@pytest.fixture(autouse=True)
def no_proxy_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts fault servers; at the end, asserts that their scripts went as written."""
    with contextlib.ExitStack() as stack:
        yield lambda script, **more: stack.enter_context(FaultServer(script, **more))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts embedded runtimes that work in the test's own directory."""
    with runtimes(tmp_path) as start:
        yield start


@pytest.fixture
def runtime(start: Start) -> LocalRuntime:
    return start()


@pytest.fixture
def storage() -> Iterator[Storage]:
    with Storage() as storage:
        yield storage


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """What this test has tried and survived; shown at the end, whether the test passes or fails."""
    counts = Tally()
    yield counts
    request.node.user_properties.append((PROPERTY, counts.rows()))
