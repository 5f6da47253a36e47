"""Invalid arguments of the client and of its transport. Error messages repeat no secret."""

from __future__ import annotations

import typing
from typing import Any, Callable, Dict, List

import pytest

from runtimeuse_sync import (
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeUseClient,
    RuntimeUseSession,
    WebSocketTransport,
)
from runtimeuse_sync.client import URL_VARIABLE
from runtimeuse_sync.keywords import CommandsKeywords, QueryKeywords, WebSocketKeywords

from ...support.doubles import NeverOpened

SECRET = "hunter2-hunter2"


def test_secrets_are_not_repeated(client: Any) -> None:
    bad: List[Callable[[], Any]] = [
        lambda: client.query("p", agent_env={"TOKEN": SECRET + "\0"}),
        lambda: client.query("p", secrets_to_redact=SECRET),
        lambda: client.query("p", agent_env=f"TOKEN={SECRET}"),
        lambda: client.query("p", agent_env={"TOKEN": [SECRET]}),
        lambda: client.query("p", pre_agent_downloadables=[f"https://x.test?{SECRET}"]),
        lambda: client.execute_commands([CommandInterface("ls", env={"A": SECRET + "\0"})]),
        lambda: WebSocketTransport("ws://h", headers={"Authorization": f"Bearer {SECRET}\r\n"}),
        lambda: WebSocketTransport("ws://h", headers={"Authorization": [SECRET]}),  # type: ignore[dict-item]
    ]
    for call in bad:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"ws://user:{SECRET}/x@host.test:80",  # a password with a slash that is not escaped
        f"ws://user:{SECRET}",
        f"ws://user:{SECRET}@[::1",
        f"ws://user:{SECRET}@host\u2100.test",
        f"ws://user:{SECRET}@host:port",
        f"ftp://user:{SECRET}@host?{SECRET}",
        f"ws://host.test/?token={SECRET} ",
        f"//user:{SECRET}@host",
    ],
)
@pytest.mark.parametrize("argument", ["ws_url", "proxy"])
def test_bad_urls_are_not_repeated(url: str, argument: str) -> None:
    keywords: Dict[str, Any] = {"ws_url": url}
    if argument == "proxy":
        keywords = {"ws_url": "ws://host", "proxy": url.replace("ws://", "http://") if "?" not in url else url}
    with pytest.raises(ValueError, match=argument) as caught:
        WebSocketTransport(**keywords)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("ftp://host", ValueError),
        ("httpss://host", ValueError),
        ("host:8080", ValueError),
        ("", ValueError),
        ("ws://", ValueError),
        ("ws://:80", ValueError),
        ("ws:///path", ValueError),
        ("ws://ho st", ValueError),
        ("ws://host\r\nX: y", ValueError),
        ("ws://host:port", ValueError),
        ("ws://host:99999", ValueError),
        (1, TypeError),
        (b"ws://host", TypeError),
    ],
)
def test_urls(url: Any, error: type) -> None:
    with pytest.raises(error, match="ws_url"):
        RuntimeUseClient(url)


@pytest.mark.parametrize("url", ["ws://localhost:8080", "wss://u:p@[::1]:1/path?q=1", "ws://h", "WS://h"])
def test_good_urls(url: str) -> None:
    RuntimeUseClient(url)


def test_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv(URL_VARIABLE, raising=False)
        else:
            monkeypatch.setenv(URL_VARIABLE, value)
        with pytest.raises(ValueError, match=r"ws_url.*RUNTIMEUSE_WS_URL"):
            RuntimeUseClient()
    monkeypatch.setenv(URL_VARIABLE, "ws://from.environment")
    assert "from.environment" in repr(RuntimeUseClient())
    monkeypatch.setenv(URL_VARIABLE, "ftp://from.environment")
    with pytest.raises(ValueError, match=URL_VARIABLE):
        RuntimeUseClient()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("connect_timeout", 0, ValueError),
        ("connect_timeout", "1", TypeError),
        ("connect_timeout", True, TypeError),
        ("ping_interval", -1, ValueError),
        ("ping_timeout", float("nan"), ValueError),
        ("ping_timeout", None, TypeError),
        ("max_message_size", 0, ValueError),
        ("max_message_size", 1.5, TypeError),
        ("max_buffered", -1, ValueError),
        ("max_buffered", None, TypeError),
        ("headers", ["A: b"], TypeError),
        ("headers", {"A": 1}, TypeError),
        ("headers", {1: "b"}, TypeError),
        ("headers", {"A\r\nB": "c"}, ValueError),
        ("headers", {"A": "b\nc"}, ValueError),
        ("headers", {"": "b"}, ValueError),
        ("ssl_context", True, TypeError),
        ("proxy", "socks6://host", ValueError),
        ("proxy", "socks5://", ValueError),
        ("handshake_timeout", 0, ValueError),
        ("handshake_timeout", "1", TypeError),
        ("proxy", "https://host", ValueError),
        ("proxy", "host:8080", ValueError),
        ("proxy", 1, TypeError),
        ("model", "", ValueError),
        ("model", 1, TypeError),
        ("system_prompt", 1, TypeError),
    ],
)
def test_settings(name: str, value: Any, error: type) -> None:
    with pytest.raises(error, match=name):
        RuntimeUseClient("ws://host", **{name: value})


def test_unknown_settings() -> None:
    make: Any = RuntimeUseClient
    with pytest.raises(TypeError, match="conect_timeout"):
        make("ws://host", conect_timeout=3)
    # A custom transport takes no settings of a WebSocket, but a typo is reported as such.
    with pytest.raises(TypeError, match="modell"):
        make(transport=NeverOpened(), modell="m")


@pytest.mark.parametrize(
    ("typed", "real"),
    [
        (QueryKeywords, QueryOptions),
        (CommandsKeywords, ExecuteCommandsOptions),
        (WebSocketKeywords, WebSocketTransport.__init__),
    ],
    ids=["queries", "commands", "connections"],
)
def test_typed_keywords_match_the_real_ones(typed: Any, real: Any) -> None:
    hints = typing.get_type_hints(real)
    for name in ("ws_url", "return"):
        hints.pop(name, None)
    assert typing.get_type_hints(typed) == hints
    for call in (RuntimeUseClient.query, RuntimeUseSession.execute_commands, RuntimeUseClient.__init__):
        assert typing.get_type_hints(call)


@pytest.mark.parametrize("value", [0, -1, float("nan"), "1", True])
def test_times_of_the_client(client: RuntimeUseClient, value: Any) -> None:
    error = TypeError if isinstance(value, (str, bool)) else ValueError
    with pytest.raises(error, match="timeout"):
        client.wait_until_ready(value)
    with pytest.raises(error, match="end_session_timeout"):
        client.session(end_session_timeout=value)


@pytest.mark.parametrize("transport", [1, "ws://host", object()])
def test_transports(transport: Any) -> None:
    with pytest.raises(TypeError, match="transport"):
        RuntimeUseClient(transport=transport)
