"""Readers of a run's events that leave: under each server, with real sockets, while the agent or command is silent.

The server is a process of its own, and the runtime is here. What counts is the process in the runtime: it must end soon
after the reader has left, though it says nothing that could fail to be sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO, Iterator, List
from urllib.parse import urlencode

import pytest

from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import LATE, Stopwatch
from ..support.packages import needs
from ..support.processes import Pipe, killed_in_the_end, wait_until_ended
from ..support.tally import FULL, Tally, tries

SERVERS = [
    pytest.param("runserver", marks=needs("django")),
    pytest.param("gunicorn-sync", marks=needs("django", "gunicorn")),
    pytest.param("gunicorn-gthread", marks=needs("django", "gunicorn")),
    pytest.param("gunicorn-gevent", marks=needs("django", "gunicorn", "gevent")),
    pytest.param("waitress", marks=needs("django", "waitress")),
    pytest.param("flask", marks=needs("flask")),
    pytest.param("uvicorn-django", marks=needs("django", "uvicorn")),
    pytest.param("uvicorn-fastapi", marks=needs("fastapi", "uvicorn")),
]

#: For a server that starts.
PATIENCE = 60.0

#: Within how many seconds a reader's leaving is noticed; more where the machine may be busy with other tests.
NOTICED = 2.0 if FULL else LATE

ROOT = Path(__file__).resolve().parents[2]


def command_of(kind: str, descriptor: int, tmp_path: Path) -> List[str]:
    """Returns the command that starts a server on a socket."""
    if not kind.startswith("gunicorn-"):
        return [sys.executable, "-m", "tests.reliability.event_apps", kind, str(descriptor)]
    worker = kind[len("gunicorn-") :]
    options = ["--worker-class", worker, "--threads", "4" if worker == "gthread" else "1", "--log-level", "warning"]
    options += ["--bind", f"fd://{descriptor}", "--worker-tmp-dir", str(tmp_path)]
    return [sys.executable, "-m", "gunicorn", *options, "tests.reliability.event_apps:application"]


@contextlib.contextmanager
def served(kind: str, runtime: LocalRuntime, tmp_path: Path) -> Iterator[int]:
    """Yields the port of a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = command_of(kind, listener.fileno(), tmp_path)
        environment = {**os.environ, "RUNTIMEUSE_WS_URL": runtime.ws_url, "PYTHONDONTWRITEBYTECODE": "1"}
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=str(ROOT),
                env=environment,
                pass_fds=[listener.fileno()],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        with killed_in_the_end(process):
            if kind == "runserver":
                assert process.stdout is not None
                port = int(process.stdout.readline())
            yield port
    assert "Traceback" not in (tmp_path / "log").read_text()


def head_of(answer: BinaryIO) -> bytes:
    """Reads the head of an HTTP answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = answer.readline()
        assert line, head
        head += line
    return head.lower()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="many servers: on the newest interpreter only")
@pytest.mark.parametrize("kind", SERVERS)
def test_a_reader_that_leaves_is_noticed(tally: Tally, kind: str, tmp_path: Path) -> None:
    fault = f"event streams: a reader leaves, under {kind}"
    with LocalRuntime(agent="shell", root=str(tmp_path)) as runtime, served(kind, runtime, tmp_path) as port:
        for number in range(tries(1, 5)):
            for what in ("prompt", "command"):
                tally.tried(fault)
                pipe = Pipe(tmp_path / f"{what}-{number}")
                script = f"echo $$ > {what}-{number}; exec sleep 120"
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as reader, reader.makefile("rb") as answer:
                    reader.sendall(f"GET /?{urlencode({what: script})} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    head = head_of(answer)
                    (pid,) = pipe.numbers()
                    assert b" 200 " in head, head
                    assert b"content-type: text/event-stream\r\n" in head, head
                left = Stopwatch()
                wait_until_ended(pid)
                assert left.seconds < NOTICED
                tally.survived(fault)
