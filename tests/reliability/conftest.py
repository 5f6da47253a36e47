"""The fixtures of these tests: their counts, and what they talk to."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from ..support.fixtures import no_proxy_settings, serve, storage, tally
from ..support.storage import Storage
from .conversation import Bench
from .frozen import FrozenRuntime, runtime_process

__all__ = ["bench", "frozen", "no_proxy_settings", "serve", "storage", "tally"]


@pytest.fixture
def bench(tmp_path: Path, storage: Storage) -> Iterator[Bench]:
    """A runtime behind a proxy that does harm."""
    bench = Bench(tmp_path, storage)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrozenRuntime]:
    """A runtime process that can be frozen."""
    with runtime_process(tmp_path_factory.mktemp("frozen")) as runtime:
        yield runtime
