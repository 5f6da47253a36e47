"""Retry only what is safe: SOCKS proxies, given or named by the environment; who resolves names; refusal, silence."""

from __future__ import annotations

import socket
import sys
import traceback
from typing import Any, Dict, List, Optional

import pytest
import trustme

from runtimeuse_sync import CancelledException, RuntimeConnectionError, RunTimeoutError, RuntimeUseClient

from ..support.builders import SOON, Serve, Stopwatch, cannot_connect, client_of, echo
from ..support.packages import needs
from ..support.servers import PATIENCE, FaultServer, Peer, free_port
from ..support.socks import SocksServer
from ..support.threads import InThread
from ..support.tls import authority, client_context, server_context

__all__ = ["authority"]

pytestmark = needs("python_socks")

#: Only the proxy knows it.
HOST = "runtime.invalid"
HOSTS = {HOST: "127.0.0.1"}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def remote(server: FaultServer, **settings: Any) -> RuntimeUseClient:
    return RuntimeUseClient(f"ws://{HOST}:{server.port}", model="m", **settings)


@pytest.mark.parametrize(("scheme", "version"), [("socks5h", 5), ("socks4a", 4), ("socks", 5)])
def test_the_proxy_looks_the_name_up(serve: Serve, scheme: str, version: int) -> None:
    server = serve(echo)
    with SocksServer(hosts=HOSTS) as proxy:
        client = remote(server, proxy=proxy.url(scheme))
        assert client.query("hi").text == "hi"
        with client.session() as session:
            assert session.query("x" * 300_000).text == "x" * 300_000
        client.wait_until_ready(PATIENCE)
        assert proxy.requests == [(version, HOST, server.port)] * 3


@pytest.mark.parametrize(("scheme", "version"), [("socks5", 5), ("socks4", 4)])
def test_the_name_is_looked_up_here(serve: Serve, monkeypatch: pytest.MonkeyPatch, scheme: str, version: int) -> None:
    look_up = socket.getaddrinfo

    def resolve(host: Any, *others: Any, **more: Any) -> List[Any]:
        if host != HOST:
            return look_up(host, *others, **more)
        # An IPv4 address is taken where there is one.
        six: Any = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 80, 0, 0))
        return [six, *look_up("127.0.0.1", *others, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    server = serve(echo)
    with SocksServer() as proxy:
        assert remote(server, proxy=proxy.url(scheme)).query("hi").text == "hi"
        assert proxy.requests == [(version, "127.0.0.1", server.port)]


def test_what_version_4_cannot_carry() -> None:
    with SocksServer() as proxy:
        client = RuntimeUseClient("ws://[fd00::1]:8080", model="m", proxy=proxy.url("socks4"))
        with pytest.raises(RuntimeConnectionError, match="no address that SOCKS 4 can carry"):
            client.query("hi")
        assert proxy.requests == []


def test_over_tls(authority: trustme.CA) -> None:
    with FaultServer(echo, context=server_context(authority.issue_cert(HOST))) as server, SocksServer(
        hosts=HOSTS
    ) as proxy:
        client = RuntimeUseClient(
            f"wss://{HOST}:{server.port}", model="m", proxy=proxy.url("socks5h"), ssl_context=client_context(authority)
        )
        assert client.query("hi").text == "hi"


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_the_environments_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    server = serve(echo)
    with SocksServer(hosts=HOSTS) as proxy:
        monkeypatch.setenv(name, proxy.url("socks5h"))
        assert remote(server).query("hi").text == "hi"
        # Neither this machine itself, nor what no_proxy names.
        assert client_of(server).query("hi").text == "hi"
        monkeypatch.setenv("no_proxy", f"10.0.0.0/8,{HOST}")
        cannot_connect(lambda seconds: remote(server, connect_timeout=seconds).query("hi"), "resolved")
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["socks5h", "socks4a"])
def test_authentication(serve: Serve, scheme: str) -> None:
    server = serve(echo)
    five = scheme == "socks5h"
    with SocksServer(("me@here", "p:w/d"), hosts=HOSTS) as proxy:
        assert remote(server, proxy=proxy.url(scheme, "me%40here:p%3Aw%2Fd@")).query("hi").text == "hi"
        assert proxy.users == [("me@here", "p:w/d" if five else "")]


CREDENTIALS = "uSeR-0123456789:pAsS-0123456789@"


@pytest.mark.parametrize(
    "credentials", ["", CREDENTIALS, "uSeR-0123456789:%C3%BCpAsS-0123456789@", f"uSeR-0123456789:{chr(120) * 300}@"]
)
def test_wrong_authentication_is_told_at_once_and_shows_no_secret(serve: Serve, credentials: str) -> None:
    server = serve(echo)
    with SocksServer(("me", "right"), hosts=HOSTS) as proxy:
        client = remote(server, proxy=proxy.url("socks5h", credentials), connect_timeout=PATIENCE)
        watch = Stopwatch()
        with pytest.raises(RuntimeConnectionError, match=r"through the proxy 127\.0\.0\.1:\d+: ") as caught:
            client.query("hi")
        assert watch.seconds < PATIENCE - 2
        assert (len(proxy.server.peers), proxy.requests, server.peers) == (1, [], [])
    shown = "".join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))
    for secret in ("uSeR", "pAsS", "xxxxx"):
        assert secret not in shown + repr(client) + repr(caught.value.__dict__)


