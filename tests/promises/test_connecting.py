"""Retry only what is safe, within `connect_timeout`; redirects and proxies."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from typing import Callable, List

import pytest

from runtimeuse_sync import ConnectionLostError, RuntimeConnectionError, RunTimeoutError, RuntimeUseClient

from ..support.builders import LATE, SOON, Serve, Stopwatch, answer, client_of, echo
from ..support.servers import TEXT, FaultServer, Peer, black_hole, frame, free_port
from ..support.threads import InThread


def after(failures: int, fail: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        fail(peer) if peer.number < failures else echo(peer)

    return script


def close_before_the_answer(peer: Peer) -> None:
    peer.read_request()
    peer.cut()


def reset_before_the_answer(peer: Peer) -> None:
    peer.read_request()
    peer.cut(reset=True)


def reset_at_once(peer: Peer) -> None:
    peer.cut(reset=True)


def break_off_in_the_answer(peer: Peer) -> None:
    peer.read_request()
    peer.raw(b"HTTP/1.1 101 Switching")
    peer.cut()


TEMPORARY = [
    *[lambda peer, status=status: peer.refuse(status) for status in ("429 Slow", "502 Bad", "503 Busy", "504 Late")],
    close_before_the_answer,
    reset_before_the_answer,
    reset_at_once,
    break_off_in_the_answer,
]


@pytest.mark.parametrize("fail", [TEMPORARY[1], *TEMPORARY[4:]])
def test_what_answers_here_before_the_runtime_does_is_tried_often(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, fail: Callable[[Peer], None]
) -> None:
    """Such as what forwards a port of this machine to a container that boots."""
    longest: List[float] = []

    def shortest_pause(low: float, high: float) -> float:
        longest.append(high)
        return low

    monkeypatch.setattr(random, "uniform", shortest_pause)
    client_of(serve(after(7, fail))).wait_until_ready(60)
    assert len(longest) >= 4
    assert max(longest) <= 0.2


@pytest.mark.parametrize("fail", TEMPORARY)
def test_retried(serve: Serve, fail: Callable[[Peer], None]) -> None:
    server = serve(after(2, fail))
    assert client_of(server).query("hi").text == "hi"
    assert (len(server.peers), len(server.said("invocation_message"))) == (3, 1)


def test_a_runtime_that_comes_up_late() -> None:
    with free_port() as port:
        client = RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m")
        calls = [InThread(client.query, "hi"), InThread(client.wait_until_ready), InThread(client.session().open)]
        time.sleep(0.2)  # long enough for each to be refused; if it was not, the test still holds
        with FaultServer(tolerant, port=port):
            assert calls[0].result().text == "hi"
            calls[1].result()
            with contextlib.closing(calls[2].result()) as session:
                assert session.query("again").text == "again"


def tolerant(peer: Peer) -> None:
    """For clients that only look whether it is there."""
    if peer.readable(10) and peer.sock.recv(1, socket.MSG_PEEK):
        echo(peer)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 426, 500, 501, 200, 301, 302, 307])
def test_never_retried(serve: Serve, status: int) -> None:
    server = serve(lambda peer: peer.refuse(f"{status} Because", "Location: ws://127.0.0.1:1/"))
    client = client_of(server)
    with pytest.raises(RuntimeConnectionError, match=f"{status} Because") as caught:
        client.query("hi")
    assert caught.value.status == status
    with pytest.raises(RuntimeConnectionError, match=f"{status} Because"):
        client.wait_until_ready()
    with pytest.raises(RuntimeConnectionError, match=f"{status} Because"):
        client.session().open()
    assert len(server.peers) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(serve: Serve, status: int) -> None:
    """They would hand the credentials to another host."""
    other = serve(echo)
    server = serve(lambda peer: peer.refuse(f"{status} Elsewhere", f"Location: {other.url}/"))
    with pytest.raises(RuntimeConnectionError) as caught:
        client_of(server, headers={"Authorization": "Bearer secret"}).query("hi")
    assert caught.value.status == status
    assert other.peers == []
    assert server.peers[0].headers["authorization"] == "Bearer secret"


def answers(*lines: str) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.raw("\r\n".join([*lines, "", ""]).encode())

    return script


@pytest.mark.parametrize(
    "script",
    [
        answers("SSH-2.0-OpenSSH"),
        answers("HTTP/1.1 101 OK"),
        answers("HTTP/1.1 101 OK", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: wrong"),
        answers("HTTP/1.1 abc OK"),
        answers("HTTP/1.1"),
        lambda peer: peer.accept("Sec-WebSocket-Extensions: permessage-deflate"),
        lambda peer: peer.accept("Sec-WebSocket-Protocol: mine"),
        answers("HTTP/1.1 101 OK", *["X: " + "x" * 1000] * 200),
    ],
)
def test_an_answer_that_is_no_handshake(serve: Serve, script: Callable[[Peer], None]) -> None:
    server = serve(script)
    with pytest.raises(RuntimeConnectionError):
        client_of(server).query("hi")
    assert len(server.peers) == 1


def test_connect_timeout_bounds_a_slow_drip(serve: Serve) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Drip: x\r\n" * 1000:
            if over.is_set() or peer.readable(0.02):
                return
            peer.raw(bytes([byte]))

    watch = Stopwatch()
    with pytest.raises(RuntimeConnectionError, match=r"within 0\.4 s"):
        client_of(serve(script), connect_timeout=0.4).query("hi")
    over.set()
    assert 0.4 <= watch.seconds < 8


def test_the_last_failure_is_told_when_time_is_up(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.refuse("503 Still Booting")

    server = serve(script)
    calls: List[Callable[[RuntimeUseClient], object]] = [lambda c: c.query("hi"), lambda c: c.session().open()]
    for call in calls:
        watch = Stopwatch()
        with pytest.raises(RuntimeConnectionError, match="503 Still Booting") as caught:
            call(client_of(server, connect_timeout=2.0))
        assert caught.value.status == 503
        # It gives up when the next attempt would be too late, at the earliest.
        assert watch.seconds < 8
    assert len(server.peers) > 2


def test_nothing_is_retried_once_the_request_was_sent(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.cut(reset=True)

    server = serve(script)
    with pytest.raises(ConnectionLostError):
        client_of(server).query("hi")
    assert len(server.peers) == 1


def test_wait_until_ready_gives_up_in_time_and_says_why() -> None:
    for _ in range(3):
        watch = Stopwatch()
        # Long enough for one attempt at least, however busy the machine.
        with pytest.raises(RunTimeoutError, match="refused"):
            RuntimeUseClient("ws://127.0.0.1:1", model="m").wait_until_ready(SOON)
        assert SOON <= watch.seconds < SOON + LATE


def test_wait_until_ready_in_a_black_hole() -> None:
    with black_hole() as port:
        for _ in range(30):
            with pytest.raises(TimeoutError):
                RuntimeUseClient(f"ws://127.0.0.1:{port}").wait_until_ready(0.03)


def test_wait_until_ready_sends_no_request(serve: Serve) -> None:
    server = serve(echo)
    client_of(server).wait_until_ready(10)
    assert (len(server.peers), server.messages) == (1, [])


@pytest.mark.parametrize("host", ["no-such-host.invalid", "."])
def test_a_name_that_leads_nowhere(host: str) -> None:
    with pytest.raises(RuntimeConnectionError, match="resolved"):
        RuntimeUseClient(f"ws://{host}:8080", model="m", connect_timeout=SOON).query("hi")


def test_a_first_message_in_the_same_piece_as_the_handshake(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.raw(peer.handshake() + frame(TEXT, b'{"message_type": "hello"}'))
        answer(peer, peer.receive())

    assert client_of(serve(script)).query("hi").text == "hi"
