"""The instrumentation, turned on for one test, with the SDK's exporters that keep everything in memory."""

from __future__ import annotations

import importlib.util
from typing import Any, Iterator

import pytest

from ...support.fixtures import no_proxy_settings, runtime, serve, start

__all__ = ["no_proxy_settings", "runtime", "serve", "start"]

# Its parent is a namespace, which other packages may have parts in.
if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from .recorded import Recorded

    @pytest.fixture
    def recorded() -> Iterator[Recorded]:
        """What the calls of this test have told."""
        with Recorded().on() as recorded:
            yield recorded

    @pytest.fixture
    def tracer(recorded: Recorded) -> Any:
        """Makes the spans of the user's own code."""
        return recorded.tracers.get_tracer("user")
