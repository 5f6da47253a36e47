"""URLs of providers, https:// and http://: they are taken as they are given, and shown so: secrets stay in."""

from __future__ import annotations

import logging
import pickle
import socket
import ssl
from typing import Any

import pytest

from runtimeuse_sync import (
    CommandInterface,
    RuntimeConnectionError,
    RuntimeUseClient,
    WebSocketTransport,
)
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, cannot_connect, echo
from ..support.servers import free_port
from ..support.tls import authority, for_client, for_server

__all__ = ["authority", "for_client", "for_server"]

TOKEN = "k3y5-0f-th3-pr0v1d3r"
SIGNED_TOKEN = "a1b2c3d4e5f6g7h8"


def http_url(runtime: LocalRuntime) -> str:
    return runtime.ws_url.replace("ws://", "http://")


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "wss"])
def test_https_is_tls(serve: Serve, for_server: ssl.SSLContext, for_client: ssl.SSLContext, scheme: str) -> None:
    server = serve(echo, context=for_server)
    url = server.url.replace("wss://", f"{scheme}://")
    client = RuntimeUseClient(f"{url}/run?token={TOKEN}", model="m", ssl_context=for_client)
    client.wait_until_ready()
    with client.session() as session:
        assert session.query("hi").text == "hi"
    target = server.peers[0].headers
    assert target["host"] == url.partition("://")[2]
    assert "origin" not in target


def test_the_default_authorities_are_trusted_and_no_others(serve: Serve, for_server: ssl.SSLContext) -> None:
    server = serve(echo, context=for_server)
    url = server.url.replace("wss://", "https://")
    with pytest.raises(RuntimeConnectionError, match=f"could not connect to {url}: the certificate of .* is not valid"):
        RuntimeUseClient(url, model="m").query("hi")


@pytest.mark.parametrize("scheme", ["http", "HtTp", "ws"])
def test_http_is_plain(serve: Serve, scheme: str) -> None:
    server = serve(echo)
    url = server.url.replace("ws://", f"{scheme}://")
    assert RuntimeUseClient(url, model="m").query("hi").text == "hi"


def test_wherever_a_url_is_taken(runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    url = http_url(runtime)
    transport = WebSocketTransport(url)
    assert transport.ws_url == transport.origin == url
    commands: Any = [CommandInterface("echo $((6 * 7))")]
    for client in (RuntimeUseClient(transport=transport), pickle.loads(pickle.dumps(RuntimeUseClient(url)))):
        assert client.execute_commands(commands).results[0].stdout == "42\n"
    monkeypatch.setenv("RUNTIMEUSE_WS_URL", url)
    client = RuntimeUseClient()
    assert client.execute_commands(commands).results[0].stdout == "42\n"


@pytest.mark.parametrize(
    ("scheme", "shown"),
    [("https", "https://localhost:{}"), ("HTTP", "http://localhost:{}"), ("ws", "ws://localhost:{}")],
)
def test_what_was_given_is_shown_without_secrets(scheme: str, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    with free_port() as port:
        shown = shown.format(port)
        url = f"{scheme}://user:{TOKEN}@localhost:{port}/{TOKEN}/x?token={TOKEN}"
        client = RuntimeUseClient(url, model="m", connect_timeout=0.2, headers={"x-access-token": TOKEN})
        caplog.set_level(logging.DEBUG)
        with pytest.raises(RuntimeConnectionError, match=f"could not connect to {shown}: ") as caught:
            client.query("hi")
    texts = [str(caught.value), repr(client), repr(client.session()), repr(client._transport), caplog.text]
    assert all(TOKEN not in text for text in texts)
    assert shown in repr(client)


@pytest.mark.parametrize("domain", ["proxy.daytona.works", "previews.example.test"])
def test_the_token_in_a_signed_host_is_masked(domain: str, caplog: pytest.LogCaptureFixture) -> None:
    """Daytona's signed preview URLs: whoever knows the host gets in."""
    caplog.set_level(logging.DEBUG)
    url = f"https://8080-{SIGNED_TOKEN}.{domain}"
    client = RuntimeUseClient(url, model="m", proxy="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.getaddrinfo", unknown)
        error = cannot_connect(
            lambda seconds: RuntimeUseClient(url, model="m", connect_timeout=seconds, proxy="").query("hi"), "resolved"
        )
    shown = f"https://8080-REDACTED.{domain}"
    text = str(error)
    assert text.startswith(f"could not connect to {shown}: ")
    assert f"the host name 8080-[REDACTED].{domain} cannot be resolved" in text
    assert shown in repr(client)
    assert SIGNED_TOKEN not in caplog.text + repr(client._transport) + repr(client.session()) + repr(error)
    assert error.__cause__ is None


def unknown(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    "url", ["ftp://h", "file:///x", "https//h", "h:80", "https://", "https://h:0", "https://h/#x", "http://h x", "://h"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^ws_url "):
        RuntimeUseClient(url)
