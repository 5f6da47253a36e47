"""Fixtures that several unit tests share."""

from __future__ import annotations

import pytest

from runtimeuse_sync import RuntimeUseClient

from .doubles import NeverOpened


@pytest.fixture
def client() -> RuntimeUseClient:
    """A client that fails the test if it sends anything, or even connects."""
    return RuntimeUseClient(transport=NeverOpened(), model="m")
