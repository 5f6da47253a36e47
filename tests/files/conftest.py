"""Sandboxes for file operations: an embedded runtime, and a double that is as strict as the real runtime."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Sequence

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.files import Files
from runtimeuse_sync.files._operation import Operation

from ..support import fixtures
from ..support.builders import Start
from ..support.strict_runtime import StrictRuntime
from ..support.tally import FULL


class Sandbox(NamedTuple):
    """A sandbox: its directory, a caller that works in it, and the names of the temporary files of its operations."""

    root: Path
    caller: Any
    temporary: Sequence[str] = ()

    @property
    def files(self) -> Files:
        files: Files = self.caller.files
        return files

    def left(self) -> List[str]:
        """Returns all temporary files: any in the directory, and the sandbox's own in directories that others share."""
        shared = [Path(directory, name) for directory in {"/tmp", tempfile.gettempdir()} for name in self.temporary]
        inside = [path for path in self.root.rglob("*") if "runtimeuse" in path.name]
        return [str(path) for path in (*inside, *shared) if os.path.lexists(str(path))]


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


#: Kinds of sandboxes. Each kind of runtime and each kind of caller is among the first two; all pairs take their time.
SANDBOXES = ["embedded-session", "strict-client", *(["embedded-client", "strict-session"] if FULL else [])]


@pytest.fixture(params=SANDBOXES)
def sandbox(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    start: Start,
    strict: StrictRuntime,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sandbox]:
    """Each kind of caller, with each kind of runtime."""
    temporary: List[str] = []
    make = Operation.__init__

    def noted(operation: Operation, *arguments: Any, **keywords: Any) -> None:
        make(operation, *arguments, **keywords)
        temporary.append(operation.temporary)

    monkeypatch.setattr(Operation, "__init__", noted)
    kind, caller = request.param.split("-")
    if kind == "embedded":
        client = RuntimeUseClient(start(root=str(strict.root)).ws_url, model="m")
    else:
        client = RuntimeUseClient(transport=strict, model="m")
    with client.session() if caller == "session" else contextlib.nullcontext(client) as calls:
        yield Sandbox(strict.root, calls, temporary)
