"""What the opening of a WebSocket does at moments that no server can be made to hit."""

from __future__ import annotations

import errno
import gc
import select
import socket
import ssl
import struct
from typing import Any, Optional, Type

import pytest

from runtimeuse_sync._websocket.attempt import OpeningFailed, os_failure
from runtimeuse_sync._websocket.http import ask
from runtimeuse_sync._websocket.tls import start_tls

from ...support.servers import PATIENCE


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
            start_tls(client, "localhost", ssl.create_default_context(), no_wait)
    assert caught.value.retryable
    assert "connection reset" in str(caught.value)
    # The socket that CPython made before it failed would be said to be unclosed.
    del caught
    gc.collect()


def test_a_server_that_refuses_and_is_gone_before_the_request_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            served, _ = listener.accept()
            served.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            served.close()
            gone = select.poll()
            gone.register(client, 0)
            assert gone.poll(PATIENCE * 1000)
            client.setblocking(False)
            assert ask(client, b"GET / HTTP/1.1\r\n\r\n", no_wait) == (b"HTTP/1.1 403 Forbidden\r\n\r\n", b"")


class Alert(ssl.SSLError):
    reason = "certificate required"


class Reset:
    """A socket whose peer has reset the connection, after it has said something or nothing."""

    def __init__(self, said: Optional[Exception]) -> None:
        self._said = said

    def send(self, _: bytes) -> int:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    def recv(self, _: int) -> bytes:
        if self._said is not None:
            raise self._said
        return b""


@pytest.mark.parametrize(
    ("said", "shown", "retryable"),
    [(None, "connection reset", True), (Alert(), "certificate required", False)],
)
def test_what_a_peer_said_before_it_reset_the_connection(
    said: Optional[Exception], shown: str, retryable: bool
) -> None:
    sock: Any = Reset(said)
    with pytest.raises(OpeningFailed, match=shown) as caught:
        ask(sock, b"GET / HTTP/1.1\r\n\r\n", no_wait)
    assert caught.value.retryable is retryable


@pytest.mark.parametrize("kind", [ssl.SSLEOFError, ssl.SSLZeroReturnError])
def test_an_end_of_tls_is_an_end_of_the_connection(kind: Type[ssl.SSLError]) -> None:
    failure = os_failure(kind(8, "EOF occurred in violation of protocol"))
    assert failure.retryable
    assert "closed during the handshake" in str(failure)
