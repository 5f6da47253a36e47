"""Nothing is lost: `run.lines()` gives whole lines of a stream, and the run's error after them."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from runtimeuse_sync import AgentRuntimeError, CancelledException, CommandFailedError, RunTimeoutError
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import (
    BOTH,
    CANCELLED,
    SOON,
    Serve,
    answer_all,
    assistant,
    caller_of,
    client_of,
    error,
    heartbeat,
    next_and_end,
    on_alarm,
    output,
    ran,
    ring,
    text,
    wait,
)
from ..support.servers import Peer


@BOTH
def test_lines_of_commands(runtime: LocalRuntime, in_session: bool) -> None:
    commands = ["printf 'a\\nb'; sleep 0.05; printf 'c\\n\\nd\\r\\ne'", "echo no >&2; printf end"]
    with caller_of(client_of(runtime), in_session) as caller, caller.stream_commands(commands) as run:
        lines = [tuple(line) for line in run.lines()]
        assert [item.exit_code for item in run.result.results] == [0, 0]
    assert [line for line in lines if line[2] == commands[0]] == [
        ("stdout", line, commands[0]) for line in ("a", "bc", "", "d", "e")
    ]
    assert sorted(line for line in lines if line[2] == commands[1]) == [
        ("stderr", "no", commands[1]),
        ("stdout", "end", commands[1]),
    ]


def test_lines_of_a_query(runtime: LocalRuntime) -> None:
    with client_of(runtime).stream("echo one; echo two") as run:
        assert [(line.stream, line.text) for line in run.lines()] == [("assistant", "one"), ("assistant", "two")]
        assert run.result.text == "one\ntwo\n"


@BOTH
def test_an_unfinished_line_comes_before_the_error(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("whole\nha"), heartbeat(), output("lf"), ran("ls", exit_code=3))
        if in_session:
            next_and_end(peer)

    with caller_of(client_of(serve(script)), in_session) as caller:
        with caller.stream_commands(["ls"]) as run:
            iterator = run.lines()
            assert [next(iterator).text for _ in range(2)] == ["whole", "half"]
            for lines in (iterator, run.lines()):
                with pytest.raises(CommandFailedError):
                    next(lines)
        if in_session:
            assert caller.query("next").text == "next"


@pytest.mark.parametrize("how", ["abort", "deadline", "lost", "error", "cancel_when"])
def test_however_the_run_fails(serve: Serve, how: str) -> None:
    half = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("half"))
        if how == "lost":
            peer.cut()
        elif how == "error":
            peer.send(error("broken"))
        elif how == "abort":
            wait(half)
            run.abort()

    def note(_: Any) -> None:
        half.set()

    options: Any = {"timeout": SOON if how == "deadline" else None, "on_command_output": note}
    if how == "cancel_when":
        options.update(cancel_when=half.is_set, cancel_poll_interval=0.01)
    kinds: Any = {"abort": CancelledException, "deadline": RunTimeoutError, "cancel_when": CancelledException}
    run: Any = client_of(serve(script)).stream_commands(["ls"], **options)
    with run:
        lines = run.lines()
        assert next(lines).text == "half"
        with pytest.raises(kinds.get(how, AgentRuntimeError)):
            next(lines)


def test_an_interrupt_is_not_held_back(serve: Serve) -> None:
    class Interrupt(Exception):
        pass

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(output("half"))
        wait(half)
        ring()
        peer.expect("cancel_message")
        peer.send(CANCELLED)
        next_and_end(peer)

    def interrupt() -> None:
        raise Interrupt

    half = threading.Event()
    with client_of(serve(script)).session() as session:
        with on_alarm(interrupt), pytest.raises(Interrupt):
            with session.stream("hi", on_command_output=lambda _: half.set()) as run:
                list(run.lines())
        assert session.query("next").text == "next"


@BOTH
def test_a_callbacks_exception_comes_out_unchanged(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(output("half"), assistant("a"))
        if in_session:
            peer.expect("cancel_message")
            peer.send(text("late"))
            answer_all(peer)

    for kind, raised in ((OSError, OSError), (StopIteration, RuntimeError)):

        def fail(_: Any, kind: Any = kind) -> None:
            raise kind("the callback's")

        with caller_of(client_of(serve(script)), in_session) as caller:
            with caller.stream("hi", on_assistant_message=fail) as run:
                with pytest.raises(raised, match="StopIteration" if raised is RuntimeError else "the callback's"):
                    list(run.lines())


def test_lines_and_messages_can_be_mixed(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(output("a\nb\nc"), assistant("skipped"), output("d\n"), text("done"))

    seen: List[Any] = []
    with client_of(serve(script)).stream("hi", on_assistant_message=seen.append) as run:
        assert next(run.lines()).text == "a"
        assert next(run.lines()).text == "b"
        # Whoever reads a message gets it; the callback gets it in any case.
        message: Any = next(run)
        assert message.text_blocks == ["skipped"]
        assert [line.text for line in run.lines()] == ["cd"]
        assert run.result.text == "done"
    assert list(run.lines()) == []
    assert [message.text for message in seen] == ["skipped"]
