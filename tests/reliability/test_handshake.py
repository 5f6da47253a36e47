"""The handshake: refused, broken off, never ended, or answered by something else, whoever it is that connects.

For each: the error and its status, how often it was tried, the time it took, no secret of the client in any text,
and the same client right again as soon as the server is.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from typing import Any, Callable, Dict, Iterator

import pytest

from runtimeuse_sync import ProtocolError, RuntimeConnectionError, RunTimeoutError, RuntimeUseClient, RuntimeUseError

from ..support.builders import Serve, Stopwatch, answer_all, echo
from ..support.servers import PATIENCE, FaultServer, Peer, black_hole, free_port
from ..support.tally import Tally, seeded, tries
from .bad_answers import MARK, Refusal, for_a_while, handshake, never, silent

#: Seconds that connecting may take where it never ends: long enough for one attempt, however busy the machine.
SOON = 0.4


def in_stream(client: RuntimeUseClient) -> str:
    with client.stream("hi") as run:
        return run.result.text


def in_session(client: RuntimeUseClient) -> str:
    with client.session() as session:
        return session.query("hi").text


def ready(client: RuntimeUseClient) -> str:
    transport: Any = client._transport
    client.wait_until_ready(transport.connect_timeout)
    return client.query("hi").text


def command(client: RuntimeUseClient) -> str:
    return client.execute_commands(["hi"]).results[0].command


#: Every way in.
ENTRIES: Dict[str, Callable[[RuntimeUseClient], str]] = {
    "query": lambda client: client.query("hi").text,
    "execute_commands": command,
    "stream": in_stream,
    "session": in_session,
    "wait_until_ready": ready,
}


class Server:
    """Serves a refusal to the first connections, and is well afterwards."""

    def __init__(self, serve: Serve, refusal: Refusal) -> None:
        self.ill = True
        self.failures = 1 << 30
        self._refusal = refusal
        self.server: FaultServer = serve(self._script)

    def _script(self, peer: Peer) -> None:
        if self.ill and peer.number < self.failures:
            self._refusal.script(peer)
        else:
            echo(peer)

    def connections(self) -> int:
        return len(self.server.peers)


def client_at(port: int, **settings: Any) -> RuntimeUseClient:
    """A client with secrets wherever it can have some."""
    return RuntimeUseClient(
        f"ws://us{MARK}er:{MARK}@127.0.0.1:{port}/path-{MARK}/?token={MARK}",
        model="m",
        headers={"X-Api-Key": MARK, "Cookie": f"session={MARK}"},
        **settings,
    )


@pytest.fixture
def silence_about_secrets(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[RuntimeUseError], None]]:
    """Returns what asserts that an error shows no secret; at the end, the log must not have either."""
    caplog.set_level("DEBUG")

    def check(error: RuntimeUseError) -> None:
        shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        assert MARK not in shown + repr(error) + repr(error.__dict__)

    yield check
    assert MARK not in caplog.text


Check = Callable[[RuntimeUseError], None]


def fails(entry: str, client: RuntimeUseClient, check: Check) -> RuntimeUseError:
    """Returns what a way in fails with, which has no secret and came in time."""
    watch = Stopwatch()
    with pytest.raises((RuntimeConnectionError, RunTimeoutError)) as caught:
        ENTRIES[entry](client)
    assert watch.seconds < PATIENCE - 2
    check(caught.value)
    return caught.value


def entries(name: str) -> Iterator[str]:
    """Yields the ways in that are tried: in the reduced form one by chance."""
    yield from seeded(name).sample(sorted(ENTRIES), tries(1, len(ENTRIES)))


@pytest.mark.parametrize("name", never())
def test_refused_for_good(serve: Serve, tally: Tally, silence_about_secrets: Check, name: str) -> None:
    """At once, and not tried again."""
    fault = "handshake: refused for good"
    for entry in entries(name):
        refusal = never()[name]
        server = Server(serve, refusal)
        client = client_at(server.server.port)
        tally.tried(fault)
        error = fails(entry, client, silence_about_secrets)
        assert type(error) is RuntimeConnectionError
        assert error.status == refusal.status
        assert refusal.shown in str(error)
        assert server.connections() == 1
        server.ill = False
        assert ENTRIES[entry](client) == "hi"
        tally.survived(fault)


@pytest.mark.parametrize("name", for_a_while())
def test_refused_for_a_while(serve: Serve, tally: Tally, silence_about_secrets: Check, name: str) -> None:
    """Tried again: until it is well, and the request goes out once; or until the time is over, which says why."""
    fault = "handshake: refused for a while"
    for entry in entries(name):
        server = Server(serve, for_a_while()[name])
        server.failures = 2
        tally.tried(fault)
        assert ENTRIES[entry](client_at(server.server.port)) == "hi"
        # wait_until_ready has a connection of its own.
        assert server.connections() == (4 if entry == "wait_until_ready" else 3)
        assert sum(len(server.server.said(kind)) for kind in ("invocation_message", "command_execution_message")) == 1
        tally.survived(fault)


@pytest.mark.parametrize("name", [*for_a_while(), "refused"])
def test_refused_until_the_time_is_over(serve: Serve, tally: Tally, silence_about_secrets: Check, name: str) -> None:
    fault = "handshake: refused until the time is over"
    refusal = for_a_while().get(name, Refusal(echo, shown="connection refused"))
    for entry in entries(name + fault):
        tally.tried(fault)
        with contextlib.ExitStack() as stack:
            server = None if name == "refused" else Server(serve, refusal)
            port = server.server.port if server else stack.enter_context(free_port())
            client = client_at(port, connect_timeout=2 * SOON)
            error = fails(entry, client, silence_about_secrets)
            assert type(error) is (RunTimeoutError if entry == "wait_until_ready" else RuntimeConnectionError)
            assert refusal.shown in str(error)
            if isinstance(error, RuntimeConnectionError):
                assert error.status == refusal.status
            if server is None:
                server = Server(functools.partial(serve, port=port), refusal)
            server.ill = False
            assert ENTRIES[entry](client_at(port)) == "hi"
        tally.survived(fault)


@pytest.mark.parametrize("name", [*silent(), "a black hole"])
def test_never_ended(serve: Serve, tally: Tally, silence_about_secrets: Check, name: str) -> None:
    """Bounded by `connect_timeout`, which bytes that drip in do not prolong."""
    fault = "handshake: never ended"
    for entry in entries(name):
        tally.tried(fault)
        with contextlib.ExitStack() as stack:
            server = None if name == "a black hole" else Server(serve, silent()[name])
            port = server.server.port if server else stack.enter_context(black_hole())
            watch = Stopwatch()
            error = fails(entry, client_at(port, connect_timeout=SOON), silence_about_secrets)
        assert watch.seconds >= SOON
        assert type(error) is (RunTimeoutError if entry == "wait_until_ready" else RuntimeConnectionError)
        assert f"within {SOON:g} s" in str(error)
        if server:
            # It is counted where it is accepted, perhaps only after the client has given up.
            server.server.wait_for_connections(1)
            assert server.connections() == 1
            server.ill = False
            assert ENTRIES[entry](client_at(port)) == "hi"
        tally.survived(fault)


@pytest.mark.timeout(300)
def test_one_byte_is_another(serve: Serve, tally: Tally, silence_about_secrets: Check) -> None:
    """Wherever it is: either it does not matter, or it is an error, in time; the call never answers something else."""
    fault = "handshake: one byte is another, more, or less"
    chance = seeded(fault)
    answers = []

    def script(peer: Peer) -> None:
        peer.read_request()
        right = handshake(peer)
        at = chance.randrange(len(right))
        other = bytes([chance.randrange(256)])
        answers.append(right[:at] + chance.choice([other, b"", right[at : at + 1] + other]) + right[at + 1 :])
        peer.raw(answers[-1])
        answer_all(peer)

    server = serve(script)
    client = client_at(server.port, connect_timeout=SOON / 4)
    for _ in range(tries(30, 1000)):
        tally.tried(fault)
        watch = Stopwatch()
        try:
            assert client.query("hi", timeout=PATIENCE).text == "hi"
        except (RuntimeConnectionError, ProtocolError) as error:
            silence_about_secrets(error)
        assert watch.seconds < PATIENCE - 2, answers[-1]
        tally.survived(fault)
