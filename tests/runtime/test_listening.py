"""What becomes of connections when a process is out of file descriptors."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.runtime.listening import DescriptorReserve

from ..support.processes import killed_in_the_end
from ..support.servers import PATIENCE
from .test_main import COMMAND, url_of
from .wire import CANCELLED, Wire


def opened(url: str, stack: contextlib.ExitStack) -> Tuple[List[Connection], List[Any]]:
    """Connects until that is refused some times; returns the idle connections and the refusals."""
    connections: List[Connection] = []
    refusals: List[Any] = []
    while len(refusals) < 5:
        assert len(connections) < 100
        try:
            connections.append(stack.enter_context(connect(url, compression=None, open_timeout=PATIENCE)))
        except InvalidStatus as error:
            refusals.append(error.response)
    return connections, refusals


def test_idle_clients_leave_descriptors_for_work(tmp_path: Path) -> None:
    # `python -m` by a shell of few descriptors.
    command = ["sh", "-c", 'ulimit -n 40; exec "$@"', "sh", *COMMAND, "--port", "0", "--root", str(tmp_path)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with killed_in_the_end(started) as process, contextlib.ExitStack() as stack:
        url = url_of(process)
        connections, refusals = opened(url, stack)
        assert connections
        for refusal in refusals:
            assert refusal.status_code == 503
            assert refusal.headers["Retry-After"] == "1"
            assert b"file descriptors" in refusal.body
        # Those that are in can work, also several at once.
        wires = [Wire(connection) for connection in (connections[0], connections[-1])]
        for wire in wires:
            wire.send_commands("echo works; sleep 600")
        for wire in wires:
            assert wire.receive()["text"] == "works\n"
            wire.cancel()
            assert wire.receive() == CANCELLED
        # There is room again as soon as one leaves, and who was refused tries again.
        for connection in connections[:3]:
            connection.close()
        assert RuntimeUseClient(url, model="m").execute_commands(["echo in"]).results[0].stdout == "in\n"
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE)
    [line] = said.splitlines()
    assert "Refusing connections: nearly all of the 40 file descriptors" in line


_EXHAUSTED = """
import logging, os, sys, threading
records = []
class Handler(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
logging.getLogger().addHandler(Handler())
from runtimeuse_sync.runtime import LocalRuntime, listening

tries, thrice = set(), threading.Event()
accept = listening.ListeningSocket.accept
def counted(self):
    try:
        return accept(self)
    finally:
        tries.add(self._quiet_until)
        if len(tries) > 3:
            thrice.set()
listening.ListeningSocket.accept = counted

with LocalRuntime("echo") as runtime:
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    print(runtime.ws_url, flush=True)
    assert thrice.wait(50)
    for descriptor in taken:
        os.close(descriptor)
    sys.stdin.readline()
print(records)
"""


def test_none_at_all_is_logged_once(tmp_path: Path) -> None:
    command = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", sys.executable, "-c", _EXHAUSTED]
    started = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with killed_in_the_end(started) as process:
        assert process.stdout is not None
        # Waits until there is room; nothing is lost meanwhile.
        with connect(process.stdout.readline().strip(), open_timeout=PATIENCE) as connection:
            Wire(connection).assert_idle()
        out, error = process.communicate("\n", timeout=PATIENCE)
    assert error == ""
    assert out.count("Refusing connections") == 1
    assert out.count("', '") == 0, out


def test_a_spell_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 1.0, 50.0, 100.0, 159.0, 220.0])
    reserve = DescriptorReserve(lambda: next(times))
    for _ in range(5):
        reserve.log_refusal()
    assert len(caplog.records) == 1
    reserve.log_refusal()
    assert len(caplog.records) == 2


def test_how_many_descriptors_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, kept in ((40, 16), (1024, 128), (1_000_000, 256)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        reserve = DescriptorReserve()
        first = limit - kept
        assert [reserve.is_reached(number) for number in (first - 1, first)] == [False, True]
        assert [reserve.is_used_up(number) for number in (first, limit - 1)] == [False, True]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not DescriptorReserve().is_reached(10**9)
