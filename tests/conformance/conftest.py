"""The counting of the reliability tests, whose table the conformance suites are part of."""

from __future__ import annotations

from ..support.fixtures import tally

__all__ = ["tally"]
