"""The WebSocket handshake: what the client asks, and which responses it takes."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, List, Mapping

import pytest

from runtimeuse_sync._websocket.attempt import OpeningFailed
from runtimeuse_sync._websocket.opening import Target

from ...support.openers import SelectOpener

RIGHT = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: ACCEPT"]


class Server:
    """A socket whose peer answers each request with the given header lines, and at once sends a frame."""

    def __init__(self, first: str, lines: List[str]) -> None:
        self._head = "\r\n".join([first, *lines, "", ""])
        self.request = b""

    def send(self, data: bytes) -> int:
        self.request += data
        return len(data)

    def recv(self, _: int) -> bytes:
        [key] = re.findall(rb"(?m)^Sec-WebSocket-Key: (\S+)\r$", self.request)
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # RFC 6455 §1.3
        return self._head.replace("ACCEPT", base64.b64encode(digest).decode()).encode("latin-1") + b"frame"


def shake_hands(
    url: str,
    headers: Mapping[str, str],
    lines: List[str],
    first: str = "HTTP/1.1 101 Switching Protocols",
) -> List[str]:
    """Returns the lines of the request, but for its key."""
    server: Any = Server(first, lines)
    assert Target(url, dict(headers), None, "").handshake.make(server, SelectOpener(), list) == b"frame"
    request = server.request.decode("utf-8").split("\r\n")
    assert request[-2:] == ["", ""]
    return [line for line in request[:-2] if not line.startswith("Sec-WebSocket-Key: ")]


@pytest.mark.parametrize(
    "lines",
    [
        RIGHT,
        ["upgrade:WebSocket", "CONNECTION:  upgrade ", "sec-websocket-accept:ACCEPT"],
        ["Upgrade: h2c, websocket", "Connection: keep-alive, Upgrade", RIGHT[2], "Date: today"],
        [*RIGHT, "X: \u00e9", "Set-Cookie: a=b", "Set-Cookie: c=d", "X:"],
        [*RIGHT, "Connection: keep-alive", "Upgrade: h2c"],
        ["Upgrade:", "\t websocket", "Connection: keep-alive,", " Upgrade", RIGHT[2], "X: a", " no colon"],
        [*RIGHT, "X: a", " Sec-WebSocket-Protocol: not chosen"],
    ],
)
def test_a_response(lines: List[str]) -> None:
    shake_hands("ws://host.test", {}, lines)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "not a WebSocket handshake"),
        (RIGHT[1:], "not a WebSocket handshake"),
        (["Upgrade: websockets", *RIGHT[1:]], "not a WebSocket handshake"),
        ([RIGHT[0], RIGHT[2]], "not a WebSocket handshake"),
        ([RIGHT[0], "Connection: close", RIGHT[2]], "not a WebSocket handshake"),
        (RIGHT[:2], "not a WebSocket handshake"),
        ([*RIGHT[:2], "Sec-WebSocket-Accept: aACCEPT"], "not a WebSocket handshake"),
        ([*RIGHT, "Sec-WebSocket-Accept: c"], "not a WebSocket handshake"),
        (["Sec-WebSocket-Accept: c", *RIGHT], "not a WebSocket handshake"),
        ([*RIGHT[1:], "X: a", " Upgrade: websocket"], "not a WebSocket handshake"),
        ([*RIGHT, "no colon"], "a line is no header"),
        ([*RIGHT, "Sec-WebSocket-Extensions: permessage-deflate"], "chose a sec-websocket-extensions that was not"),
        ([*RIGHT, "sec-websocket-protocol: mine"], "chose a sec-websocket-protocol that was not"),
    ],
)
def test_a_response_that_is_not_taken(lines: List[str], why: str) -> None:
    with pytest.raises(OpeningFailed, match=why) as caught:
        shake_hands("ws://host.test", {}, lines)
    assert not caught.value.retryable


@pytest.mark.parametrize("first", ["HTTP/1.1 101", "HTTP/1.1 101 ", "HTTP/1.1 101 \u00e9"])
def test_a_reason_is_not_needed_and_may_have_any_bytes(first: str) -> None:
    shake_hands("ws://host.test", {}, RIGHT, first)


def test_what_the_user_offered_may_be_chosen() -> None:
    shake_hands("ws://host.test", {"Sec-WebSocket-Protocol": "mine"}, [*RIGHT, "Sec-WebSocket-Protocol: mine"])


@pytest.mark.parametrize(
    ("url", "first", "host"),
    [
        ("ws://host.test", "GET / HTTP/1.1", "host.test"),
        ("WS://host.test:80/a?b=c%20d", "GET /a?b=c%20d HTTP/1.1", "host.test"),
        ("https://user:password@HOST.test:443?b", "GET /?b HTTP/1.1", "host.test"),
        ("wss://host.test:80/", "GET / HTTP/1.1", "host.test:80"),
        ("http://[::1]:8080/\u00e9/", "GET /\u00e9/ HTTP/1.1", "[::1]:8080"),
        ("ws://[fe80::1%25eth0]/", "GET / HTTP/1.1", "[fe80::1]"),
    ],
)
def test_a_request(url: str, first: str, host: str) -> None:
    request = shake_hands(url, {"X-Key": "gr\u00f6\u00dfe", "Cookie": "a=b"}, RIGHT)
    assert request[0] == first
    assert sorted(request[1:]) == [
        "Connection: Upgrade",
        "Cookie: a=b",
        f"Host: {host}",
        "Sec-WebSocket-Version: 13",
        "Upgrade: websocket",
        "X-Key: gr\u00f6\u00dfe",
    ]


@pytest.mark.parametrize("name", ["Host", "host"])
def test_the_host_of_the_user(name: str) -> None:
    request = shake_hands("ws://host.test:8080", {name: "other.test"}, RIGHT)
    assert [line for line in request if line.lower().startswith("host:")] == ["Host: other.test"]
