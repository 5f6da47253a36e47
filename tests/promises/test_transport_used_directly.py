"""Every call ends: the built-in transport without the client tells a lost connection from a closed one."""

from __future__ import annotations

import contextlib
import queue
from typing import Any, Callable, ContextManager, List

import pytest

from runtimeuse_sync import ConnectionLostError, WebSocketTransport
from runtimeuse_sync.transports import ConnectedWebSocketTransport

from ..support.builders import Serve, heartbeat
from ..support.servers import FaultServer, Peer


def all_from(server: FaultServer, **settings: Any) -> List[Any]:
    return list(WebSocketTransport(server.url, **settings)(queue.Queue()))


def connected_to(server: FaultServer) -> ContextManager[ConnectedWebSocketTransport]:
    return contextlib.closing(WebSocketTransport(server.url).connect())


def ending(end: Callable[[Peer], Any]) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(heartbeat())
        end(peer)

    return script


@pytest.mark.parametrize("code", [1000, 1001, 1011])
def test_a_connection_that_the_peer_closes_ends_the_iterator(serve: Serve, code: int) -> None:
    assert all_from(serve(ending(lambda peer: peer.close(code)))) == [heartbeat()]


def test_a_reset_is_an_error(serve: Serve) -> None:
    def reset(peer: Peer) -> None:
        # Not before the connection is open: it would be tried again.
        peer.receive()
        peer.cut(reset=True)

    with connected_to(serve(ending(reset))) as connected:
        assert connected.receive() == heartbeat()
        connected.send(heartbeat())
        with pytest.raises(ConnectionLostError, match="lost"):
            connected.receive()


def test_an_end_without_a_closing_handshake_is_an_error(serve: Serve) -> None:
    with pytest.raises(ConnectionLostError, match="closing handshake"):
        all_from(serve(ending(Peer.cut)))


def test_a_silent_peer_is_an_error(serve: Serve) -> None:
    def never_answer(peer: Peer) -> None:
        peer.answers_pings = False
        peer.until_gone()

    with pytest.raises(ConnectionLostError, match="ping"):
        all_from(serve(ending(never_answer)), ping_interval=0.05, ping_timeout=0.05)


def test_what_came_before_the_loss_is_received_first(serve: Serve) -> None:
    with connected_to(serve(ending(Peer.cut))) as connected:
        assert connected.receive() == heartbeat()
        for _ in range(2):
            with pytest.raises(ConnectionLostError):
                connected.receive()


def test_one_that_is_closed_here_ends(serve: Serve) -> None:
    with connected_to(serve(ending(Peer.until_gone))) as connected:
        assert connected.receive() == heartbeat()
        connected.close()
        assert connected.receive() is None
