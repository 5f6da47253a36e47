"""The WebSocket handshake: what the client asks, and which responses it takes."""

from __future__ import annotations

import re
from typing import List

import pytest

from runtimeuse_sync._websocket.attempt import OpeningFailed
from runtimeuse_sync._websocket.handshake import check_response, new_key
from runtimeuse_sync._websocket.opening import Target

RIGHT = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: a+b="]


def check(*lines: str, offered: str = "") -> None:
    head = "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()
    check_response(head, b"a+b=", {offered.encode()})


@pytest.mark.parametrize(
    "lines",
    [
        RIGHT,
        ["upgrade:WebSocket", "CONNECTION:  upgrade ", "sec-websocket-accept:a+b="],
        ["Upgrade: h2c, websocket", "Connection: keep-alive, Upgrade", RIGHT[2], "Date: today"],
        ["Upgrade: h2c", RIGHT[0], "Connection: keep-alive", RIGHT[1], RIGHT[2], "X: \u00e9"],
        [*RIGHT, "Set-Cookie: a=b", "Set-Cookie: c=d", "X:"],
    ],
)
def test_a_handshake(lines: List[str]) -> None:
    check(*lines)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no Upgrade to websocket"),
        (RIGHT[1:], "no Upgrade to websocket"),
        (["Upgrade: websockets", *RIGHT[1:]], "no Upgrade to websocket"),
        ([RIGHT[0], RIGHT[2]], "no Connection: Upgrade"),
        ([RIGHT[0], "Connection: close", RIGHT[2]], "no Connection: Upgrade"),
        (RIGHT[:2], "Sec-WebSocket-Accept"),
        ([*RIGHT[:2], "Sec-WebSocket-Accept: A+B="], "Sec-WebSocket-Accept"),
        ([*RIGHT, "Sec-WebSocket-Accept: c"], "Sec-WebSocket-Accept"),
        ([*RIGHT, "no colon"], "a line is no header"),
        ([*RIGHT, "Sec-WebSocket-Extensions: permessage-deflate"], "chose a sec-websocket-extensions that was not"),
        ([*RIGHT, "sec-websocket-protocol: mine"], "chose a sec-websocket-protocol that was not"),
    ],
)
def test_none(lines: List[str], why: str) -> None:
    with pytest.raises(OpeningFailed, match=why) as caught:
        check(*lines)
    assert not caught.value.retryable


def test_what_the_user_offered_may_be_chosen() -> None:
    check(*RIGHT, "Sec-WebSocket-Protocol: mine", offered="sec-websocket-protocol")


def test_the_answer_to_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of RFC 6455 §1.3."""
    monkeypatch.setattr("os.urandom", lambda size: b"the sample nonce"[:size])
    assert new_key() == (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")


@pytest.mark.parametrize(
    ("url", "first", "host"),
    [
        ("ws://host.test", "GET / HTTP/1.1", "host.test"),
        ("ws://host.test:80/a?b=c%20d", "GET /a?b=c%20d HTTP/1.1", "host.test"),
        ("https://user:password@HOST.test:443?b", "GET /?b HTTP/1.1", "host.test"),
        ("wss://host.test:80/", "GET / HTTP/1.1", "host.test:80"),
        ("http://[::1]:8080/\u00e9/", "GET /\u00e9/ HTTP/1.1", "[::1]:8080"),
        ("ws://[fe80::1%25eth0]/", "GET / HTTP/1.1", "[fe80::1]"),
    ],
)
def test_a_request(url: str, first: str, host: str) -> None:
    request = Target(url, {"X-Key": "gr\u00f6\u00dfe", "Cookie": "a=b"}, None, "").request.decode()
    lines = request.split("\r\n")
    assert lines == [
        first,
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "X-Key: gr\u00f6\u00dfe",
        "Cookie: a=b",
        "",
    ]


@pytest.mark.parametrize("name", ["Host", "host"])
def test_the_host_of_the_user(name: str) -> None:
    request = Target("ws://host.test:8080", {name: "other.test"}, None, "").request
    assert re.findall(rb"(?i)host: .*", request) == [b"Host: other.test\r"]
