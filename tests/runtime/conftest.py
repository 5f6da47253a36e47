"""Runtimes that do everything quickly, and what they talk to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from runtimeuse_sync.runtime import LocalRuntime

from .wire import Storage, Wire, wire_to

#: Times that make a test quick, and still are far enough apart to tell one rule from another.
QUICK = {
    "kill_grace": 0.3,
    "pipe_grace": 0.2,
    "artifact_settle": 0.2,
    "artifact_scan_interval": 0.03,
    "end_session_delay": 0.3,
    "upload_response_timeout": 5.0,
    "upload_timeout": 5.0,
    "upload_retry_delay": 0.02,
    "http_timeout": 5.0,
}

StartRuntime = Callable[..., LocalRuntime]
Connect = Callable[..., Wire]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartRuntime]:
    """Starts a runtime that works in the test's own directory."""
    with contextlib.ExitStack() as stack:

        def start(agent: Any = "shell", **settings: Any) -> LocalRuntime:
            return stack.enter_context(LocalRuntime(agent, **{"root": str(tmp_path), **QUICK, **settings}))

        yield start


@pytest.fixture
def talk(start: StartRuntime) -> Iterator[Connect]:
    """Starts a runtime and connects to it; takes the runtime's arguments."""
    with contextlib.ExitStack() as stack:
        yield lambda agent="shell", **settings: stack.enter_context(wire_to(start(agent, **settings)))


@pytest.fixture
def wire(talk: Connect) -> Wire:
    """A connection to a runtime with the shell agent."""
    return talk()


@pytest.fixture
def storage() -> Iterator[Storage]:
    storage = Storage()
    yield storage
    storage.close()
