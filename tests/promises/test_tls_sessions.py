"""TLS is not full duplex, nor free: later connections resume a session, where a full handshake would succeed, too."""

from __future__ import annotations

import datetime
import os
import pickle
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest
import trustme

from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient
from runtimeuse_sync._websocket import tls

from ..support.builders import Serve, client_of, echo
from ..support.servers import Peer
from ..support.threads import InThread
from ..support.tls import authority, for_client, for_server, server_context, trust_by_default

__all__ = ["authority", "for_client", "for_server"]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of the authorities that clients trust by default."""
    return trust_by_default(authority, tmp_path, monkeypatch)


class Echo:
    """Answers, and notes for each connection whether it resumed a session."""

    def __init__(self) -> None:
        self.reused: List[bool] = []

    def __call__(self, peer: Peer) -> None:
        sock: Any = peer.sock
        self.reused.append(sock.session_reused)
        echo(peer)


@pytest.fixture
def answers() -> Echo:
    return Echo()


def sessions_of(client: RuntimeUseClient) -> Any:
    transport: Any = client._transport
    return transport._settings.target.sessions


@pytest.mark.parametrize("version", VERSIONS)
def test_the_second_and_later_calls_resume(
    serve: Serve, answers: Echo, for_server: ssl.SSLContext, for_client: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    for_client.maximum_version = version
    server = serve(answers, context=for_server)
    client = client_of(server, ssl_context=for_client)
    for _ in range(3):
        assert client.query("hi").text == "hi"
    with client.session() as session:
        assert session.query("hi").text == "hi"
    assert client.query("hi").text == "hi"
    assert answers.reused == [False, True, True, True, True]


def test_calls_beside_an_open_session_resume(
    serve: Serve, answers: Echo, for_server: ssl.SSLContext, for_client: ssl.SSLContext
) -> None:
    client = client_of(serve(answers, context=for_server), ssl_context=for_client)
    with client.session() as session:
        assert session.query("hi").text == "hi"
        assert client.query("hi").text == "hi"
    assert answers.reused == [False, True]


@pytest.mark.usefixtures("trusted")
def test_each_client_and_each_copy_has_sessions_of_its_own(
    serve: Serve, answers: Echo, for_server: ssl.SSLContext
) -> None:
    server = serve(answers, context=for_server)
    client = client_of(server)
    assert client.query("hi").text == "hi"
    assert client.query("hi").text == "hi"
    assert pickle.loads(pickle.dumps(client)).query("hi").text == "hi"
    assert client_of(server).query("hi").text == "hi"
    assert answers.reused == [False, True, False, False]


def test_many_threads_share_a_session(
    serve: Serve, answers: Echo, for_server: ssl.SSLContext, for_client: ssl.SSLContext
) -> None:
    server = serve(answers, context=for_server)
    client = client_of(server, ssl_context=for_client)
    assert client.query("hi").text == "hi"
    gate = threading.Barrier(16)

    def call() -> List[str]:
        gate.wait()
        return [client.query("hi").text for _ in range(4)]

    callers = [InThread(call) for _ in range(16)]
    assert [caller.result() for caller in callers] == [["hi"] * 4] * 16
    assert answers.reused == [False, *[True] * 64]


def require_certificate(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_REQUIRED


def require_host_name(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("change", [require_certificate, require_host_name])
def test_a_context_that_has_become_strict_refuses(
    serve: Serve,
    answers: Echo,
    for_server: ssl.SSLContext,
    version: ssl.TLSVersion,
    change: Callable[[ssl.SSLContext], None],
) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    client = client_of(serve(answers, context=for_server), ssl_context=context)
    assert client.query("hi").text == "hi"
    change(context)
    with pytest.raises(RuntimeConnectionError, match="certificate"):
        client.query("hi")


@pytest.mark.parametrize("later", [tls.LONGEST + 1, -tls.LONGEST - 1], ids=["old", "clock set back"])
def test_a_session_is_resumed_for_minutes_only(
    serve: Serve, answers: Echo, for_server: ssl.SSLContext, for_client: ssl.SSLContext, later: float
) -> None:
    """However often it was resumed meanwhile."""
    server = serve(answers, context=for_server)
    client = client_of(server, ssl_context=for_client)
    assert client.query("hi").text == "hi"
    sessions_of(client)._clock = lambda: time.time() + tls.LONGEST / 2
    assert client.query("hi").text == "hi"
    sessions_of(client)._clock = lambda: time.time() + later
    assert client.query("hi").text == "hi"
    assert answers.reused == [False, True, False]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_expired_certificate_is_not_accepted_by_resuming(
    serve: Serve, answers: Echo, authority: trustme.CA, for_client: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    for_client.maximum_version = version
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=100)
    server = serve(answers, context=server_context(authority.issue_cert("localhost", "127.0.0.1", not_after=soon)))
    client = client_of(server, ssl_context=for_client)
    assert client.query("hi").text == "hi"
    sessions_of(client)._clock = lambda: time.time() + 101
    assert client.query("hi").text == "hi"
    assert answers.reused == [False, False]


def test_contexts_that_may_check_in_their_own_way_make_full_handshakes(
    serve: Serve, answers: Echo, authority: trustme.CA, for_server: ssl.SSLContext
) -> None:
    class Context(ssl.SSLContext):
        pass

    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    server = serve(answers, context=for_server)
    client = client_of(server, ssl_context=context)
    assert [client.query("hi").text, client.query("hi").text] == ["hi", "hi"]
    assert answers.reused == [False, False]


def test_a_server_that_fails_where_a_session_is_offered(
    serve: Serve, answers: Echo, for_server: ssl.SSLContext, for_client: ssl.SSLContext
) -> None:
    """It gets a full handshake next: the session may be the reason."""

    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.readable(5)
            # A fatal alert: handshake_failure.
            peer.raw(bytes([21, 3, 3, 0, 2, 2, 40]))
            peer.cut()
            return
        peer.sock = for_server.wrap_socket(peer.sock, server_side=True)
        answers(peer)

    server = serve(script)
    client = RuntimeUseClient(f"wss://localhost:{server.port}", model="m", ssl_context=for_client)
    assert [client.query("hi").text, client.query("hi").text] == ["hi", "hi"]
    assert answers.reused == [False, False]


def test_the_authorities_are_loaded_once_for_all_clients_and_again_if_the_file_changes(
    serve: Serve, answers: Echo, for_server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, trusted: Path
) -> None:
    loaded: List[ssl.SSLContext] = []

    def load(make: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> ssl.SSLContext:
        loaded.append(make())
        return loaded[-1]

    monkeypatch.setattr(ssl, "create_default_context", load)
    server = serve(answers, context=for_server)
    client = client_of(server)
    assert client.query("hi").text == "hi"
    assert client_of(server).query("hi").text == "hi"
    assert len(loaded) == 1
    another = trusted.with_name("another.pem")
    trustme.CA().cert_pem.write_to_path(str(another))
    os.replace(another, trusted)
    with pytest.raises(RuntimeConnectionError, match="certificate"):
        client.query("hi")
    assert len(loaded) == 2
