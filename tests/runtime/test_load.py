"""Many clients at once, clients that are killed, and what all that costs in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import uuid
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Dict, Iterator, List

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.sync.client import connect as connect_blocking

from runtimeuse_sync.runtime.commands.process_groups import processes_with
from tests.support import leaks

from ..support.processes import Pipe, end, wait_until_ended
from ..support.storage import Storage
from .conftest import StartRuntime
from .test_main import running, url_of
from .wire import BUSY, CANCELLED, TERMINALS, Wire, wire_to

MEBIBYTE = 1024 * 1024


def command_message(*commands: Any, **fields: Any) -> str:
    listed = [{"command": command} if isinstance(command, str) else command for command in commands]
    message = {"message_type": "command_execution_message", "commands": listed, "secrets_to_redact": [], **fields}
    return json.dumps(message)


def query_message(prompt: str, **fields: Any) -> str:
    message = {"message_type": "invocation_message", "system_prompt": "", "model": "m", "secrets_to_redact": []}
    return json.dumps({**message, "user_prompt": prompt, **fields})


async def until_terminal(connection: ClientConnection) -> List[Dict[str, Any]]:
    received: List[Dict[str, Any]] = []
    while not received or received[-1]["message_type"] not in TERMINALS:
        received.append(json.loads(await connection.recv()))
    return received


def test_two_hundred_clients_at_once(start: StartRuntime) -> None:
    count = 200
    # Without heartbeats, which a busy machine would mix into what is compared.
    runtime = start(heartbeat_interval=600)

    async def one(number: int, all_there: asyncio.Event, there: List[int]) -> None:
        async with connect(runtime.ws_url, compression=None, open_timeout=None, ping_interval=None) as connection:
            there.append(number)
            if len(there) == count:
                all_there.set()
            await all_there.wait()
            await connection.send(command_message(f"echo out {number}; echo err {number} >&2", secrets_to_redact=["x"]))
            received = await until_terminal(connection)
            assert received[-1]["results"][0]["stdout"] == f"out {number}\n"
            printed = {message["stream"]: message["text"] for message in received[:-1]}
            assert printed == {"stdout": f"out {number}\n", "stderr": f"err {number}\n"}
            await connection.send(query_message(f"echo $N {number}", agent_env={"N": f"n{number}"}))
            received = await until_terminal(connection)
            assert [message.get("text_blocks") for message in received] == [[f"n{number} {number}"], None]
            assert received[-1]["data"]["text"] == f"n{number} {number}\n"

    async def everybody() -> None:
        all_there = asyncio.Event()
        there: List[int] = []
        await asyncio.gather(*(one(number, all_there, there) for number in range(count)))

    asyncio.run(everybody())


def test_clients_that_are_killed_leave_nothing_behind(start: StartRuntime, storage: Storage) -> None:
    runtime = start()
    mark = uuid.uuid4().hex
    chance = random.Random(7)

    def stall(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        # Until the other side has gone.
        request.rfile.read(1)

    storage.handlers["/stalls"] = stall
    item = {"download_url": storage.url + "/stalls", "working_dir": "in"}
    environment = {"CHAOS": mark}
    requests = [
        command_message({"command": "sleep 60 & sleep 60", "env": environment}),
        command_message({"command": "yes", "env": environment}),
        command_message({"command": "trap '' TERM; while :; do sleep 60; done", "env": environment}),
        query_message("while echo line; do :; done", agent_env=environment),
        query_message("sleep 60", agent_env=environment, artifacts_dirs=["out"]),
        command_message("true", artifacts_dirs=["out", "."]),
        command_message("true", pre_execution_downloadables=[item]),
    ]

    async def one(number: int) -> None:
        connection = await connect(runtime.ws_url, compression=None, open_timeout=None, ping_interval=None)
        try:
            await connection.send(requests[number % len(requests)])
            # Some are killed at once, others within their run, and some while they are pushed back on.
            for _ in range(chance.choice((0, 0, 1, 3))):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.recv(), 0.2)
            if chance.random() < 0.3:
                await connection.send('{"message_type": "end_session_message"}')
        finally:
            connection.transport.abort()
            await connection.wait_closed()

    async def everybody() -> None:
        await asyncio.gather(*(one(number) for number in range(8 * len(requests))))

    with wire_to(runtime) as before_and_after:
        # The first command starts what waits for the runtime to be killed.
        before_and_after.commands("true")
        before_and_after.assert_idle()
        before = leaks.Snapshot.take()
        asyncio.run(everybody())
        wait_until_ended(*processes_with("CHAOS", mark))
        # Each look gives stragglers two seconds, which on a busy machine may not be enough.
        assert not all(leaks.leaks_since(before) for _ in range(5))
        assert processes_with("CHAOS", mark) == []
        before_and_after.assert_idle()


def test_a_client_that_does_not_read_is_refused_without_delaying_its_cancel(
    start: StartRuntime, tmp_path: Path
) -> None:
    pipe = Pipe(tmp_path / "pid")
    with wire_to(start()) as wire:
        wire.send_commands("echo $$ > pid; exec yes")
        [pid] = pipe.numbers()
        for _ in range(50):
            wire.send_commands("echo never")
        wire.cancel()
        # Before anything was read.
        wait_until_ended(pid)
        received: List[Dict[str, Any]] = []
        while not received or received[-1] != CANCELLED:
            received.append(wire.receive())
        errors = [message["error"] for message in received if message["message_type"] == "error_message"]
        assert errors == [BUSY] * 50 + ["Request cancelled"]
        wire.assert_idle()


def test_who_sends_without_end_and_never_reads_is_not_listened_to_any_more(start: StartRuntime) -> None:
    runtime = start()
    with wire_to(runtime) as wire, wire_to(runtime) as other:
        wire.send_commands("yes")
        # By then nothing fits into the sockets any more.
        other.commands("sleep 0.5")
        wire.connection.socket.settimeout(0.5)
        request = command_message("x" * 100_000)
        frame = b"\x81\xff" + len(request).to_bytes(8, "big") + bytes(4) + request.encode()
        # More than sockets and libraries hold.
        with pytest.raises((socket.timeout, TimeoutError)):
            wire.connection.socket.sendall(frame * 500)
        wire.connection.socket.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Any]:
    with running("--root", str(tmp_path)) as process:
        yield process
        end(process)


def peak_memory(process: Any) -> int:
    """Returns the most memory that the process ever had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux tells a process's peak memory")
