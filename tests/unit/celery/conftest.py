"""Applications of Celery with broker and result backend in memory; without Celery, none of these tests."""

from __future__ import annotations

import importlib.util
from typing import Iterator

import pytest

# Its parent is the package of these tests, whose name is the same.
if importlib.util.find_spec("celery") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from runtimeuse_sync.celery import _attempt

    from .bench import Bench, Clock

    @pytest.fixture
    def bench() -> Iterator[Bench]:
        with Bench() as bench:
            yield bench

    @pytest.fixture
    def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()
        monkeypatch.setattr(_attempt, "monotonic", clock)
        return clock
