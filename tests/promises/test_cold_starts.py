"""Retry only what is safe: what providers' proxies answer until a runtime is up, and what of it is waited out."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import pytest

from runtimeuse_sync import RuntimeConnectionError, RunTimeoutError, RuntimeUseClient, WebSocketTransport

from ..support.builders import Serve, client_of, echo
from ..support.servers import Peer

#: What a provider's proxy answers meanwhile, with the option that has the client try again.
BOOTING: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "502": ("502 Bad Gateway", {}),
    "503": ("503 Service Unavailable", {}),
    "504": ("504 Gateway Timeout", {}),
    "404": ("404 Not Found", {"also_retry": [404]}),
    "530": ("530 Origin Unreachable", {"also_retry": {521, 530}}),
    "redirect": ("307 Temporary Redirect", {"also_retry": (307,)}),
    "page": ("200 OK", {"also_retry": frozenset([200])}),
}


def booting(status: str) -> Callable[[Peer], None]:
    return lambda peer: peer.refuse(status) if peer.number < 2 else echo(peer)


@pytest.mark.parametrize("case", BOOTING)
def test_a_cold_start(serve: Serve, case: str) -> None:
    status, options = BOOTING[case]
    server = serve(booting(status))
    client = RuntimeUseClient(server.url.replace("ws://", "http://"), model="m")
    client.wait_until_ready(**options)
    assert len(server.peers) == 3
    assert client.query("hi").text == "hi"


@pytest.mark.parametrize("case", [case for case, (_, options) in BOOTING.items() if options])
def test_a_cold_start_is_taken_for_a_failure_unless_the_option_names_it(serve: Serve, case: str) -> None:
    server = serve(booting(BOOTING[case][0]))
    with pytest.raises(RuntimeConnectionError, match=f"HTTP {BOOTING[case][0]}"):
        client_of(server).wait_until_ready(also_retry=[418])
    assert len(server.peers) == 1


def test_the_option_is_for_that_wait_only(serve: Serve) -> None:
    server = serve(lambda peer: echo(peer) if peer.number == 1 else peer.refuse("404 Not Found"))
    client = client_of(server)
    client.wait_until_ready(also_retry=[404])
    with pytest.raises(RuntimeConnectionError, match="HTTP 404"):
        client.query("hi")
    assert len(server.peers) == 3


def test_what_it_asks_for_is_heeded(serve: Serve) -> None:
    """`Retry-After`, of those statuses, too."""
    server = serve(lambda peer: peer.refuse("404 Not Found", "Retry-After: 3600"))
    with pytest.raises(RunTimeoutError, match=r"HTTP 404 Not Found \(it asks to wait for 3600 s\)"):
        client_of(server).wait_until_ready(30.0, also_retry=[404])
    assert len(server.peers) == 1


def test_the_last_answer_is_in_the_error(serve: Serve) -> None:
    server = serve(lambda peer: peer.refuse("404 Not Found"))
    with pytest.raises(RunTimeoutError, match=r"not ready within 2 s: .*HTTP 404 Not Found"):
        client_of(server).wait_until_ready(2, also_retry=[404])


class Wrapped:
    """A custom transport around the built-in one."""

    def __init__(self, url: str) -> None:
        self._inner = WebSocketTransport(url)

    def connect(self) -> Any:
        return self._inner.connect()


def test_custom_transports_too(serve: Serve) -> None:
    server = serve(booting("404 Not Found"))
    RuntimeUseClient(transport=Wrapped(server.url), model="m").wait_until_ready(also_retry=[404])
    with pytest.raises(RuntimeConnectionError, match="HTTP 404"):
        RuntimeUseClient(transport=Wrapped(serve(booting("404 Not Found")).url)).wait_until_ready()


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (404, TypeError, "also_retry must be a list of HTTP statuses, not int"),
        ("404", TypeError, "also_retry must be a list of HTTP statuses, not str"),
        (None, TypeError, "also_retry must be a list of HTTP statuses, not NoneType"),
        (["404"], TypeError, "an item of also_retry must be an HTTP status, not str"),
        ([True], TypeError, "an item of also_retry must be an HTTP status, not bool"),
        ([101], ValueError, "also_retry: 101 is not an HTTP status that refuses"),
        ([600], ValueError, "also_retry: 600 is not an HTTP status that refuses"),
    ],
)
def test_invalid_statuses(value: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        RuntimeUseClient("ws://127.0.0.1:1").wait_until_ready(also_retry=value)
