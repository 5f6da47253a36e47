"""Counts what the reliability tests try, and prints the table."""

from __future__ import annotations

from typing import Iterator

import pytest

from .tally import PROPERTY, Tally


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """What this test has tried and survived; shown at the end, whether the test passes or fails."""
    counts = Tally()
    yield counts
    request.node.user_properties.append((PROPERTY, counts.rows()))
