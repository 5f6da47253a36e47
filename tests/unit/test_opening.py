"""What the opening of a WebSocket does at moments that no server can be made to hit."""

from __future__ import annotations

import gc
import select
import socket
import ssl
import struct
from typing import Optional

import pytest

from runtimeuse_sync.transports._http import OpeningFailed
from runtimeuse_sync.transports._opening import _start_tls

from .doubles import PATIENCE


def no_wait(sock: Optional[socket.socket], read: bool, write: bool) -> None:
    raise AssertionError("there is nothing to wait for")


def test_a_connection_that_is_reset_before_tls_begins() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
        served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        served.close()
        select.select([client], [], [], PATIENCE)
        client.setblocking(False)
        with pytest.raises(OpeningFailed) as caught:
            _start_tls(client, "localhost", ssl.create_default_context(), no_wait)
    assert caught.value.retryable
    assert "connection reset" in str(caught.value)
    # The socket that CPython made before it failed would be said to be unclosed.
    del caught
    gc.collect()
