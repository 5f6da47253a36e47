"""The command in a terminal: the status line, and Ctrl-C as it is typed."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, Start, assistant, heartbeat, output, ran, text
from ..support.servers import PATIENCE, Peer
from .processes import in_terminal

pytestmark = pytest.mark.skipif(sys.version_info < (3, 13), reason="many processes: on the newest interpreter only")

ERASE = "\r\x1b[2K"


def test_the_status_line_comes_and_goes(serve: Serve) -> None:
    seen = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("building\n", command="make all"), heartbeat())
        assert seen.wait(PATIENCE)
        peer.send(output("built\n", command="make all"), ran("make all"))

    with in_terminal("exec", "--url", serve(script).url, "make all", env={"NO_COLOR": "1"}) as terminal:
        terminal.wait_for("s ago")
        terminal.wait_for("make all")
        seen.set()
        assert terminal.end() == 0
    assert "building\r\n" in terminal.shown
    assert re.search(r"heartbeat \d+s ago", terminal.shown)
    # Each status line is erased before anything else is written.
    assert [line for line in terminal.lines() if line] == ["building", "built"]
    assert terminal.shown.rstrip("\r\n").endswith(f"{ERASE}built")


def test_an_unfinished_line_is_left_alone(serve: Serve) -> None:
    """No status line is painted over a prompt or a progress bar."""
    seen = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("begun"))
        assert seen.wait(PATIENCE)
        peer.send(output("50 %"))
        peer.send(output(" 100 %\n"), text("begun"))

    with in_terminal("query", "--url", serve(script).url, "hi") as terminal:
        terminal.wait_for("no heartbeat yet")
        seen.set()
        assert terminal.end() == 0
    assert terminal.lines() == ["begun", "50 % 100 %", ""]


def test_it_fits_into_the_terminal(serve: Serve) -> None:
    seen = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        assert seen.wait(PATIENCE)
        peer.send(ran("c"))

    environment = {"COLUMNS": "40", "NO_COLOR": "1"}
    with in_terminal("exec", "--url", serve(script).url, "echo " + "long " * 100, env=environment) as terminal:
        terminal.wait_for("…")
        terminal.wait_for(ERASE, 2)
        seen.set()
        assert terminal.end() == 0
    painted = [each for each in terminal.shown.split(ERASE) if each]
    assert painted
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", each)) <= 37 for each in painted)


@pytest.mark.parametrize("how", ["quiet", "dumb"])
def test_where_there_is_no_status_line(start: Start, how: str) -> None:
    more: Any = {"quiet": (["-q"], {}), "dumb": ([], {"TERM": "dumb"})}[how]
    arguments = ["exec", "--url", start().ws_url, *more[0], "sleep 1; echo done"]
    with in_terminal(*arguments, env=more[1]) as terminal:
        assert terminal.end() == 0
    assert terminal.shown == "done\r\n"


def test_ctrl_c_once_cancels_and_waits(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("working\n"))
        peer.expect("cancel_message")
        peer.send(output("cleaning up\n"), ran("make", exit_code=2))

    with in_terminal("exec", "--url", serve(script).url, "make") as terminal:
        terminal.wait_for("working")
        terminal.type("\x03")
        assert terminal.end() == 130
    # The terminal shows what is typed.
    assert [line.replace("^C", "") for line in terminal.lines()[-2:]] == ["cleaning up", ""]
    assert "Traceback" not in terminal.shown


def test_ctrl_c_twice_leaves(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("working\n"))
        peer.expect("cancel_message")  # and it is not heeded

    with in_terminal("exec", "--url", serve(script).url, "make") as terminal:
        terminal.wait_for("working")
        terminal.type("\x03")
        terminal.wait_for("cancelling; Ctrl-C again leaves at once")
        terminal.type("\x03")
        assert terminal.end() == 130
    assert terminal.shown.endswith(ERASE)


def test_while_it_cannot_connect_it_says_why() -> None:
    with in_terminal("query", "--url", "ws://127.0.0.1:1", "hi", env={"COLUMNS": "200"}) as terminal:
        terminal.wait_for("connection refused")
        terminal.type("\x03")
        assert terminal.end() == 130


def test_a_prompt_that_is_missing_is_not_waited_for() -> None:
    with in_terminal("query", "--url", "ws://127.0.0.1:1") as terminal:
        assert terminal.end() == 2
    assert "there is no prompt" in terminal.shown


def test_a_typed_prompt(start: Start) -> None:
    with in_terminal("query", "--url", start("echo").ws_url, "-") as terminal:
        terminal.type("hello\n\x04")
        assert terminal.end() == 0
    assert terminal.lines()[-2:] == ["hello", ""]


def test_a_copy_shows_its_progress(runtime: LocalRuntime, tmp_path: Path) -> None:
    with in_terminal("cp", "--url", runtime.ws_url, "-", "sandbox:typed", env={"NO_COLOR": "1"}) as terminal:
        terminal.wait_for("0 bytes")
        terminal.type("typed\n\x04")
        assert terminal.end() == 0
    assert terminal.lines()[-2].startswith("- -> sandbox:typed: 6 bytes, ")
    assert (tmp_path / "typed").read_text() == "typed\n"


def test_the_doctor_is_in_colour(start: Start) -> None:
    with in_terminal("doctor", start().ws_url) as terminal:
        assert terminal.end() == 0
    assert "\x1b[32mok" in terminal.shown
