"""TLS under load, many connections that send and receive at full speed at once; and whom it trusts, asked often."""

from __future__ import annotations

import datetime
import json
import queue
import select
import ssl
from typing import Any, Callable, Dict, List

import pytest
import trustme

from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient

from ..support.builders import CONFIRM, Stopwatch, assistant, echo, text
from ..support.servers import PATIENCE, TEXT, FaultServer, Peer, frame
from ..support.tally import Tally, seeded, tries
from ..support.threads import InThread
from ..support.tls import authority, client_context, server_context

__all__ = ["authority"]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

#: For how long one connection may be busy while all the others are, too, in seconds.
BUSY = 300.0


def exchange(peer: Peer, outgoing: bytes) -> None:
    """Sends and reads in turn as fast as the socket takes and gives, in one thread, until all is sent.

    What is read waits for `peer.receive`.
    """
    sock: Any = peer.sock
    sock.setblocking(False)
    view = memoryview(outgoing)
    pieces = [peer._rest]
    watch = Stopwatch()
    while view:
        assert watch.seconds < BUSY
        idle = True
        try:
            view = view[sock.send(view[:16384]) :]
            idle = False
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            pieces.append(sock.recv(16384))
            idle = False
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        if idle:
            select.select([sock], [sock], [], 0.1)
    peer._rest = b"".join(pieces)
    sock.settimeout(BUSY)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_full_speed_both_ways_at_once(tally: Tally, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    """While a request is on its way the answer is, too; every byte of both is looked at."""
    fault = "TLS: connections at full speed both ways"
    connections, rounds, size = tries(6, 60), tries(2, 4), tries(1 << 19, 1 << 21)
    words = seeded(fault).choices([f"{number:04x}" for number in range(65536)], k=size // 4)
    prompts = ["".join(words[start:] + words[:start]) for start in range(4)]
    blocks = ["".join(words[start : start + 1000]) for start in range(0, len(words), 1000)]
    stream = b"".join(frame(TEXT, json.dumps(assistant(block)).encode()) for block in blocks)

    def script(peer: Peer) -> None:
        peer.accept()
        for number in range(rounds):
            # What came before the request would not be its own.
            assert peer.readable(BUSY)
            exchange(peer, stream)
            assert peer.receive()["user_prompt"] == prompts[number % 4]
            peer.send(text(f"done {number}"))
        peer.sock.settimeout(BUSY)
        peer.expect("end_session_message")
        peer.send(CONFIRM)

    trusting = client_context(authority)
    trusting.maximum_version = version
    tally.tried(fault, connections)
    with FaultServer(script, context=server_context(authority.issue_cert("localhost"))) as server:
        client = RuntimeUseClient(server.url, model="m", ssl_context=trusting, connect_timeout=BUSY)

        def call() -> None:
            with client.session() as session:
                for number in range(rounds):
                    messages: List[Any] = []
                    result = session.query(prompts[number % 4], on_assistant_message=messages.append, timeout=BUSY)
                    assert result.text == f"done {number}"
                    assert [message.text_blocks for message in messages] == [[block] for block in blocks]

        threads = [InThread(call) for _ in range(connections)]
        for thread in threads:
            thread.join(BUSY)
        for thread in threads:
            thread.result()
            tally.survived(fault)


def wrong_host(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority.issue_cert("elsewhere.example", "*.localhost", "127.0.0.1"))


def expired(authority: trustme.CA) -> ssl.SSLContext:
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
    return server_context(authority.issue_cert("localhost", not_after=past))


def self_signed(_: trustme.CA) -> ssl.SSLContext:
    lonely = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with lonely.private_key_pem.tempfile() as key, lonely.cert_pem.tempfile() as certificate:
        context.load_cert_chain(certificate, key)
    return context


def unknown_authority(_: trustme.CA) -> ssl.SSLContext:
    return server_context(trustme.CA().issue_cert("localhost"))


def client_certificate_missing(authority: trustme.CA) -> ssl.SSLContext:
    context = server_context(authority.issue_cert("localhost"))
    context.verify_mode = ssl.CERT_REQUIRED
    trustme.CA().configure_trust(context)
    return context


def version_too_old(authority: trustme.CA) -> ssl.SSLContext:
    context = server_context(authority.issue_cert("localhost"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


REFUSALS: Dict[Callable[[trustme.CA], ssl.SSLContext], str] = {
    wrong_host: "certificate of localhost is not valid: .*ostname",
    expired: "certificate of localhost is not valid: .*expired",
    self_signed: "certificate of localhost is not valid: .*self.signed",
    unknown_authority: "certificate of localhost is not valid: .*unable to get local issuer",
    client_certificate_missing: "TLS: .*ALERT",
    version_too_old: "TLS",
}


@pytest.mark.parametrize(
    ("refusal", "version"),
    [
        (refusal, version)
        for refusal in REFUSALS
        for version in VERSIONS
        # Which is the version that the server wants.
        if (refusal, version) != (version_too_old, ssl.TLSVersion.TLSv1_3)
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_not_trusted_is_refused_at_once(
    tally: Tally,
    authority: trustme.CA,
    refusal: Callable[[trustme.CA], ssl.SSLContext],
    version: ssl.TLSVersion,
) -> None:
    """In each of the ways to connect: once, in the words of OpenSSL, and not tried again."""
    fault = f"TLS: {refusal.__name__.replace('_', ' ')}"
    context = client_context(authority)
    context.maximum_version = version
    asked: queue.Queue[str] = queue.Queue()

    def script(peer: Peer) -> None:
        asked.put(peer.read_request())

    with FaultServer(script, context=refusal(authority)) as server:
        client = RuntimeUseClient(
            f"wss://localhost:{server.port}/?token=mine", model="m", ssl_context=context, connect_timeout=60
        )
        calls: List[Callable[[], Any]] = [
            lambda: client.query("hi"),
            lambda: client.wait_until_ready(60),
            lambda: client.session().open(),
        ]
        count = tries(1, 20)
        for _ in range(count):
            for call in calls:
                tally.tried(fault)
                watch = Stopwatch()
                with pytest.raises(RuntimeConnectionError, match=REFUSALS[refusal]) as caught:
                    call()
                assert watch.seconds < PATIENCE
                assert "mine" not in str(caught.value)
                tally.survived(fault)
        assert len(server.peers) == count * len(calls), "it was tried again"
    assert asked.empty(), "the token went to a server that is not trusted"


@pytest.mark.parametrize("version", VERSIONS)
def test_contexts_of_the_users_own(tally: Tally, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    """One that checks nothing, one that pins an authority, one with a certificate of the client."""
    fault = "TLS: custom contexts and mutual TLS"
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    known = client_context(authority)
    authority.issue_cert("client@example.com").configure_cert(known)
    mutual = server_context(authority.issue_cert("localhost"))
    mutual.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(mutual)
    pinned = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lonely = trustme.CA()
    lonely.configure_trust(pinned)
    names: queue.Queue[str] = queue.Queue()

    def script(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        certificate: Any = peer.sock.getpeercert()
        names.put(str(dict(certificate or {}).get("subjectAltName", "")))
        echo(peer)

    pairs = [
        (self_signed(authority), careless, ""),
        (wrong_host(authority), careless, ""),
        (server_context(lonely.issue_cert("localhost")), pinned, ""),
        (mutual, known, "client@example.com"),
    ]
    for for_server, for_client, name in pairs:
        for_client.maximum_version = version
        with FaultServer(script, context=for_server) as server:
            client = RuntimeUseClient(server.url, model="m", ssl_context=for_client)
            for _ in range(tries(1, 25)):
                tally.tried(fault)
                assert client.query("x" * 100_000, timeout=PATIENCE).text == "x" * 100_000
                assert name in names.get(timeout=PATIENCE)
                tally.survived(fault)
