"""No mixed answers, against the embedded runtime with agents that behave badly."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from runtimeuse_sync import AgentRuntimeError, CancelledException, RunTimeoutError, RuntimeUseSession
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Start, client_of, interrupt_when, recorder, wait
from ..support.processes import CHILD_LIMIT
from ..support.servers import PATIENCE
from ..support.threads import InThread


class BadAgent:
    """Does what its prompt says."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def run(self, invocation: Any, sender: Any) -> str:
        prompt = invocation.user_prompt
        sender.send_assistant_message([prompt])
        if "error" in prompt:
            sender.send_error_message("first")
        if "ignore" in prompt:
            wait(self.go_on)
        if "wait" in prompt:
            invocation.cancelled.wait(15)
        if "fail" in prompt:
            raise ValueError("second")
        return str(prompt)


@pytest.fixture
def agent() -> BadAgent:
    return BadAgent()


@pytest.fixture
def session(start: Start, agent: BadAgent) -> Any:
    with client_of(start(agent)).session() as session:
        yield session


def assert_usable(session: RuntimeUseSession) -> None:
    seen, see = recorder()
    assert session.query("next", on_assistant_message=see, timeout=15).text == "next"
    assert [message.text_blocks for message in seen] == [["next"]]


@pytest.mark.parametrize("prompt", ["error", "error fail", "error wait", "error wait fail", "fail"])
def test_errors(session: RuntimeUseSession, prompt: str) -> None:
    for _ in range(5):
        with pytest.raises(AgentRuntimeError) as caught:
            session.query(prompt)
        assert caught.value.error == ("first" if "error" in prompt else "second")
        assert_usable(session)


@pytest.mark.parametrize("prompt", ["wait", "wait fail", "ignore", "ignore fail", "ignore error fail"])
def test_timeouts_and_aborts(session: RuntimeUseSession, agent: BadAgent, prompt: str) -> None:
    with pytest.raises((RunTimeoutError, AgentRuntimeError)):
        session.query(prompt, timeout=0.2)
    agent.go_on.set()
    assert_usable(session)
    agent.go_on.clear()
    with pytest.raises((CancelledException, AgentRuntimeError)):
        session.query(prompt, on_assistant_message=lambda _: session.abort())
    threading.Timer(0.1, agent.go_on.set).start()
    assert_usable(session)


def test_an_abort_right_after_an_error(session: RuntimeUseSession) -> None:
    for _ in range(20):
        run = session.stream("error fail")
        with pytest.raises(AgentRuntimeError), run:
            _ = run.result
        run.abort()
        assert_usable(session)


def test_a_callback_that_outlasts_the_deadline(session: RuntimeUseSession) -> None:
    with pytest.raises(RunTimeoutError):
        session.query("wait", on_assistant_message=lambda _: time.sleep(0.4), timeout=0.2)
    assert_usable(session)


def test_a_failing_callback(session: RuntimeUseSession) -> None:
    def fail(_: Any) -> None:
        raise LookupError

    for _ in range(5):
        with pytest.raises(LookupError):
            session.query("wait", on_assistant_message=fail)
        assert_usable(session)


@pytest.mark.parametrize("kind", ["query", "commands", "stream"])
def test_interrupts_at_any_moment(runtime: LocalRuntime, kind: str) -> None:
    """Wherever a signal hits a call, the next one is right: what a Ctrl-C in a REPL comes to."""
    # In a process of its own: a signal may also hit the standard library where that holds a lock.
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, runtime.ws_url, kind],
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "all 40\n"


INTERRUPTED = """
import random, signal, sys
from runtimeuse_sync import RuntimeUseClient

def interrupt(*_):
    raise KeyboardInterrupt

def ask(session, kind, said):
    if kind == "query":
        return session.query(f"echo {said}").text
    if kind == "commands":
        return session.execute_commands([f"echo {said}"]).results[0].stdout
    with session.stream(f"echo {said}") as run:
        for message in run:
            assert message.text_blocks == [said], message
    return run.result.text

signal.signal(signal.SIGALRM, interrupt)
chance = random.Random(7)
with RuntimeUseClient(sys.argv[1], model="m").session() as session:
    for number in range(40):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.02))
            while True:  # until it comes, which it does once
                assert ask(session, sys.argv[2], f"old-{number}") == f"old-{number}\\n"
        except KeyboardInterrupt:
            pass
        assert session.query(f"echo new-{number}", timeout=20).text == f"new-{number}\\n"
print("all", number + 1)
"""


def test_commands_cancelled_by_a_real_interrupt(runtime: LocalRuntime) -> None:
    with client_of(runtime).session() as session:
        for _ in range(2):
            running = threading.Event()
            interrupter = interrupt_when(running)

            def started(_: object, running: threading.Event = running) -> None:
                running.set()

            with pytest.raises(KeyboardInterrupt):
                session.execute_commands(["echo $$; sleep 30"], on_command_output=started)
            interrupter.result()
            assert session.execute_commands(["echo next"], timeout=15).results[0].stdout == "next\n"


def test_calls_wait_for_their_turn_first_come_first_served(session: RuntimeUseSession, agent: BadAgent) -> None:
    order, note = recorder()
    started = threading.Event()
    first = InThread(session.query, "ignore", on_assistant_message=lambda _: started.set())
    wait(started)
    waiting = []
    # The only way to know that a thread waits.
    channel: Any = session._channel
    joined, join = threading.Semaphore(0), channel.turn.join

    def join_and_tell(ticket: Any) -> None:
        join(ticket)
        joined.release()

    channel.turn.join = join_and_tell
    for number in range(10):
        waiting.append(InThread(session.query, f"{number}", on_assistant_message=lambda message: note(message)))
        assert joined.acquire(timeout=PATIENCE)
    agent.go_on.set()
    assert first.result().text == "ignore"
    for number, thread in enumerate(waiting):
        assert thread.result().text == str(number)
    assert [message.text_blocks[0] for message in order] == [str(number) for number in range(10)]
