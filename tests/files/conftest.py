"""Sandboxes for file operations: an embedded runtime, and a double that is as strict as the real runtime."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.files import Files

from ..support import fixtures
from ..support.builders import Start
from ..support.strict_runtime import StrictRuntime


class Sandbox(NamedTuple):
    """A sandbox: its directory, and a caller that works in it."""

    root: Path
    caller: Any

    @property
    def files(self) -> Files:
        files: Files = self.caller.files
        return files

    def left(self) -> List[str]:
        """Returns all paths in the directory that look like temporary files."""
        return [str(path) for path in self.root.rglob("*") if "runtimeuse" in path.name]


no_proxy_settings = fixtures.no_proxy_settings
serve = fixtures.serve
start = fixtures.start


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[StrictRuntime]:
    root = tmp_path / "sandbox"
    root.mkdir()
    runtime = StrictRuntime(root)
    yield runtime
    runtime.stop()


@pytest.fixture
def strict_client(strict: StrictRuntime) -> RuntimeUseClient:
    return RuntimeUseClient(transport=strict, model="m")


@pytest.fixture(params=["embedded-client", "embedded-session", "strict-client", "strict-session"])
def sandbox(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    start: Start,
    strict: StrictRuntime,
) -> Iterator[Sandbox]:
    """Each kind of caller, with each kind of runtime."""
    kind, caller = request.param.split("-")
    if kind == "embedded":
        client = RuntimeUseClient(start(root=str(strict.root)).ws_url, model="m")
    else:
        client = RuntimeUseClient(transport=strict, model="m")
    with client.session() if caller == "session" else contextlib.nullcontext(client) as calls:
        yield Sandbox(strict.root, calls)
