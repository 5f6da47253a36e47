"""Fixtures that several unit tests share."""

from __future__ import annotations

import socket
from typing import Iterator

import pytest

from runtimeuse_sync import RuntimeUseClient, _call
from runtimeuse_sync._websocket.stream import WebSocketStream

from ..support.doubles import NeverOpened
from ..support.servers import PATIENCE
from ..support.streams import Connected


@pytest.fixture(autouse=True)
def no_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no wait end by itself: one whose wake-up is lost takes longer than a test has patience."""
    monkeypatch.setattr(_call, "SLICE", 10 * PATIENCE)


@pytest.fixture
def client() -> RuntimeUseClient:
    """A client that fails the test if it sends anything, or even connects."""
    return RuntimeUseClient(transport=NeverOpened(), model="m")


@pytest.fixture
def connected() -> Iterator[Connected]:
    """A stream, and its peer's end of the connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield WebSocketStream(ours, b"", 2**20), theirs