@pytest.mark.parametrize(
    ("scheme", "reply", "text", "tried_again"),
    [
        ("socks5h", 1, "General SOCKS server failure", True),
        ("socks5h", 2, "not allowed by ruleset", False),
        ("socks5h", 4, "Host unreachable", True),
        ("socks5h", 5, "Connection refused", True),
        ("socks5h", 8, "Address type not supported", False),
        ("socks5h", 99, "Invalid reply code", False),
        ("socks4a", 0x5B, "rejected or failed", True),
        ("socks4a", 0x5C, "identd", False),
    ],
)
def test_refused(serve: Serve, scheme: str, reply: int, text: str, tried_again: bool) -> None:
    server = serve(echo)
    # On a busy machine, the first attempt may take all of the shorter time.
    for seconds in (SOON, PATIENCE):
        with SocksServer(reply=reply) as proxy:
            client = remote(server, proxy=proxy.url(scheme), connect_timeout=seconds)
            with pytest.raises(RuntimeConnectionError, match=f"the proxy refused the connection: .*{text}"):
                client.query("hi")
        if tried_again == (len(proxy.requests) > 1):
            break
    assert (len(proxy.requests) > 1) == tried_again
    assert server.peers == []


@pytest.mark.parametrize("silent_after", [0, 1, 2])
def test_silence_costs_no_more_than_the_time(serve: Serve, silent_after: int) -> None:
    server = serve(echo)
    with SocksServer(("me", "right"), silent_after=silent_after) as proxy:
        url = proxy.url("socks5h", "me:right@")
        with pytest.raises(RuntimeConnectionError, match=r"within 0\.3 s"):
            remote(server, proxy=url, connect_timeout=0.3).query("hi")
        with pytest.raises(RunTimeoutError):
            remote(server, proxy=url).query("hi", timeout=0.3)
    with SocksServer(("me", "right"), silent_after=silent_after) as proxy:
        client = remote(server, proxy=proxy.url("socks5h", "me:right@"))
        caller = InThread(client.query, "hi")
        proxy.server.wait_for_connections(1)
        client.abort()
        assert isinstance(caller.error(), CancelledException)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x05",
        b"\x05\x07",
        b"\x05\x00\x05\x00\x00\x09",
        b"\x05\x00\x04\x00\x00\x01",
    ],
)
def test_what_is_no_socks(answer: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.raw(answer)
        # What is only its beginning ends there.
        peer.cut()

    with FaultServer(script) as proxy:
        client = RuntimeUseClient(
            f"ws://{HOST}", model="m", proxy=f"socks5h://127.0.0.1:{proxy.port}", connect_timeout=0.5
        )
        with pytest.raises(RuntimeConnectionError, match="through the proxy"):
            client.query("hi")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the proxy is not there: at once, for trying again cannot help."""
    from runtimeuse_sync._websocket import late_imports

    missing: Dict[str, Optional[Any]] = dict.fromkeys(
        ("python_socks", "python_socks._protocols", "python_socks._protocols.socks5"), None
    )
    for name, module in missing.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(late_imports, "_loaded", set())
    with free_port() as port:
        client = RuntimeUseClient(
            f"ws://{HOST}", model="m", proxy=f"socks5h://127.0.0.1:{port}", connect_timeout=PATIENCE
        )
        with pytest.raises(RuntimeConnectionError) as caught:
            client.query("hi")
    assert 'pip install "runtimeuse-sync[socks]"' in str(caught.value)


def test_a_runtime_that_is_not_up_yet_behind_a_proxy(serve: Serve) -> None:
    """A proxy that cannot reach it may break off instead of saying so."""

    def script(peer: Peer) -> None:
        peer.sock.recv(100)
        peer.cut(reset=True)

    for seconds in (SOON, PATIENCE):
        with FaultServer(script) as proxy:
            url = f"socks5h://127.0.0.1:{proxy.port}"
            client = RuntimeUseClient(f"ws://{HOST}", model="m", proxy=url, connect_timeout=seconds)
            with pytest.raises(RuntimeConnectionError, match="connection reset"):
                client.query("hi")
        if len(proxy.peers) > 1:
            break
    assert len(proxy.peers) > 1
