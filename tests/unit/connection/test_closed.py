"""The public error for each way in which a connection ends."""

from __future__ import annotations

from runtimeuse_sync._connection.closed import ConnectionClosed, Ending, connection_error
from runtimeuse_sync.errors import ConnectionLostError, ProtocolError, RuntimeConnectionError


def test_public_errors() -> None:
    error = connection_error(ConnectionClosed("refused", Ending.NEVER_OPENED, status=403), "ws://h", "query", [])
    assert type(error) is RuntimeConnectionError
    assert (error.status, error.args[0]) == (403, "could not connect to ws://h: refused")
    error = connection_error(ConnectionClosed("bad frame", Ending.PROTOCOL_ERROR), "ws://h", "query", [])
    assert type(error) is ProtocolError
    assert "bad frame" in str(error)
    for ending in (Ending.LOST, Ending.CLOSED):
        error = connection_error(ConnectionClosed("reset", ending), "ws://h", "query", [])
        assert type(error) is ConnectionLostError
        assert "reset" in str(error)


def test_public_errors_hold_no_secret() -> None:
    for closed in (
        ConnectionClosed("refused: hunter2", Ending.NEVER_OPENED, status=403),
        ConnectionClosed("bad frame: hunter2", Ending.PROTOCOL_ERROR),
        ConnectionClosed("closed: hunter2", Ending.CLOSED),
    ):
        assert "hunter2" not in str(connection_error(closed, "ws://h", "query", ["hunter2"]))
