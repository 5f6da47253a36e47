"""IPv6 addresses with a zone: it is for this machine's name look-up only."""

from __future__ import annotations

import socket
import sys
from typing import Any, List

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync._websocket.attempt import OpeningFailed
from runtimeuse_sync._websocket.opening import Target, open_websocket, split_zone
from runtimeuse_sync.runtime import LocalRuntime
from tests.support.network import has_ipv6

from ...support.openers import SelectOpener
from ...support.servers import PATIENCE
from ...support.threads import InThread


@pytest.mark.parametrize(
    ("host", "split"),
    [
        ("fe80::1%25eth0", ("fe80::1", "%eth0")),
        ("fe80::1%eth0", ("fe80::1", "%eth0")),
        ("fe80::1%25en%2D1", ("fe80::1", "%en-1")),
        ("::1", ("::1", "")),
        ("host.test", ("host.test", "")),
        ("host%25x.test", ("host%25x.test", "")),
        ("", ("", "")),
    ],
)
def test_zones_are_split_off(host: str, split: Any) -> None:
    assert split_zone(host) == split


@pytest.mark.parametrize("port", [":8080", ""])
def test_only_the_name_look_up_gets_the_zone(port: str) -> None:
    looked_up: List[str] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:

        class Here(SelectOpener):
            def look_up(self, host: str, port: int) -> List[Any]:
                looked_up.append(host)
                return socket.getaddrinfo("127.0.0.1", listener.getsockname()[1], type=socket.SOCK_STREAM)

        def refuse() -> bytes:
            served, _ = listener.accept()
            with served:
                head = served.recv(4096)
                served.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
            return head

        server = InThread(refuse)
        with pytest.raises(OpeningFailed, match="404"):
            open_websocket(Target(f"ws://[fe80::1%25eth0]{port}/", {}, None, ""), Here())
        assert f"\r\nHost: [fe80::1]{port}\r\n".encode() in server.result()
    assert looked_up == ["fe80::1%eth0"]


@pytest.mark.skipif(not has_ipv6() or sys.platform != "linux", reason="needs IPv6, and the name of an interface")
def test_a_runtime_at_an_address_with_a_zone() -> None:
    with LocalRuntime(agent="echo", host="::1") as runtime:
        port = runtime.ws_url.rsplit(":", 1)[1]
        # By its number: names are looked up for link-local addresses only.
        client = RuntimeUseClient(f"ws://[::1%25{socket.if_nametoindex('lo')}]:{port}", model="m")
        assert client.query("hi", timeout=PATIENCE).text == "hi"
