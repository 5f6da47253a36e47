"""Through a real proxy: plain and TLS, with and without authentication, `no_proxy`; and where headers go."""

from __future__ import annotations

import base64
import socket
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
import trustme

from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient

from ..support.builders import Stopwatch, echo
from ..support.servers import PATIENCE, FaultServer, Peer
from ..support.tally import Tally, seeded, tries
from ..support.tls import authority, client_context, server_context

__all__ = ["authority"]
from .http_proxy import HttpProxy

CREDENTIALS = "me@here:p:w/d"
ENCODED = "me%40here:p%3Aw%2Fd"
HEADERS = {"Authorization": "Bearer mine", "X-Sandbox": "7", "Cookie": "sid=1"}

#: Resolved by the proxy, and by nobody else.
HOST = "runtime.invalid"


@pytest.fixture(scope="module")
def proxy() -> Iterator[HttpProxy]:
    with HttpProxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def guarded() -> Iterator[HttpProxy]:
    """A proxy that demands authentication."""
    with HttpProxy(CREDENTIALS) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, proxy: HttpProxy, guarded: HttpProxy) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for each in (proxy, guarded):
        each.requests()


class Secured:
    """The two ends of TLS for `HOST`."""

    def __init__(self, authority: trustme.CA) -> None:
        self.server = server_context(authority.issue_cert(HOST))
        self.client = client_context(authority)


@pytest.fixture(scope="module")
def secured(authority: trustme.CA) -> Secured:
    return Secured(authority)


def url_of(server: FaultServer, secure: bool) -> str:
    return f"{'wss' if secure else 'ws'}://{HOST}:{server.port}"


def connect_request(server: FaultServer, **more: str) -> Dict[str, Any]:
    """What the proxy must have been told: where to, and nothing that is for the runtime."""
    host = f"{HOST}:{server.port}"
    return {"method": "CONNECT", "host": HOST, "port": server.port, "headers": {"Host": host, **more}}


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("from_environment", [False, True], ids=["given", "environment"])
@pytest.mark.parametrize("guards", [False, True], ids=["open", "authenticated"])
def test_through(
    tally: Tally,
    proxy: HttpProxy,
    guarded: HttpProxy,
    secured: Secured,
    monkeypatch: pytest.MonkeyPatch,
    secure: bool,
    from_environment: bool,
    guards: bool,
) -> None:
    """Calls of any size get through; headers arrive, and the proxy is told none; its credentials stay with it."""
    fault = f"proxies: {'wss' if secure else 'ws'} through a proxy{' with authentication' if guards else ''}"
    source = seeded(fault)
    used = guarded if guards else proxy
    url = used.url(ENCODED if guards else "")
    told = {"Proxy-Authorization": "Basic " + base64.b64encode(CREDENTIALS.encode()).decode()} if guards else {}
    given: Optional[str] = url
    if from_environment:
        monkeypatch.setenv("https_proxy" if secure else "http_proxy", url)
        monkeypatch.setenv("https_proxy" if not secure else "http_proxy", "http://127.0.0.1:1")
        given = None
    with FaultServer(echo, context=secured.server if secure else None) as server:
        client = RuntimeUseClient(
            url_of(server, secure),
            model="m",
            headers=HEADERS,
            proxy=given,
            ssl_context=secured.client if secure else None,
        )
        for number in range(tries(2, 50)):
            tally.tried(fault)
            said = "x" * source.choice([1, 65536, 300_000])
            if number % 2:
                with client.session() as session:
                    assert session.query(said, timeout=PATIENCE).text == said
                    assert session.query("again", timeout=PATIENCE).text == "again"
            else:
                assert client.query(said, timeout=PATIENCE).text == said
            assert used.requests() == [connect_request(server, **told)]
            arrived = server.peers[-1].headers
            assert {name: arrived[name.lower()] for name in HEADERS} == HEADERS
            assert not [name for name in arrived if name.startswith("proxy")]
            tally.survived(fault)