class TestMemory:
    def test_of_a_client_that_does_not_read(self, process: Any) -> None:
        url = url_of(process)
        with connect_blocking(url, compression=None) as unread, connect_blocking(url) as other:
            Wire(other).assert_idle()
            before = peak_memory(process)
            Wire(unread).send_commands("yes")
            Wire(other).commands("sleep 1")
            assert peak_memory(process) - before < 64 * MEBIBYTE
            unread.socket.shutdown(socket.SHUT_RDWR)

    def test_of_a_hundred_megabytes_of_output(self, process: Any) -> None:
        size = 100_000_000
        with connect_blocking(url_of(process), compression=None, max_size=None) as connection:
            Wire(connection).assert_idle()
            before = peak_memory(process)
            # One character outside of Latin-1 makes Python's own strings four times as large.
            Wire(connection).send_commands(f"printf €; head -c {size} /dev/zero | tr '\\0' x")
            received = 0
            while True:
                message = connection.recv()
                if len(message) > 10 * MEBIBYTE:
                    break
                received += 1
            assert received > 1
            assert len(message) >= size
            assert str(message).endswith('xxx"}]}')
            assert peak_memory(process) - before < 600_000_000

    def test_of_a_large_download(self, process: Any, storage: Storage, tmp_path: Path) -> None:
        size = 100 * MEBIBYTE

        def serve(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.end_headers()
            for _ in range(size // MEBIBYTE):
                request.wfile.write(bytes(MEBIBYTE))
            request.close_connection = True

        storage.handlers["/large"] = serve
        with connect_blocking(url_of(process), compression=None) as connection:
            Wire(connection).assert_idle()
            before = peak_memory(process)
            item = {"download_url": storage.url + "/large", "working_dir": "."}
            Wire(connection).commands(pre_execution_downloadables=[item])
            assert (tmp_path / "large").stat().st_size == size
            # Most of it is for the modules that the first download imports.
            assert peak_memory(process) - before < 50 * MEBIBYTE
