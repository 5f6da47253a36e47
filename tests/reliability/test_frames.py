"""Frames that break RFC 6455, and odd ones that do not, over real sockets: before, during and after an answer."""

from __future__ import annotations

import json
import queue
import random
from typing import Any, Callable, List, Optional, Tuple

import pytest

from runtimeuse_sync import ProtocolError, RuntimeUseClient

from ..support.builders import answer, assistant, client_of, text
from ..support.servers import BINARY, CLOSE, PATIENCE, PING, PONG, TEXT, FaultServer, Peer, PeerGone, frame
from ..support.tally import Tally, seeded, tries
from .violations import BREACHES, Breach, in_fragments

#: Says whether a request is the one that a breach is for.
BROKEN = "broken"


class Breaching(FaultServer):
    """Answers as a runtime does, but commits a breach in the conversation in which it is asked `BROKEN`.

    Attributes:
        before: What is sent before the breach.
        told: The close codes that the clients have answered by.
    """

    def __init__(self, source: random.Random) -> None:
        self.breach = Breach(b"", 0)
        self.before = b""
        self.told: queue.Queue[Optional[int]] = queue.Queue()
        self._source = source
        super().__init__(self._talk)

    def _talk(self, peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt") == BROKEN:
                self._commit(peer)
                break
            answer(peer, message)

    def _commit(self, peer: Peer) -> None:
        data = self.before + self.breach.data
        try:
            while data:
                size = self._source.choice([1, 2, 3, 7, 1000, len(data)])
                peer.raw(data[:size])
                data = data[size:]
        except PeerGone:
            pass  # It has seen enough; what it has said still waits to be read.
        peer.until_gone()
        self.told.put(peer.closed_with)


def ask(client: RuntimeUseClient, way: str, seen: List[Any]) -> str:
    """Asks for the breach, in one of the ways to make a call."""
    if way == "one-shot":
        return client.query(BROKEN, on_assistant_message=seen.append, timeout=PATIENCE).text
    if way == "stream":
        with client.stream(BROKEN, timeout=PATIENCE) as run:
            for message in run:
                seen.append(message)
            return run.result.text
    with client.session() as session:
        assert session.query("first", timeout=PATIENCE).text == "first"
        return session.query(BROKEN, on_assistant_message=seen.append, timeout=PATIENCE).text


WAYS = ["one-shot", "stream", "session"]


def before(source: random.Random, count: int) -> bytes:
    messages = [json.dumps(assistant(f"block {number}")).encode() for number in range(count)]
    return b"".join(frame(source.choice([TEXT, BINARY]), message) for message in messages)


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_ends_the_call(tally: Tally, name: str) -> None:
    """With `ProtocolError`, after all that came before it has been handed over; the server is told why."""
    source = seeded(f"frames/{name}")
    server = Breaching(source)
    with server:
        client = client_of(server)
        for number in range(tries(3, 150)):
            fault = f"frames: {name}"
            tally.tried(fault)
            server.breach = BREACHES[name](source)
            count = source.randrange(4)
            server.before = before(source, count)
            seen: List[Any] = []
            with pytest.raises(ProtocolError):
                ask(client, WAYS[number % 3], seen)
            assert [message.text_blocks for message in seen] == [[f"block {each}"] for each in range(count)]
            assert server.told.get(timeout=PATIENCE) == server.breach.code
            assert client.query("next", timeout=PATIENCE).text == "next"
            tally.survived(fault)


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_after_the_answer_takes_nothing_away(tally: Tally, name: str) -> None:
    source = seeded(f"frames/after/{name}")
    fault = "frames: any of these right after the answer"
    server = Breaching(source)
    with server:
        client = client_of(server)
        for number in range(tries(2, 20)):
            tally.tried(fault)
            server.breach = BREACHES[name](source)
            server.before = before(source, 2) + frame(TEXT, json.dumps(text("all of it")).encode())
            seen: List[Any] = []
            assert ask(client, WAYS[number % 3], seen) == "all of it"
            assert len(seen) == 2
            server.told.get(timeout=PATIENCE)
            assert client.query("next", timeout=PATIENCE).text == "next"
            tally.survived(fault)


def odd(source: random.Random) -> Tuple[bytes, List[bytes], str]:
    """Returns an answer that is odd but legal, the pings in it, and what it says."""
    said = "".join(source.choices(["a", "é", "€", "😀", "\x00", "\\", '"', "z" * 500], k=source.randrange(60)))
    pings: List[bytes] = []

    def between() -> bytes:
        kind = source.randrange(4)
        if kind == 0 and len(pings) < 16:
            pings.append(f"{len(pings)}".encode() + source.choice([b"", b"\xff" * 100]))
            return frame(PING, pings[-1])
        return frame(PONG, b"nobody asked") if kind == 1 else b""

    data = between() + between()
    for message in (assistant(said), text(said)):
        payload = json.dumps(message, ensure_ascii=False).encode()
        kind = source.choice([TEXT, BINARY])
        data += in_fragments(source, kind, payload, between=between)
    return data, pings, said


def test_what_is_odd_but_legal(tally: Tally) -> None:
    """Fragments cut through characters, empty ones, pings and pongs in between, binary frames, single bytes."""
    fault = "frames: odd but legal"
    source = seeded(fault)
    data, pings, said = b"", [b""], ""
    answered: queue.Queue[List[bytes]] = queue.Queue()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        size = source.choice([1, 3, 50, len(data)])
        for start in range(0, len(data), size):
            peer.raw(data[start : start + size])
        answered.put(pongs_of(peer))

    with FaultServer(script) as server:
        client = client_of(server)
        for _ in range(tries(20, 1000)):
            tally.tried(fault)
            data, pings, said = odd(source)
            seen: List[Any] = []
            result = client.query("hi", on_assistant_message=seen.append, timeout=PATIENCE)
            assert (result.text, [message.text_blocks for message in seen]) == (said, [[said]])
            assert answered.get(timeout=PATIENCE) == pings
            tally.survived(fault)


def pongs_of(peer: Peer) -> List[bytes]:
    """Reads until the client has closed, and returns the pongs that it sent."""
    pongs: List[bytes] = []
    read: Callable[[], Tuple[int, bytes]] = peer._frame
    opcode = PONG
    while opcode != CLOSE:
        opcode, payload = read()
        if opcode == PONG:
            pongs.append(payload)
    return pongs