@pytest.mark.parametrize("credentials", ["", "me:wrong", "me%40here:", f"{ENCODED}x"])
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_refused(tally: Tally, guarded: HttpProxy, secured: Secured, credentials: str, secure: bool) -> None:
    """At once, once, with the status; and the runtime never hears of it."""
    fault = "proxies: wrong authentication"
    with FaultServer(echo, context=secured.server if secure else None) as server:
        client = RuntimeUseClient(
            url_of(server, secure),
            model="m",
            headers=HEADERS,
            proxy=guarded.url(credentials),
            ssl_context=secured.client,
            connect_timeout=60,
        )
        calls: List[Callable[[], Any]] = [
            lambda: client.query("hi"),
            lambda: client.wait_until_ready(60),
            lambda: client.session().open(),
        ]
        for call in calls:
            tally.tried(fault)
            watch = Stopwatch()
            with pytest.raises(RuntimeConnectionError, match="407") as caught:
                call()
            assert watch.seconds < PATIENCE
            assert caught.value.status == 407
            assert not [secret for secret in ("wrong", "me@here", "me%40here", "mine") if secret in str(caught.value)]
            tally.survived(fault)
        assert server.peers == []
    assert guarded.requests() == []


def test_nobody_behind_the_proxy(tally: Tally, proxy: HttpProxy) -> None:
    """It is tried again for the connect timeout, as without a proxy."""
    fault = "proxies: the runtime is not up yet"
    for _ in range(tries(1, 10)):
        tally.tried(fault)
        # On a busy machine, the first attempt may take all of the shorter time.
        for seconds in (1.5, PATIENCE):
            client = RuntimeUseClient(f"ws://{HOST}:1", model="m", proxy=proxy.url(), connect_timeout=seconds)
            before = len(proxy.requests())
            with pytest.raises(RuntimeConnectionError, match="proxy"):
                client.query("hi")
            if len(proxy.requests()) - before > 1:
                break
        else:
            raise AssertionError("it was tried only once")
        tally.survived(fault)


EXCEPTIONS = [HOST, f"{HOST}:{{port}}", ".invalid", "invalid", "example.com, .invalid", "*"]
OTHERS = ["", "example.com", "runtime.invalid.example.com", f"{HOST}:1", "time.invalid"]


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("value", EXCEPTIONS + OTHERS)
def test_no_proxy(
    tally: Tally, proxy: HttpProxy, secured: Secured, monkeypatch: pytest.MonkeyPatch, value: str, secure: bool
) -> None:
    fault = "proxies: no_proxy"
    tally.tried(fault)
    look_up = socket.getaddrinfo

    def resolve(host: Any, *others: Any, **more: Any) -> List[Any]:
        return look_up("127.0.0.1" if host == HOST else host, *others, **more)

    with FaultServer(echo, context=secured.server if secure else None) as server:
        monkeypatch.setenv("all_proxy", proxy.url())
        monkeypatch.setenv("no_proxy", value.format(port=server.port))
        # So that it can be reached without the proxy, too.
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        client = RuntimeUseClient(url_of(server, secure), model="m", ssl_context=secured.client, headers=HEADERS)
        assert client.query("hi", timeout=PATIENCE).text == "hi"
        assert len(proxy.requests()) == (0 if value in EXCEPTIONS else 1)
        assert server.peers[0].headers["authorization"] == HEADERS["Authorization"]
        # "" stands for none, whatever the environment says.
        monkeypatch.delenv("no_proxy")
        client = RuntimeUseClient(url_of(server, secure), model="m", ssl_context=secured.client, proxy="")
        assert client.query("hi", timeout=PATIENCE).text == "hi"
        assert proxy.requests() == []
    tally.survived(fault)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxy"])
def test_headers_go_to_no_other_host(tally: Tally, proxy: HttpProxy, status: str, through_proxy: bool) -> None:
    """A redirect is not followed, cookies are not kept, and another client's headers are its own."""
    fault = "headers: redirect to another host"
    tally.tried(fault)

    def redirect(peer: Peer) -> None:
        peer.refuse(status, f"Location: ws://{HOST}:{other.port}/", "Set-Cookie: sid=stolen; Domain=invalid; Path=/")

    with FaultServer(echo) as other, FaultServer(redirect) as server:
        via = proxy.url() if through_proxy else ""
        host = HOST if through_proxy else "127.0.0.1"
        client = RuntimeUseClient(f"ws://{host}:{server.port}", model="m", headers=HEADERS, proxy=via)
        with pytest.raises(RuntimeConnectionError) as caught:
            client.query("hi", timeout=PATIENCE)
        assert caught.value.status == int(status[:3])
        assert len(server.peers) == 1
        assert other.peers == []
        plain = RuntimeUseClient(f"ws://{host}:{other.port}", model="m", proxy=via)
        assert plain.query("hi", timeout=PATIENCE).text == "hi"
        (peer,) = other.peers
        assert not {"authorization", "x-sandbox", "cookie"} & set(peer.headers)
    tally.survived(fault)
