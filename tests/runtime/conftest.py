"""The fixtures of these tests: runtimes that are quick, connections to them, a storage."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable, Iterator

import pytest

from ..support.builders import Start as StartRuntime
from ..support.fixtures import runtimes, serve, storage
from ..support.servers import PATIENCE
from .wire import Wire, wire_to

__all__ = ["Connect", "StartRuntime", "serve", "start", "storage", "talk", "wire"]

#: Limits that end a test which waits in vain.
LIMITS = {"upload_response_timeout": PATIENCE, "upload_timeout": PATIENCE, "http_timeout": PATIENCE}

Connect = Callable[..., Wire]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartRuntime]:
    """Starts a runtime that works in the test's own directory."""
    with runtimes(tmp_path, **LIMITS) as start:
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
