"""Memory: flat under any stream, and a small multiple of a large result. Measured where nothing else runs.

A client in a process of its own reads the peak of its resident set from `/proc/self/status`; `getrusage` would not do,
as its peak has that of the process that forked.
"""

from __future__ import annotations

import contextlib
import json
import sys
import zlib

import pytest

from ..support.builders import answer, output, ran, text
from ..support.servers import TEXT, FaultServer, Message, Peer, PeerGone, frame
from ..support.tally import Tally, tries
from . import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of the resident set is read from /proc")

MEBIBYTE = 1 << 20

#: By how much the peak may grow under a stream, whatever its length: 64 MiB are promised, 16 MiB at most are queued.
GROWTH = 48 * MEBIBYTE

PREAMBLE = """
import json, sys, time
from runtimeuse_sync import RuntimeUseClient

def resident(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(what))

url = sys.argv[1]
client = RuntimeUseClient(url, model="m")
assert client.query("warm").text == "warm"
before = resident("VmRSS")
"""

STREAM = (
    PREAMBLE
    + """
every, seen, characters = int(sys.argv[2]), 0, 0

def slow(message):
    global seen, characters
    seen += 1
    characters += len(message.text)
    if seen % every == 0:
        time.sleep(0.002)

done = client.execute_commands(["stream"], on_command_output=slow)
print(json.dumps([seen, characters, done.results[0].exit_code, resident("VmHWM") - before]))
"""
)


class Streaming:
    """A runtime that streams a command's output in messages of one size."""

    def __init__(self, size: int, total: int) -> None:
        self.count = total // size
        self._frame = frame(TEXT, json.dumps(output("x" * size)).encode())

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message["message_type"] == "invocation_message":
                peer.send(text(message["user_prompt"]))
            elif message["commands"]:
                self._stream(peer)

    def _stream(self, peer: Peer) -> None:
        peer.sock.settimeout(children.PATIENCE)
        at_once = max(1, MEBIBYTE // len(self._frame))
        many, left = self._frame * at_once, self.count
        while left:
            peer.raw(many if left >= at_once else self._frame * left)
            left -= min(left, at_once)
        peer.send({"message_type": "command_execution_result_message", "results": [{"command": "c", "exit_code": 0}]})


@pytest.mark.parametrize("size", [4096, 64 * 1024, 4 * MEBIBYTE])
def test_a_stream_through_a_callback_that_sleeps(tally: Tally, size: int) -> None:
    fault = "memory: MiB streamed through a callback that sleeps"
    # Far more than may be held; and in the full form 2 GiB.
    total = tries(96, 683) * MEBIBYTE
    tally.tried(fault, total // MEBIBYTE)
    streaming = Streaming(size, total)
    # So often that the callback is slower than the stream.
    every = max(1, 320 * 1024 // size)
    with FaultServer(streaming) as server:
        printed = children.run(STREAM, server.url, str(every), patience=600)
    seen, characters, exit_code, growth = json.loads(printed)
    assert (seen, characters, exit_code) == (streaming.count, streaming.count * size, 0)
    assert growth < GROWTH, f"{growth >> 20} MiB"
    tally.survived(fault, total // MEBIBYTE)


REQUESTS = (
    PREAMBLE
    + """
from runtimeuse_sync import ProtocolError

try:
    RuntimeUseClient(url, model="m", max_buffered=1 << 20).execute_commands(["announce"])
except ProtocolError as error:
    print(json.dumps([error.error, resident("VmHWM") - before]))
"""
)


def test_upload_requests_that_nobody_answers(tally: Tally) -> None:
    fault = "memory: thousands of upload requests that nobody answers"
    thousands = tries(60, 200)
    tally.tried(fault, thousands)
    path = "/out/" + "x" * 1000
    request = {"message_type": "artifact_upload_request_message", "filename": path[5:], "filepath": path}
    many = frame(TEXT, json.dumps(request).encode()) * 1000

    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message["message_type"] == "invocation_message":
                peer.send(text(message["user_prompt"]))
            else:
                with contextlib.suppress(PeerGone):
                    for _ in range(thousands):
                        peer.raw(many)
                return

    with FaultServer(script) as server:
        said, growth = json.loads(children.run(REQUESTS, server.url, patience=600))
    assert "announced more artifacts" in said
    assert growth < GROWTH, f"{growth >> 20} MiB"
    tally.survived(fault, thousands)


LARGE = (
    PREAMBLE
    + """
import zlib

def call(owner):
    if sys.argv[2] == "commands":
        return owner.execute_commands(["large"]).results[0].stdout
    return owner.query("large").text

if sys.argv[3] == "session":
    with client.session() as owner:
        got = call(owner)
        peak = resident("VmHWM") - before
else:
    got = call(client)
    peak = resident("VmHWM") - before
print(json.dumps([len(got), sys.getsizeof(got), zlib.crc32(got.encode()), peak]))
"""
)

#: Pieces that a large result consists of, as they stand in the JSON text.
PIECES = {
    "one line": "0123456789abcdef",
    "lines": r"0123456789abcdef0123456789abcdef0123456789abcdef\n",
    "escapes": r"\u6f22\u5b57",
    "CJK": "漢字",
    "emoji": "x" * 60 + "\U0001f600",
}


class Large:
    """A runtime whose result is large, of a query or of commands; it is put together without its parts being kept."""

    def __init__(self, piece: str, size: int) -> None:
        self.size = size
        self._piece = piece.encode()
        self._times = size // len(self._piece)
        said = json.loads(f'"{piece}"')
        self.length = len(said) * self._times
        self.checksum = zlib.crc32(said.encode() * self._times)

    def _result(self, like: Message) -> bytes:
        before, after = json.dumps(like).split("HERE")
        return frame(TEXT, before.encode() + self._piece * self._times + after.encode())

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt") == "large":
                peer.sock.settimeout(children.PATIENCE)
                peer.raw(self._result(text("HERE")))
            elif message.get("commands"):
                peer.sock.settimeout(children.PATIENCE)
                peer.raw(self._result(ran("large", stdout="HERE")))
            else:
                answer(peer, message)


# The JSON parser of Python 3.8 keeps a string of its own for what stands between two escapes.
PARSES_FRUGALLY = sys.version_info >= (3, 9)


@pytest.mark.parametrize("piece", [name for name in PIECES if PARSES_FRUGALLY or "\\" not in PIECES[name]])
def test_a_large_result(tally: Tally, piece: str) -> None:
    fault = "memory: a large result"
    size = tries(16, 200) * MEBIBYTE
    tally.tried(fault)
    large = Large(PIECES[piece], size)
    with FaultServer(large) as server:
        kind, owner = ("commands", "session") if piece == "lines" else ("query", "one-shot")
        printed = children.run(LARGE, server.url, kind, owner, patience=300)
    length, held, checksum, peak = json.loads(printed)
    assert (length, checksum) == (large.length, large.checksum)
    # What Python itself needs for the text is more than its UTF-8, up to four times as much for one with emoji.
    assert peak < 4 * max(size, held), f"{peak / max(size, held):.2f} times its size"
    tally.survived(fault)
