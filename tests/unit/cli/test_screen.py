"""Writing to stdout and stderr, and the status line between."""

from __future__ import annotations

import io
import os
import pty
import re
import threading
from pathlib import Path
from typing import Iterator, List, TextIO, Tuple

import pytest

from runtimeuse_sync.cli import _screen
from runtimeuse_sync.cli._screen import OutputClosed, OutputFailed, Screen

from ...support.servers import PATIENCE
from ...support.threads import InThread

ERASE = "\r\x1b[2K"


class Terminal:
    """A terminal that both streams lead to."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stdout: TextIO = os.fdopen(slave, "w", encoding="utf-8")
        self.stderr: TextIO = os.fdopen(os.dup(slave), "w", encoding="ascii")

    def shown(self) -> str:
        """Returns what was written since the last look."""
        self.stdout.write("\0")
        self.stdout.flush()
        data = b""
        while not data.endswith(b"\0"):
            data += os.read(self._master, 65536)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", data[:-1].decode())
        return plain.replace("\r\n", "\n")

    def close(self) -> None:
        self.stdout.close()
        self.stderr.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    yield terminal
    terminal.close()


def screen_of(terminal: Terminal, pieces: List[Tuple[str, str]]) -> Screen:
    return Screen(lambda: pieces, terminal.stdout, terminal.stderr)


def paint_once(screen: Screen) -> None:
    with screen._lock:
        screen._paint()


def test_the_status_line_is_painted_when_it_changes_and_erased_before_text(terminal: Terminal) -> None:
    pieces = [("3s", ""), ("größer", "")]
    screen = screen_of(terminal, pieces)
    screen._paint()
    assert terminal.shown() == f"{ERASE}3s | gr??er"
    screen._paint()
    assert terminal.shown() == ""
    pieces[0] = ("4s", "")
    screen._paint()
    assert terminal.shown() == f"{ERASE}4s | gr??er"
    screen.out("text\n")
    assert terminal.shown() == f"{ERASE}text\n"
    screen.err("more\n")
    assert terminal.shown() == "more\n"
    screen._paint()
    screen.leave()
    assert terminal.shown() == f"{ERASE}4s | gr??er{ERASE}"


def test_leaving_waits_for_a_painting_and_none_follows(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_screen, "_LEAVING", PATIENCE)
    rendering, go_on = threading.Event(), threading.Event()

    def status() -> List[Tuple[str, str]]:
        rendering.set()
        assert go_on.wait(PATIENCE)
        return [("3s", "")]

    screen = Screen(status, terminal.stdout, terminal.stderr)
    painting = InThread(paint_once, screen)
    assert rendering.wait(PATIENCE)
    # The painting has the lock, so the handler waits for it.
    leaving = InThread(screen.leave)
    go_on.set()
    painting.result()
    leaving.result()
    screen._paint()
    assert terminal.shown() == f"{ERASE}3s{ERASE}"


def test_leaving_while_the_line_is_being_written(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(terminal, [("3s", "")])
    write = screen._stderr.write

    def interrupted(text: str) -> None:
        write(text)
        screen.leave()

    monkeypatch.setattr(screen._stderr, "write", interrupted)
    screen._paint()
    assert terminal.shown() == f"{ERASE}3s{ERASE}"


@pytest.mark.parametrize(
    ("texts", "painted"),
    [
        (["unfinished"], False),
        (["unfinished", " and finished\n"], True),
        (["red\x1b[0m\n"], True),
        (["red\n\x1b[0m"], True),
        (["red\x1b[0m"], False),
        (["finished\n", "\x1b[0m"], True),
        (["progress\r"], False),
    ],
)
def test_it_is_not_painted_behind_an_unfinished_line(terminal: Terminal, texts: List[str], painted: bool) -> None:
    screen = screen_of(terminal, [("3s", "")])
    for text in texts:
        screen.out(text)
    terminal.shown()
    screen._paint()
    assert terminal.shown() == (f"{ERASE}3s" if painted else "")


def test_it_is_cut_to_the_width(terminal: Terminal) -> None:
    screen_of(terminal, [("x" * 100, "")])._paint()
    painted = terminal.shown()[len(ERASE) :]
    assert re.fullmatch("x{20,29}", painted)


def test_a_message_begins_a_line_of_its_own(terminal: Terminal) -> None:
    screen = screen_of(terminal, [])
    screen.out("unfinished")
    screen.line("failed")
    assert terminal.shown() == "unfinished\nfailed\n"


def test_there_is_none_in_a_pipe_or_on_a_dumb_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Screen(lambda: [("3s", "")], terminal.stdout, io.TextIOWrapper(io.BytesIO())).has_status
    monkeypatch.setenv("TERM", "dumb")
    assert not screen_of(terminal, [("3s", "")]).has_status


def test_styles_are_for_terminals(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Screen(None, io.TextIOWrapper(io.BytesIO()), terminal.stderr).styled("text", "bold") == "text"
    monkeypatch.delenv("NO_COLOR")
    assert "text" in Screen(None, terminal.stdout, terminal.stderr).styled("text", "bold red")


def test_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout, open(tmp_path / "err", "w") as stderr:
        screen = Screen(None, stdout, stderr)
        with pytest.raises(OutputClosed):
            screen.out("text")
        screen.out("what comes then is discarded")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
def test_a_full_disk(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full, open(tmp_path / "out", "w") as stdout:
        with pytest.raises(OutputFailed, match="cannot write to stdout: No space left on device"):
            Screen(None, full, stdout).out("text")
    with open("/dev/full", "w") as full, open(tmp_path / "out", "w") as stdout:
        # Where it is stderr, nobody can be told.
        Screen(None, stdout, full).err("text")
