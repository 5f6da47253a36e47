"""Retry only what is safe: connecting through HTTP proxies, given or named by the environment."""

from __future__ import annotations

import base64
import functools
import select
import socket
from typing import Any, List

import pytest

from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient

from ..support.builders import SOON, Serve, cannot_connect, client_of, echo
from ..support.servers import PATIENCE, FaultServer, Peer


class Proxy:
    """A proxy that knows CONNECT only."""

    def __init__(self, authorization: str = "", status: str = "200 OK") -> None:
        self.requests: List[str] = []
        self._authorization = authorization
        self._status = status
        self._server = FaultServer(self._tunnel)

    def url(self, credentials: str = "") -> str:
        return f"http://{credentials}127.0.0.1:{self._server.port}"

    def _tunnel(self, peer: Peer) -> None:
        self.requests.append(peer.read_request())
        if peer.headers.get("proxy-authorization", "") != self._authorization:
            peer.raw(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        peer.raw(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
        if not self._status.startswith("2"):
            return
        _host, _, port = peer.path.rpartition(":")
        with socket.create_connection(("127.0.0.1", int(port))) as upstream:
            ends = {peer.sock: upstream, upstream: peer.sock}
            while True:
                for end in select.select(list(ends), [], [], 15)[0]:
                    data = end.recv(65536)
                    if not data:
                        peer.sock.close()
                        return
                    ends[end].sendall(data)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._server.__exit__(*exception)


def test_a_proxy(serve: Serve) -> None:
    server = serve(echo)
    with Proxy() as proxy:
        assert client_of(server, proxy=proxy.url()).query("hi").text == "hi"
        assert proxy.requests == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"]
        assert "proxy-authorization" not in server.peers[0].headers


def test_a_proxy_with_credentials(serve: Serve) -> None:
    server = serve(echo)
    authorization = "Basic " + base64.b64encode(b"me@here:p:w/d").decode()
    with Proxy(authorization) as proxy:
        client = client_of(server, proxy=proxy.url("me%40here:p%3Aw%2Fd@"), headers={"Authorization": "Bearer mine"})
        assert client.query("hi").text == "hi"
        assert server.peers[0].headers["authorization"] == "Bearer mine"
        with pytest.raises(RuntimeConnectionError, match="407") as caught:
            client_of(server, proxy=proxy.url("me:wrong@")).query("hi")
        assert caught.value.status == 407
        assert len(proxy.requests) == 2


def test_a_proxy_that_cannot_reach_the_runtime_yet(serve: Serve) -> None:
    server = serve(echo)
    # On a busy machine, the first attempt may take all of the shorter time.
    for seconds in (SOON, PATIENCE):
        with Proxy(status="503 Unreachable") as proxy:
            with pytest.raises(RuntimeConnectionError, match=r"proxy refused.*503"):
                client_of(server, proxy=proxy.url(), connect_timeout=seconds).query("hi")
        if len(proxy.requests) > 1:
            break
    assert len(proxy.requests) > 1


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_environments_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    server = serve(echo)
    with Proxy() as proxy:
        monkeypatch.setenv(name, proxy.url())
        # Nobody but the proxy knows this name.
        client = functools.partial(RuntimeUseClient, f"ws://runtime.invalid:{server.port}", model="m")
        monkeypatch.setenv("no_proxy", "example.com")
        assert client().query("hi").text == "hi"
        assert proxy.requests == [f"CONNECT runtime.invalid:{server.port} HTTP/1.1"]
        # "" stands for none, whatever the environment says.
        cannot_connect(lambda seconds: client(connect_timeout=seconds, proxy="").query("hi"), "resolved")
        for exception in ("runtime.invalid", "example.com, .invalid", "*"):
            monkeypatch.setenv("no_proxy", exception)
            cannot_connect(lambda seconds: client(connect_timeout=seconds).query("hi"), "resolved")
        assert len(proxy.requests) == 1


def test_the_environments_proxy_is_not_for_loopback(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert client_of(serve(echo)).query("hi").text == "hi"


def test_no_proxy_with_a_port(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """As urllib and requests read it."""
    server = serve(echo)
    with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url())
        monkeypatch.setenv("no_proxy", f"runtime.invalid:{server.port}")
        client = functools.partial(RuntimeUseClient, f"ws://runtime.invalid:{server.port}", model="m")
        cannot_connect(lambda seconds: client(connect_timeout=seconds).query("hi"), "resolved")
        assert proxy.requests == []


def test_a_proxy_at_an_ipv6_address_is_named_as_in_a_url() -> None:
    client = RuntimeUseClient("ws://runtime.invalid", model="m", proxy="http://[::1]:1", connect_timeout=0.5)
    with pytest.raises(RuntimeConnectionError, match=r"through the proxy \[::1\]:1: "):
        client.query("hi")
