"""Nothing is lost: results of any size under the limit arrive."""

from __future__ import annotations

import pytest

from runtimeuse_sync import ProtocolError
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, client_of, echo
from ..support.servers import TEXT, Peer, frame


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536, 1 << 20, 20 << 20])
def test_results_of_any_size(serve: Serve, size: int) -> None:
    client = client_of(serve(echo))
    prompt = (("aä€😀" if size <= 1 << 20 else "x") * size)[:size]
    assert client.query(prompt).text == prompt
    with client.session() as session:
        assert session.query(prompt).text == prompt


@pytest.mark.parametrize("fragments", [1, 40000])
def test_a_message_over_the_limit(serve: Serve, fragments: int) -> None:
    """The header alone is enough: the payload is never sent."""
    announced = 300_000

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        if fragments == 1:
            peer.raw(frame(TEXT, b"{", length=announced))
        else:
            peer.frame(TEXT, b"{" * 100_000, fin=False)
            peer.raw(frame(0, b"", length=announced))

    server = serve(script)
    with pytest.raises(ProtocolError, match="max_message_size"):
        client_of(server, max_message_size=200_000).query("hi")
    server.stop()
    assert server.peers[0].closed_with == 1009


def test_a_message_just_under_the_limit(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        message = b'{"message_type":"result_message","data":{"type":"text","text":"ok"}}'
        peer.frame(TEXT, message + b" " * (1000 - len(message)))

    assert client_of(serve(script), max_message_size=1000).query("hi").text == "ok"


def test_a_large_result_of_commands(runtime: LocalRuntime) -> None:
    done = client_of(runtime).execute_commands(["head -c 20000000 /dev/zero | tr '\\0' x"], timeout=60)
    assert done.results[0].stdout == "x" * 20_000_000
