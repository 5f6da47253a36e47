"""Connecting to one of several addresses: in which order, how soon, and that nothing but the winner stays open."""

from __future__ import annotations

import math
import socket
from typing import Any, Dict, List, Optional, Sequence, Set

import pytest

from runtimeuse_sync._websocket import dialing
from runtimeuse_sync._websocket.attempt import OpeningFailed, OpeningInterrupted
from runtimeuse_sync._websocket.dialing import NEXT_AFTER, dial, interleaved

from ...support.openers import SelectOpener
from ...support.servers import black_hole, free_port


def v4(number: int) -> Any:
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (f"10.0.0.{number}", 80))


def v6(number: int) -> Any:
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (f"fd00::{number}", 80, 0, 0))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], []),
        ([v4(1)], [v4(1)]),
        ([v4(1), v4(2)], [v4(1), v4(2)]),
        ([v6(1), v6(2), v4(1), v4(2)], [v6(1), v4(1), v6(2), v4(2)]),
        ([v4(1), v6(1), v6(2), v6(3)], [v4(1), v6(1), v6(2), v6(3)]),
    ],
)
def test_families_take_turns(given: List[Any], wanted: List[Any]) -> None:
    assert interleaved(given) == wanted


class Network:
    """Sockets of a network in memory, and the clock: when who answers what.

    Args:
        answers: By address, when it begins to answer, and by which errno (0: it accepts). Packets that come before are
            swallowed; a socket does not send again.
    """

    def __init__(self, answers: Dict[str, Any]) -> None:
        self.answers = answers
        self.time = 0.0
        self.begun: List[Any] = []
        self.open: Set[Any] = set()
        self.most_open = 0

    # As an opener.

    def wait(self, sock: socket.socket, read: bool, write: bool, seconds: float = math.inf) -> bool:
        raise AssertionError

    def look_up(self, host: str, port: int) -> List[Any]:
        raise AssertionError

    def accepted(self) -> None:
        raise AssertionError

    def may_pass(self, status: int) -> bool:
        raise AssertionError(status)

    def now(self) -> float:
        return self.time

    def wait_for_any(self, socks: Sequence[Any], seconds: float) -> List[Any]:
        if self.time >= 30:
            raise OpeningInterrupted("no connection within 30 s")
        ready_at = min([sock.ready_at for sock in socks])
        self.time = min(self.time + seconds, max(self.time, ready_at))
        return [sock for sock in socks if sock.ready_at <= self.time]


class Socket:
    def __init__(self, network: Network) -> None:
        self._network = network
        self.ready_at = math.inf
        self.code = 0
        network.open.add(self)
        network.most_open = max(network.most_open, len(network.open))

    def setblocking(self, _: bool) -> None:
        pass

    def setsockopt(self, *_: Any) -> None:
        pass

    def getsockopt(self, *_: Any) -> int:
        return self.code

    def connect_ex(self, where: Any) -> int:
        now = self._network.time
        self._network.begun.append((round(now, 3), where[0]))
        since, self.code = self._network.answers.get(where[0], (math.inf, 0))
        if now >= since:
            self.ready_at = now + 0.01
        return 115  # EINPROGRESS

    def close(self) -> None:
        self._network.open.discard(self)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network({})
    monkeypatch.setattr(dialing, "_UNDER_WAY", (115,))
    monkeypatch.setattr(socket, "socket", lambda *_: Socket(network))
    return network


def winner(network: Network, addresses: List[Any]) -> Optional[str]:
    """Returns which address was begun last; its socket is the only one that is open."""
    sock: Any = dial(addresses, network)
    assert network.open == {sock}
    sock.close()
    return str(network.begun[-1][1])


REFUSED = 111


def test_the_first_that_answers_is_the_only_one_asked(network: Network) -> None:
    network.answers = {"10.0.0.1": (0, 0), "10.0.0.2": (0, 0)}
    assert winner(network, [v4(1), v4(2)]) == "10.0.0.1"
    assert network.begun == [(0.0, "10.0.0.1")]


def test_the_next_is_asked_soon_if_the_first_is_silent(network: Network) -> None:
    network.answers = {"10.0.0.2": (0, 0)}
    assert winner(network, [v4(1), v4(2)]) == "10.0.0.2"
    assert network.begun == [(0.0, "10.0.0.1"), (NEXT_AFTER, "10.0.0.2")]


def test_the_next_is_asked_at_once_if_the_first_refuses(network: Network) -> None:
    network.answers = {"fd00::1": (0, REFUSED), "10.0.0.1": (0, 0)}
    assert winner(network, [v6(1), v6(2), v4(1)]) == "10.0.0.1"
    assert network.begun == [(0.0, "fd00::1"), (0.01, "10.0.0.1")]


def test_a_refusal_of_all_is_told_at_once(network: Network) -> None:
    network.answers = {"10.0.0.1": (0, REFUSED), "10.0.0.2": (0, REFUSED)}
    with pytest.raises(OpeningFailed, match="refused") as caught:
        dial([v4(1), v4(2)], network)
    assert caught.value.retryable
    assert caught.value.not_accepted
    assert network.time < NEXT_AFTER
    assert network.open == set()


@pytest.mark.parametrize("up_at", [0.2, 1.1, 3.4, 8.0, 16.0])
@pytest.mark.parametrize("others", [[], [v6(1)]])
def test_a_network_that_swallows_packets_for_a_while(network: Network, up_at: float, others: List[Any]) -> None:
    """The operating system would ask after 1, 3, 7, 15 and 31 s."""
    network.answers = {"10.0.0.1": (up_at, 0)}
    assert winner(network, [*others, v4(1)]) == "10.0.0.1"
    assert network.time - up_at <= 1.1
    assert network.most_open <= 2 + len(others) + 1


def test_one_that_refuses_is_asked_again_while_another_is_silent(network: Network) -> None:
    """It may be booting, while the other one is never reached from here."""

    class Booting(Dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return (0, REFUSED if network.time < 5 else 0) if key == "10.0.0.1" else default

    network.answers = Booting()
    assert winner(network, [v6(1), v4(1)]) == "10.0.0.1"
    assert 5 <= network.time <= 6.1


def test_when_time_is_up_a_refusal_is_told(network: Network) -> None:
    network.answers = {"10.0.0.1": (0, REFUSED)}
    with pytest.raises(OpeningInterrupted, match="within 30 s; one of the addresses: connection refused"):
        dial([v6(1), v4(1)], network)
    assert network.open == set()


def test_no_address_at_all(network: Network) -> None:
    with pytest.raises(OpeningFailed, match="has no address"):
        dial([], network)


def test_a_real_silence_beside_a_real_listener() -> None:
    with black_hole() as silent, socket.create_server(("127.0.0.1", 0)) as listener:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
            for port in (silent, listener.getsockname()[1])
        ]
        with dial(addresses, SelectOpener()) as sock:
            assert sock.getpeername() == listener.getsockname()


def test_a_real_refusal() -> None:
    with free_port() as port:
        with pytest.raises(OpeningFailed, match="connection refused"):
            dial([(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))], SelectOpener())
