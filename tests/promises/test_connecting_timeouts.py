"""Retry only what is safe: how long connecting waits for names, addresses, handshakes and busy servers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from typing import Any, Callable, Iterator, List

import pytest

from runtimeuse_sync import CancelledException, RuntimeConnectionError, RunTimeoutError, RuntimeUseClient
from runtimeuse_sync._websocket import http

from ..support.builders import SOON, Serve, Stopwatch, answer_all, client_of, echo
from ..support.packages import needs
from ..support.processes import CHILD_LIMIT
from ..support.resolver import HangingResolver, addresses, hanging_resolver
from ..support.servers import PATIENCE, FaultServer, Peer, black_hole, free_port
from ..support.threads import InThread, when

NAME = "runtime.test"


@pytest.fixture
def resolver() -> Iterator[HangingResolver]:
    with hanging_resolver(NAME) as resolver:
        yield resolver


CALLS: List[Callable[[RuntimeUseClient], Any]] = [
    lambda client: client.query("hi"),
    lambda client: client.session().open(),
    lambda client: client.stream("hi").__enter__().result,
]


@pytest.mark.parametrize("call", CALLS, ids=["query", "session", "stream"])
def test_a_resolver_that_hangs_holds_no_call_up(
    resolver: HangingResolver, call: Callable[[RuntimeUseClient], Any]
) -> None:
    client = RuntimeUseClient(f"ws://{NAME}:1", model="m", connect_timeout=0.3)
    for _ in range(3):
        watch = Stopwatch()
        with pytest.raises(RuntimeConnectionError, match=rf"no connection within 0\.3 s.*{NAME}"):
            call(client)
        assert 0.3 <= watch.seconds < PATIENCE - 2
    # One thread for all of them.
    assert len(resolver.asked) == 1
    assert [t.name for t in threading.enumerate() if t.name.startswith("runtimeuse-connection")] == []


def test_a_resolver_that_hangs_and_all_other_ways_out(resolver: HangingResolver) -> None:
    client = RuntimeUseClient(f"ws://{NAME}:1", model="m", connect_timeout=None)
    with pytest.raises(RunTimeoutError):
        client.query("hi", timeout=0.2)
    with pytest.raises(RunTimeoutError, match=NAME):
        client.wait_until_ready(0.2)
    callers = [InThread(client.query, "hi"), InThread(lambda: client.wait_until_ready(None))]
    assert resolver.hangs.wait(PATIENCE)

    def are_both_waiting() -> bool:
        assert all(caller.is_alive() for caller in callers)
        return len(client._calls) == 2

    when(are_both_waiting)
    client.abort()
    assert [type(caller.error()) for caller in callers] == [CancelledException] * 2
    session = client.session()
    opener = InThread(session.open)

    def is_opening() -> bool:
        assert opener.is_alive()
        return session._opening is not None

    when(is_opening)
    session.abort()
    assert isinstance(opener.error(), CancelledException)
    assert len(resolver.asked) == 1


def test_a_resolver_that_takes_its_time(resolver: HangingResolver, serve: Serve) -> None:
    server = serve(echo)
    resolver.outcome = lambda: addresses(server.port)
    caller = InThread(RuntimeUseClient(f"ws://{NAME}:1", model="m").query, "hi")
    assert resolver.hangs.wait(PATIENCE)
    resolver.go_on.set()
    assert caller.result().text == "hi"


def test_the_second_address_is_tried_if_the_first_swallows_packets(resolver: HangingResolver, serve: Serve) -> None:
    resolver.go_on.set()
    server = serve(echo)
    client = RuntimeUseClient(f"ws://{NAME}:1", model="m", connect_timeout=PATIENCE)
    with black_hole() as silent:
        resolver.outcome = lambda: addresses(silent, server.port)
        assert client.query("hi").text == "hi"
        with client.session() as session:
            assert session.query("hi").text == "hi"
        client.wait_until_ready(PATIENCE)
    with free_port() as closed:
        resolver.outcome = lambda: addresses(closed, server.port)
        assert client.query("hi").text == "hi"


def held(peer: Peer, seconds: float) -> bool:
    """Reads the handshake and holds it; returns whether the client is still there."""
    peer.read_request()
    return not peer.readable(seconds)


def test_a_handshake_that_is_held_longer_than_connecting_may_take(serve: Serve) -> None:
    """As by a provider's proxy that wakes the sandbox."""

    def script(peer: Peer) -> None:
        if held(peer, SOON + 0.3):
            peer.upgrade()
            answer_all(peer)

    client = client_of(serve(script), connect_timeout=SOON, handshake_timeout=PATIENCE)
    assert client.query("hi").text == "hi"
    client.wait_until_ready(PATIENCE)


