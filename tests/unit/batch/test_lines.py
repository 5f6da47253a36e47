"""Lines from workers on this machine: they end when they are left, and strangers get none."""

from __future__ import annotations

import pickle
import socket
import threading
from typing import Iterator

import pytest

from runtimeuse_sync import CancelledException, RuntimeConnectionError
from runtimeuse_sync.batch._lines import LocalLines, SocketLine, SocketLines

from ...support.builders import wait
from ...support.servers import PATIENCE


@pytest.fixture
def lines() -> Iterator[SocketLines]:
    lines = SocketLines()
    yield lines
    lines.leave()
    lines.leave()


def copy_of(line: SocketLine) -> SocketLine:
    copy: SocketLine = pickle.loads(pickle.dumps(line))
    return copy


def test_a_run_is_aborted_once_the_lines_are_left(lines: SocketLines) -> None:
    first, second = threading.Event(), threading.Event()
    with copy_of(lines.line).attached(first.set, 1), copy_of(lines.line).attached(second.set, 2):
        assert not first.is_set()
        lines.leave()
        wait(first)
        wait(second)


def test_a_run_that_ends_leaves_the_others_alone(lines: SocketLines) -> None:
    aborted = threading.Event()
    with copy_of(lines.line).attached(aborted.set, 1):
        for number in range(2, 12):
            with copy_of(lines.line).attached(lambda: None, number):
                pass
        assert not aborted.is_set()


def test_a_job_that_begins_afterwards_does_not_run(lines: SocketLines) -> None:
    line = copy_of(lines.line)
    lines.leave()
    with pytest.raises(RuntimeConnectionError, match=r"the job was not run: its worker, on .*, cannot reach"):
        with line.attached(lambda: None, 1):
            pytest.fail("it ran")


def test_another_program_has_the_port_now() -> None:
    """It knows no tokens, so it accepts no run."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(64)

        server = threading.Thread(target=hang_up)
        server.start()
        with pytest.raises(CancelledException, match="run_many was left before the job began"):
            with SocketLine(listener.getsockname()[:2], b"t" * 32).attached(lambda: None, 1):
                pytest.fail("it ran")
        server.join(PATIENCE)


@pytest.mark.parametrize("said", [b"", b"x", b"x" * 32, b"x" * 64])
def test_a_stranger_is_turned_away(lines: SocketLines, said: bytes) -> None:
    aborted = threading.Event()
    with copy_of(lines.line).attached(aborted.set, 1):
        with socket.create_connection(lines.line._address, PATIENCE) as stranger:
            stranger.sendall(said)
            if len(said) < 32:
                stranger.shutdown(socket.SHUT_WR)
            # At its end, or by a reset if it said more than was read.
            try:
                assert stranger.recv(1) == b""
            except ConnectionResetError:
                pass
        assert not aborted.is_set()
        lines.leave()
        wait(aborted)


def test_the_token_in_pieces(lines: SocketLines) -> None:
    with socket.create_connection(lines.line._address, PATIENCE) as worker:
        worker.sendall(lines.line._token[:10])
        worker.sendall(lines.line._token[10:])
        assert worker.recv(1) == b"+"


def test_in_this_process() -> None:
    lines, aborted = LocalLines(), threading.Event()
    with lines.line.attached(aborted.set, 1):
        lines.leave()
        assert aborted.is_set()
    with pytest.raises(CancelledException, match="before the job began"):
        with lines.line.attached(lambda: None, 2):
            pytest.fail("it ran")
