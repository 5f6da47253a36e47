"""Bounded memory: a slow caller pushes back on the runtime, and does not take it for dead."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any, Dict, List

import psutil
import pytest

from ..support.builders import SOON, Serve, answer_all, assistant, begin_until_cancelled, client_of, end, text, wait
from ..support.servers import TEXT, Peer, frame

MEBIBYTE = 1 << 20
TOTAL = 60 * MEBIBYTE
#: What the two sockets may hold between them, whatever their buffers grow to.
SOCKETS = 20 * MEBIBYTE


#: A peer that is silent for longer than both together is lost: far longer than one may be held up on a busy machine.
PINGS: Dict[str, Any] = {"ping_interval": 0.2, "ping_timeout": 1.8}
#: Longer than that, in seconds.
SILENCE = 2.5


class Flood:
    """Sends `TOTAL` bytes of messages of one size; knows how much has left."""

    def __init__(self, size: int) -> None:
        self.sent = 0
        self.pushed_back = threading.Event()
        #: Whether the next time nothing is taken is the end of it.
        self.abandoned = threading.Event()
        self._one = frame(TEXT, json.dumps(assistant("x" * size)).encode())
        self._many = self._one * max(1, 65536 // len(self._one))

    def pour(self, peer: Peer) -> None:
        peer.sock.settimeout(0.3)
        # However large the system lets them grow by itself.
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MEBIBYTE)
        view = memoryview(self._many)
        at = 0
        while self.sent < TOTAL or at:
            try:
                took = peer.sock.send(view[at:])
            except socket.timeout:  # Nothing was taken for a while.
                self.pushed_back.set()
                if self.abandoned.is_set():
                    raise
                continue
            self.sent += took
            at = (at + took) % len(self._many)
        peer.sock.settimeout(15)

    @property
    def count(self) -> int:
        return self.sent // len(self._one)


# The bytes count, not the messages; nor does it matter whose connection it is.
@pytest.mark.parametrize(("size", "in_session"), [(400, True), (2000, False), (3 * MEBIBYTE, True)])
def test_a_slow_callback_under_a_flood(serve: Serve, size: int, in_session: bool) -> None:
    flood = Flood(size)

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        flood.pour(peer)
        peer.send(text("done"))
        if in_session:
            end(peer)

    process = psutil.Process()
    grown: List[int] = []
    seen: List[int] = [0]
    before = process.memory_info().rss

    def slow_at_first(message: Any) -> None:
        seen[0] += 1
        if seen[0] == 1:
            wait(flood.pushed_back)
            assert not threading.Event().wait(SILENCE)
            assert flood.sent < 2 * MEBIBYTE + 8 * MEBIBYTE + SOCKETS
        if seen[0] % 1000 == 1:
            grown.append(process.memory_info().rss - before)

    client = client_of(serve(script), max_buffered=2 * MEBIBYTE, **PINGS)
    if in_session:
        with client.session() as session:
            assert session.query("hi", on_assistant_message=slow_at_first).text == "done"
    else:
        assert client.query("hi", on_assistant_message=slow_at_first).text == "done"
    assert seen[0] == flood.count
    assert max(grown) < 50 * MEBIBYTE


def test_a_flood_that_nobody_reads_any_more(serve: Serve) -> None:
    """A session that a call has left early goes on reading: the runtime comes to its end, and nothing piles up."""
    flood = Flood(2000)

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "a")
        flood.pour(peer)
        peer.send(text("late"))
        answer_all(peer)

    process = psutil.Process()
    with client_of(serve(script), max_buffered=MEBIBYTE).session() as session:
        before = process.memory_info().rss
        with session.stream("hi") as run:
            next(run)
        assert session.query("next", timeout=30).text == "next"
        assert process.memory_info().rss - before < 50 * MEBIBYTE


def test_a_slow_iteration_pushes_back(serve: Serve) -> None:
    flood = Flood(2000)

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        flood.pour(peer)
        peer.send(text("done"))

    with client_of(serve(script), max_buffered=MEBIBYTE, **PINGS).stream("hi") as run:
        next(run)
        wait(flood.pushed_back)
        assert not threading.Event().wait(SILENCE)
        assert flood.sent < 8 * MEBIBYTE + SOCKETS
        assert sum(1 for _ in run) == flood.count - 1
        assert run.result.text == "done"


def test_a_deadline_is_kept_while_pushed_back(serve: Serve) -> None:
    """The cancel leaves although nothing is read, and the caller is stuck."""
    flood = Flood(2000)

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        flood.abandoned = cancelled
        with pytest.raises((ConnectionError, socket.timeout)):
            flood.pour(peer)
        peer.sock.settimeout(15)

    cancelled = threading.Event()
    server = serve(script)

    def stuck(_: Any) -> None:
        wait(flood.pushed_back)
        assert not threading.Event().wait(SOON)
        cancelled.set()

    with pytest.raises(TimeoutError):
        client_of(server, max_buffered=MEBIBYTE).query("hi", timeout=SOON, on_assistant_message=stuck)
    server.wait_for("cancel_message")