def test_a_handshake_that_is_never_answered(serve: Serve) -> None:
    server = serve(lambda peer: peer.read_request())
    client = client_of(server, connect_timeout=0.45, handshake_timeout=0.5)
    for call in CALLS:
        watch = Stopwatch()
        with pytest.raises(RuntimeConnectionError, match=r"not answered within 0\.5 s"):
            call(client)
        assert 0.5 <= watch.seconds < PATIENCE - 2
    assert len(server.peers) == 3


def test_a_handshake_that_is_not_answered_is_begun_anew_while_there_is_time(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        if peer.number < 2:
            peer.read_request()
        else:
            echo(peer)

    server = serve(script)
    client = client_of(server, connect_timeout=PATIENCE, handshake_timeout=0.2)
    assert client.query("hi").text == "hi"
    # More, if the machine is so busy that the third handshake, too, takes longer than it may.
    assert len(server.peers) >= 3
    server = serve(script)
    client_of(server, handshake_timeout=0.2).wait_until_ready(PATIENCE)
    assert len(server.peers) >= 3


@pytest.mark.parametrize(
    "settings", [{}, {"connect_timeout": 0.2, "handshake_timeout": None}, {"handshake_timeout": 99}]
)
def test_timeout_bounds_a_handshake_all_the_same(serve: Serve, settings: Any) -> None:
    client = client_of(serve(lambda peer: peer.read_request()), **settings)
    with pytest.raises(RunTimeoutError):
        client.query("hi", timeout=0.4)
    with pytest.raises(RunTimeoutError):
        client.wait_until_ready(0.4)


def test_connect_timeout_alone_limits_the_handshake_as_well(serve: Serve) -> None:
    watch = Stopwatch()
    reason = "it was accepted, but the handshake was not answered"
    text = rf"no connection within {SOON:g} s: {reason}\nCheck the port of the URL: "
    with pytest.raises(RuntimeConnectionError, match=text):
        client_of(serve(lambda peer: peer.read_request()), connect_timeout=SOON).query("hi")
    assert SOON <= watch.seconds < PATIENCE - 2


def test_a_handshake_is_no_reason_to_wait_for_a_port_that_refuses() -> None:
    with free_port() as port:
        client = RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m", connect_timeout=SOON, handshake_timeout=60)
        watch = Stopwatch()
        with pytest.raises(RuntimeConnectionError, match="connection refused"):
            client.query("hi")
        assert watch.seconds < PATIENCE - 2


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Booting"])
def test_retry_after_is_honoured(serve: Serve, status: str) -> None:
    times: List[float] = []

    def script(peer: Peer) -> None:
        times.append(time.monotonic())
        if peer.number == 0:
            peer.refuse(status, "Retry-After: 1")
        else:
            echo(peer)

    assert client_of(serve(script)).query("hi").text == "hi"
    first, second = times
    assert second - first >= 1


@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_more_patience_than_there_is_ends_the_call_at_once(serve: Serve, status: int) -> None:
    server = serve(lambda peer: peer.refuse(f"{status} Later", "Retry-After: 600"))
    client = client_of(server, connect_timeout=300)
    for call in CALLS:
        with pytest.raises(RuntimeConnectionError, match=f"HTTP {status} Later .*600 s") as caught:
            call(client)
        assert caught.value.status == status
    with pytest.raises(RunTimeoutError, match=f"will not be ready within 300 s: .*HTTP {status} Later .*600 s"):
        client.wait_until_ready(300)
    assert len(server.peers) == 4


def test_nonsense_in_retry_after_is_ignored(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.refuse("503 Booting", "Retry-After: soon") if peer.number == 0 else echo(peer)

    assert client_of(serve(script)).query("hi").text == "hi"


def test_the_reason_in_the_body_is_shown(serve: Serve) -> None:
    body = b'{"error": {"code": "quota", "message": "no quota left for opensesame"}}'

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.raw(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(body))
        peer.raw(body)

    client = client_of(serve(script), headers={"X-Key": "opensesame"})
    with pytest.raises(RuntimeConnectionError, match=r"(?m)HTTP 403 Forbidden: no quota left for \[REDACTED\]$"):
        client.query("hi")


def test_a_refusal_is_permanent_though_its_reason_comes_too_late(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_LONGEST", PATIENCE)

    def half_a_reason(peer: Peer) -> None:
        peer.read_request()
        peer.raw(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno quota")
        peer.until_gone()

    client = client_of(serve(half_a_reason))
    with pytest.raises(RuntimeConnectionError, match="HTTP 403 Forbidden: no quota") as caught:
        client.wait_until_ready(SOON)
    assert caught.value.status == 403


def test_a_proxys_reason_is_shown(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.raw(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nnot from here, uSeR0123\n")
        peer.cut()

    with FaultServer(script) as proxy:
        client = RuntimeUseClient(f"ws://{NAME}", model="m", proxy=f"http://uSeR0123:pw@127.0.0.1:{proxy.port}")
        with pytest.raises(RuntimeConnectionError, match=r"(?m)HTTP 403 Forbidden: not from here, \[REDACTED\]$"):
            client.query("hi")


def test_a_body_that_never_comes_does_not_delay_the_refusal(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.raw(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno")

    watch = Stopwatch()
    with pytest.raises(RuntimeConnectionError, match=r"(?m)403 Forbidden: no$"):
        client_of(serve(script), connect_timeout=None).query("hi")
    assert watch.seconds < PATIENCE - 2


def python(script: str) -> str:
    """Runs a script in an interpreter of its own, which must say nothing on stderr; returns what it printed."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_a_look_up_that_hangs_does_not_keep_the_process() -> None:
    printed = python(
        """
        import socket, threading
        from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient

        socket.getaddrinfo = lambda *_: threading.Event().wait()
        try:
            RuntimeUseClient("ws://runtime.test:1", model="m", connect_timeout=0.2).query("hi")
        except RuntimeConnectionError as error:
            print(error)
        """
    )
    assert "the look-up of the host name runtime.test has not ended" in printed


@needs("gevent")
def test_under_gevent_a_look_up_that_hangs_holds_no_other_greenlet_up() -> None:
    printed = python(
        """
        from gevent import monkey
        monkey.patch_all()
        import gevent, gevent.event, socket
        from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient

        go_on, asked = gevent.event.Event(), []

        def look_up(host, *_):
            asked.append(host)
            go_on.wait()
            raise socket.gaierror(socket.EAI_NONAME, "no such host")

        socket.getaddrinfo = look_up

        def call():
            try:
                RuntimeUseClient("ws://runtime.test:1", model="m", connect_timeout=0.2).query("hi")
            except RuntimeConnectionError as error:
                return str(error)

        for error in [greenlet.get() for greenlet in [gevent.spawn(call) for _ in range(3)]]:
            print("has not ended" in error)
        go_on.set()
        print(asked)
        """
    )
    assert printed.split("\n") == ["True"] * 3 + ["['runtime.test']", ""]
