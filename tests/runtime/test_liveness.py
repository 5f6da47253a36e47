"""Clients that vanish without a word, and those that only do not read."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from typing import Any, List

import pytest

from runtimeuse_sync.runtime import liveness

from ..support.servers import PATIENCE
from .conftest import StartRuntime
from .wire import wire_to


def test_the_system_probes_idle_clients(start: StartRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: List[Any] = []

    class Watch(liveness.Watch):
        def __init__(self, transport: Any) -> None:
            super().__init__(transport)
            accepted = transport.get_extra_info("socket")
            options = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), *((socket.IPPROTO_TCP, name) for name in names))
            seen.extend(accepted.getsockopt(level, name) for level, name in options)

    names = [
        getattr(socket, name) for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT") if hasattr(socket, name)
    ]
    monkeypatch.setattr("runtimeuse_sync.runtime.server.Watch", Watch)
    with wire_to(start("echo")) as wire:
        wire.assert_idle()
    on, *times = seen
    assert on
    if len(names) == 3:
        idle, interval, count = times
        assert 0 < idle + interval * count <= 60
    assert 0 < liveness.SILENCE + liveness.LOOK_INTERVAL < 60


def told(retransmits: int = 0, probes: int = 0, unacked: int = 0, last_ack: int = 0) -> bytes:
    return struct.pack("=8B13I", 1, 0, retransmits, probes, 0, 0, 0, 0, 0, 0, 0, 0, unacked, *[0] * 7, last_ack)


@pytest.mark.parametrize(
    ("info", "silent"),
    [
        (told(), False),
        # Nothing on its way: the keepalive's affair.
        (told(last_ack=600_000), False),
        # Just sent, after a long silence.
        (told(unacked=1, last_ack=600_000), False),
        (told(unacked=5, retransmits=9, last_ack=46_000), True),
        # Sent again and again, but confirmed a moment ago.
        (told(unacked=5, retransmits=9, last_ack=40_000), False),
        # Has no room, and says so.
        (told(probes=1, last_ack=110_000), False),
        (told(probes=3, last_ack=110_000), True),
    ],
)
def test_what_the_system_tells(info: bytes, silent: bool) -> None:
    assert liveness.is_silent(info) is silent


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_real_socket_is_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"x")
            assert client.recv(1) == b"x"
            assert not liveness.has_vanished(accepted)
    assert not liveness.has_vanished(accepted)


def test_a_client_that_does_not_read_has_not_vanished(start: StartRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, enough = 0, threading.Event()
    monkeypatch.setattr(liveness, "SILENCE", 0.2)
    monkeypatch.setattr(liveness, "LOOK_INTERVAL", 0.05)

    def look(connection: Any) -> bool:
        nonlocal looked
        # Confirmed long ago, by this test's measure.
        information = struct.unpack("=8B13I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60))
        looked += information[-1] > 400
        if looked > 3:
            enough.set()
        return really(connection)

    really = liveness.has_vanished
    if sys.platform == "linux":
        monkeypatch.setattr(liveness, "has_vanished", look)
    else:
        enough.set()
    with wire_to(start()) as wire:
        wire.send_commands("head -c 30000000 /dev/zero | tr '\\0' x")
        assert enough.wait(PATIENCE)
        results = wire.receive_until()[-1]["results"]
        assert [(result["exit_code"], len(result["stdout"])) for result in results] == [(0, 30_000_000)]


#: Run in a network of its own, which then is taken away.
_VANISH = """
import json, subprocess, sys, threading
from websockets.sync.client import connect
from tests.support.processes import wait_until_ended
from runtimeuse_sync.runtime import LocalRuntime, server, liveness

liveness.KEEPALIVE_IDLE, liveness.KEEPALIVE_INTERVAL, liveness.KEEPALIVE_PROBES = 1, 1, 2
liveness.SILENCE, liveness.LOOK_INTERVAL = 1.0, 0.1
gone = threading.Event()

class Watch(liveness.Watch):
    def end(self):
        super().end()
        gone.set()

server.Watch = Watch
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with LocalRuntime("shell", heartbeat_interval=0.2) as runtime:
    client = connect(runtime.ws_url)
    pids = []
    if sys.argv[1:]:
        client.send(sys.argv[1])
        pids = [int(json.loads(client.recv())["text"])]
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    assert gone.wait(50)
    wait_until_ended(*pids)
    client.socket.close()
print("gone")
"""
_COMMAND = {
    "message_type": "command_execution_message",
    "commands": [{"command": "echo $$; exec sleep 600"}],
    "secrets_to_redact": [],
}


def _has_networks() -> bool:
    """Returns whether this user may make networks."""
    if sys.platform != "linux" or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


@pytest.mark.parametrize("fields", [(), (json.dumps(_COMMAND),)], ids=["idle", "with a command"])
def test_a_client_that_vanishes(fields: List[str]) -> None:
    if not _has_networks():
        pytest.skip("networks of one's own are not allowed here")
    command = ["unshare", "-rn", sys.executable, "-c", _VANISH, *fields]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "gone\n", done.stderr
