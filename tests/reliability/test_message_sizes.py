"""Messages of every size, from one byte to 200 MiB, in both directions; and the limit, to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Optional

import pytest

from runtimeuse_sync import ProtocolError, RuntimeUseError
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, Stopwatch, answer_all, client_of, text
from ..support.servers import PATIENCE, TEXT, Peer, frame
from ..support.tally import FULL, Tally

MEBIBYTE = 1 << 20

#: Around each change of how a frame says its length, of the client's reads, and of a result's two ends.
SIZES: List[int] = [1, 60, 61, 62, 63, 64, 65_470, 65_536, 65_537, MEBIBYTE, 4 * MEBIBYTE]
LARGE: List[int] = [64 * MEBIBYTE, 200 * MEBIBYTE]

#: Seconds for the largest, on a machine that is busy with other things.
LONG = 200.0

CONTINUATION = 0x0


def told(size: int) -> str:
    """Returns a text of that many bytes whose order shows."""
    line = "".join(f"{number:07}\n" for number in range(1 << 13))
    return (line * (size // len(line) + 1))[:size]


@pytest.mark.parametrize("fragment", [None, 100_000], ids=["whole", "in fragments"])
@pytest.mark.parametrize("size", SIZES + (LARGE if FULL else []))
@pytest.mark.timeout(600)
def test_results(serve: Serve, tally: Tally, size: int, fragment: Optional[int]) -> None:
    fault = "messages: results of 1 byte to 200 MiB" if FULL else "messages: results of 1 byte to 4 MiB"

    def script(peer: Peer) -> None:
        peer.accept()
        peer.sock.settimeout(LONG)
        peer.expect("invocation_message")
        payload = json.dumps(text(told(size))).encode()
        if fragment is None:
            peer.raw(frame(TEXT, payload))
        else:
            for at in range(0, len(payload), fragment):
                end = at + fragment
                peer.frame(CONTINUATION if at else TEXT, payload[at:end], fin=end >= len(payload))
        del payload
        answer_all(peer)

    tally.tried(fault)
    with client_of(serve(script)).session() as session:
        assert session.query("hi", timeout=LONG).text == told(size)
        assert session.query("next", timeout=PATIENCE).text == "next"
    tally.survived(fault)


def of_size(size: int) -> bytes:
    """Returns a result that is a message of that many bytes."""
    empty = json.dumps(text("")).encode()
    whole = json.dumps(text("x" * (size - len(empty)))).encode()
    assert len(whole) == size
    return whole


@pytest.mark.parametrize("limit", [100, 125, 126, 127, 65_535, 65_536, MEBIBYTE])
@pytest.mark.parametrize("fragmented", [False, True], ids=["whole", "in fragments"])
def test_the_limit_to_the_byte(serve: Serve, tally: Tally, limit: int, fragmented: bool) -> None:
    """What is over it is an error as soon as its length is known: nothing of it needs to come."""
    fault = "messages: over max_message_size"

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        right = of_size(limit)
        if fragmented:
            peer.raw(frame(TEXT, right[:50], fin=False) + frame(CONTINUATION, right[50:]))
        else:
            peer.raw(frame(TEXT, right))
        peer.expect("invocation_message")
        if fragmented:
            peer.raw(frame(TEXT, right[:50], fin=False) + frame(CONTINUATION, b"", length=limit - 49))
        else:
            peer.raw(frame(TEXT, b"", length=limit + 1))
        assert peer.readable(PATIENCE)

    tally.tried(fault)
    with client_of(serve(script), max_message_size=limit).session() as session:
        assert session.query("hi", timeout=PATIENCE).text.strip("x") == ""
        watch = Stopwatch()
        with pytest.raises(ProtocolError, match="max_message_size"):
            session.query("too much", timeout=PATIENCE)
        with pytest.raises(RuntimeUseError, match="max_message_size"):
            session.query("it is over", timeout=PATIENCE)
        assert watch.seconds < PATIENCE - 2
    tally.survived(fault)


@pytest.mark.timeout(600)
def test_requests(tmp_path: Path, tally: Tally) -> None:
    """Up to what a runtime accepts, and back; over it, an error before anything is sent."""
    fault = "messages: requests of 1 byte to 99 MiB" if FULL else "messages: requests of 1 byte to 4 MiB"
    with LocalRuntime("echo", root=str(tmp_path)) as runtime, client_of(runtime).session() as session:
        for size in [*SIZES, *([64 * MEBIBYTE, 99 * MEBIBYTE] if FULL else [])]:
            prompt = told(size)
            tally.tried(fault)
            # Line breaks are escaped, which would make it more.
            prompt = prompt.replace("\n", " ") if size > 90 * MEBIBYTE else prompt
            assert session.query(prompt, timeout=LONG).text == prompt
            tally.survived(fault)
        if FULL:
            with pytest.raises(ValueError, match="accept at most"):
                session.query("x" * (100 * MEBIBYTE))
        assert session.query("next", timeout=PATIENCE).text == "next"
