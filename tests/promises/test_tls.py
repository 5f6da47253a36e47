"""TLS is not full duplex: large data both ways at once, over many connections; and whom the client trusts."""

from __future__ import annotations

import datetime
import select
import ssl
from pathlib import Path
from typing import Any, List

import pytest
import trustme

from runtimeuse_sync import ArtifactUploadResult, RuntimeConnectionError, RuntimeUseClient

from ..support.builders import CONFIRM, Serve, Stopwatch, assistant, client_of, echo, text, upload
from ..support.processes import CHILD_LIMIT
from ..support.servers import TEXT, Peer, frame
from ..support.threads import InThread
from ..support.tls import authority, for_client, for_server, server_context

__all__ = ["authority", "for_client", "for_server"]


def exchange_at_once(peer: Peer, outgoing: bytes, wanted: int) -> int:
    """Sends and reads in turn, from one thread as OpenSSL wants it; returns the bytes read when all has been sent."""
    sock: Any = peer.sock
    sock.setblocking(False)
    view, received = memoryview(outgoing), 0
    watch = Stopwatch()
    while view or received < wanted:
        assert watch.seconds < 60
        idle = True
        try:
            if view:
                view = view[sock.send(view[:16384]) :]
                idle = False
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            received += len(sock.recv(16384))
            idle = False
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        if idle:
            select.select([sock], [sock] if view else [], [], 0.1)
    sock.settimeout(15)
    return received


SIZE = 3 << 20


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_data_both_ways_at_once(
    serve: Serve, for_server: ssl.SSLContext, for_client: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """The runtime talks while the request is still on its way, and while answers to uploads are."""
    for_client.maximum_version = version
    block = "y" * 5000
    count = SIZE // 5000

    def script(peer: Peer) -> None:
        peer.accept()
        messages = "".join(f'{{"message_type":"assistant_message","text_blocks":["{block}"]}}\n' for _ in range(count))
        uploads = [upload(f"/out/{number}") for number in range(20)]
        stream = b"".join(frame(TEXT, line.encode()) for line in messages.splitlines())
        assert peer.readable(15)  # What comes before the request would not be its own.
        assert exchange_at_once(peer, stream, SIZE) >= SIZE
        peer.sock.settimeout(15)
        # What is left of the request, and then answers that are large, too.
        peer.send(*uploads, text("done"))
        left = b""
        while b"end_session" not in unmasked_tail(left):
            left = (left + peer._some())[-4096:]
        peer.send(CONFIRM)

    server = serve(script, context=for_server)
    seen: List[List[int]] = [[] for _ in range(6)]

    def call(number: int) -> None:
        result = client_of(server, ssl_context=for_client).query(
            "x" * SIZE,
            artifacts_dir="/out",
            on_artifact_upload_request=lambda _: ArtifactUploadResult("http://s/" + "z" * 200_000, "text/plain"),
            on_assistant_message=lambda message: seen[number].append(message.text_blocks[0] == block),
            timeout=CHILD_LIMIT,
        )
        assert result.text == "done"

    for thread in [InThread(call, number) for number in range(6)]:
        thread.join(55)
        thread.result()
    assert seen == [[True] * count] * 6


def unmasked_tail(data: bytes) -> bytes:
    """Returns the payload of the short frame at the end of what was received, if there is one."""
    size = len(b'{"message_type":"end_session_message"}')
    if len(data) < size + 6 or data[-size - 6 : -size - 4] != bytes([0x81, 0x80 | size]):
        return b""
    mask = data[-size - 4 : -size]
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(data[-size:]))


def test_echoes_of_all_sizes(serve: Serve, for_server: ssl.SSLContext, for_client: ssl.SSLContext) -> None:
    server = serve(echo, context=for_server)
    with client_of(server, ssl_context=for_client).session() as session:
        for size in (1, 16383, 16384, 16385, 65536, 1 << 20):
            assert session.query("x" * size).text == "x" * size


def test_a_silent_end_of_tls_is_a_lost_connection(
    serve: Serve, for_server: ssl.SSLContext, for_client: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"))
        peer.cut()

    with pytest.raises(ConnectionError):
        client_of(serve(script, context=for_server), ssl_context=for_client).query("hi")


def refused(server: Any, context: Any = None, host: str = "localhost") -> str:
    watch = Stopwatch()
    client = RuntimeUseClient(f"wss://{host}:{server.port}", model="m", ssl_context=context, connect_timeout=30)
    with pytest.raises(RuntimeConnectionError) as caught:
        client.query("hi")
    with pytest.raises(RuntimeConnectionError):
        client.wait_until_ready(30)
    assert watch.seconds < 8
    assert len(server.peers) == 2, "it was tried again"
    return str(caught.value)


def test_a_wrong_host(serve: Serve, authority: trustme.CA, for_client: ssl.SSLContext) -> None:
    server = serve(echo, context=server_context(authority.issue_cert("elsewhere.example")))
    assert "certificate of localhost is not valid" in refused(server, for_client)


def test_an_unknown_authority(serve: Serve, for_server: ssl.SSLContext) -> None:
    assert "not valid" in refused(serve(echo, context=for_server))


def test_an_expired_certificate(serve: Serve, authority: trustme.CA, for_client: ssl.SSLContext) -> None:
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
    server = serve(echo, context=server_context(authority.issue_cert("localhost", not_after=past)))
    assert "expired" in refused(server, for_client)


def test_no_tls_at_all(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        # All of it: closed with something unread, a connection is reset.
        peer._some()
        peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.cut()

    assert "TLS" in refused(serve(script))


def test_a_context_that_checks_nothing(serve: Serve, for_server: ssl.SSLContext) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert client_of(serve(echo, context=for_server), ssl_context=context).query("hi").text == "hi"


def test_a_client_certificate(
    serve: Serve, authority: trustme.CA, for_server: ssl.SSLContext, for_client: ssl.SSLContext, tmp_path: Path
) -> None:
    for_server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(for_server)
    authority.issue_cert("client@example.com").configure_cert(for_client)
    assert client_of(serve(echo, context=for_server), ssl_context=for_client).query("hi").text == "hi"


def test_a_reset_at_any_time_of_the_tls_handshake_is_retried(
    serve: Serve, for_server: ssl.SSLContext, for_client: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        if peer.number % 2 == 0:
            if peer.number % 4:
                peer.readable(5)
            peer.cut(reset=peer.number % 8 < 6)
            return
        peer.sock = for_server.wrap_socket(peer.sock, server_side=True)
        echo(peer)

    server = serve(script)
    client = RuntimeUseClient(f"wss://localhost:{server.port}", model="m", ssl_context=for_client)
    for _ in range(25):
        assert client.query("hi").text == "hi"
    assert len(server.peers) == 50
