"""`wait_until_ready` over custom transports: it tries again while the runtime may not be up yet."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from typing import Any, List

import pytest

from runtimeuse_sync import (
    CancelledException,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    WebSocketTransport,
)
from runtimeuse_sync._connection import readiness as readiness_module

from ...support.doubles import MemoryTransport, MemoryTransports
from ...support.servers import PATIENCE
from ...support.threads import InThread


class Booting(MemoryTransports):
    """Fails by each of the given exceptions in turn, then by the last for ever; `None` connects."""

    def __init__(self, *failures: Any) -> None:
        super().__init__()
        self.failures = list(failures)
        self.attempts = 0
        self.tried_again = threading.Event()

    def connect(self) -> MemoryTransport:
        self.attempts += 1
        if self.attempts > 2:
            self.tried_again.set()
        failure = self.failures.pop(0) if len(self.failures) > 1 else self.failures[0]
        if failure is not None:
            raise failure
        return super().connect()


REFUSED = ConnectionRefusedError("booting")


def status(code: int) -> RuntimeConnectionError:
    return RuntimeConnectionError("refused", status=code)


def test_it_is_tried_until_it_is_up() -> None:
    failures: List[Any] = [
        REFUSED,
        FileNotFoundError("no socket"),
        socket.timeout("slow"),
        socket.gaierror("no such host"),
        ssl.SSLEOFError("gone"),
        OSError(errno.EHOSTUNREACH, "no route"),
        None,
    ]
    transport = Booting(*failures)
    RuntimeUseClient(transport=transport).wait_until_ready(PATIENCE)
    assert transport.attempts == len(failures)
    assert transport.next_connected().closed.wait(PATIENCE)


def test_the_timeout_error_names_the_last_failure() -> None:
    transport = Booting(REFUSED)
    with pytest.raises(RunTimeoutError, match=r"not ready within 1 s: .*Booting: ConnectionRefusedError: booting"):
        RuntimeUseClient(transport=transport).wait_until_ready(1.0)
    assert transport.attempts > 1


def certificate_refused() -> RuntimeConnectionError:
    error = RuntimeConnectionError("the certificate is not valid")
    error.__cause__ = ssl.SSLCertVerificationError("not valid")
    return error


@pytest.mark.parametrize(
    "failure",
    [
        ValueError("no such sandbox"),
        SystemExit(3),
        PermissionError("not yours"),
        OSError("no cable"),
        ssl.SSLCertVerificationError("not valid"),
        certificate_refused(),
        status(401),
    ],
    ids=repr,
)
def test_a_permanent_failure_is_raised_at_once(failure: BaseException) -> None:
    transport = Booting(failure)
    with pytest.raises(RuntimeConnectionError):
        RuntimeUseClient(transport=transport).wait_until_ready(PATIENCE)
    assert transport.attempts == 1


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_a_gateway_before_a_runtime_that_boots(code: int) -> None:
    transport = Booting(status(code), None)
    RuntimeUseClient(transport=transport).wait_until_ready(PATIENCE)
    assert transport.attempts == 2


def test_a_permanent_failure_after_a_refusal_is_raised_at_once() -> None:
    transport = Booting(REFUSED, REFUSED, ValueError("it is broken"))
    with pytest.raises(RuntimeConnectionError, match="it is broken"):
        RuntimeUseClient(transport=transport).wait_until_ready(PATIENCE)
    assert transport.attempts == 3


def test_an_abort_while_it_is_tried_again() -> None:
    transport = Booting(REFUSED)
    client = RuntimeUseClient(transport=transport)
    caller = InThread(lambda: client.wait_until_ready(None))
    assert transport.tried_again.wait(PATIENCE)
    client.abort()
    assert isinstance(caller.error(), CancelledException)


@pytest.mark.leaks_allowed("the connection's thread is inside the transport until the test lets it go on")
def test_a_transport_that_is_stuck_takes_no_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    # Were it waited for longer than asked for, it would be for this long.
    monkeypatch.setattr(readiness_module, "_LATE", 10 * PATIENCE)
    go_on = threading.Event()

    class Stuck(MemoryTransports):
        def connect(self) -> MemoryTransport:
            assert go_on.wait(10 * PATIENCE)
            return super().connect()

    transport = Stuck()
    caller = InThread(lambda: RuntimeUseClient(transport=transport).wait_until_ready(0.05))
    assert isinstance(caller.error(), RunTimeoutError)
    go_on.set()
    assert transport.next_connected().closed.wait(PATIENCE)


def test_a_wrapped_websocket_is_tried_again() -> None:
    attempts: List[int] = []

    class Wrapped(WebSocketTransport):
        def connect(self) -> Any:
            attempts.append(1)
            return super().connect()

    transport = Wrapped("ws://127.0.0.1:1", connect_timeout=0.3)
    with pytest.raises(RunTimeoutError, match="connection refused"):
        RuntimeUseClient(transport=transport).wait_until_ready(2.0)
    assert len(attempts) > 1
