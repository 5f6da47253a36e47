"""P5: no answer is ever mixed up. Against the embedded runtime, with agents that behave badly."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from typing import Any

import pytest

from runtimeuse_sync import AgentRuntimeError, CancelledException, RunTimeoutError, RuntimeUseSession
from runtimeuse_sync.runtime import LocalRuntime

from .helpers import InThread, Start, client_of, on_alarm, recorder, wait


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


# The embedded runtime's threads die in this process, too: a signal that hits the weak reference callback in which the
# standard library forgets one is not raised but reported.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_any_moment(start: Start) -> None:
    """Wherever a signal hits a call, the next one is right: what a Ctrl-C in a REPL comes to."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    chance = random.Random(7)
    interrupted = 0
    with client_of(start("echo")).session() as session:
        for number in range(150):
            try:
                with on_alarm(chance.uniform(0.0001, 0.004), interrupt):
                    for _ in range(3):
                        assert session.query(f"old {number}").text == f"old {number}"
            except KeyboardInterrupt:
                interrupted += 1
            assert session.query(f"new {number}", timeout=10).text == f"new {number}"
    assert interrupted > 50


# A signal that hits a constructor leaves what it made to the garbage collector, and CPython's own `Thread.start` may be
# left with a lock held. What can be given back is tested move by move in test_p08_interrupts.py.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.leaks_allowed("a thread of which the signal hits the start")
def test_interrupts_at_any_moment_of_one_shots(start: Start) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    chance = random.Random(7)
    client = client_of(start("echo"))
    for number in range(100):
        try:
            with on_alarm(chance.uniform(0.0001, 0.006), interrupt):
                assert client.query(f"old {number}").text == f"old {number}"
        except KeyboardInterrupt:
            pass
        assert client.query(f"new {number}", timeout=10).text == f"new {number}"
    gc.collect()  # What the warnings are about is this test's, and not the next one's.


def test_commands_cancelled_by_a_real_interrupt(runtime: LocalRuntime) -> None:
    with client_of(runtime).session() as session:
        for _ in range(2):
            timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                session.execute_commands(["echo $$; sleep 30"])
            timer.join()
            assert session.execute_commands(["echo next"], timeout=15).results[0].stdout == "next\n"


def test_calls_wait_for_their_turn_first_come_first_served(session: RuntimeUseSession, agent: BadAgent) -> None:
    order, note = recorder()
    started = threading.Event()
    first = InThread(session.query, "ignore", on_assistant_message=lambda _: started.set())
    wait(started)
    waiting = []
    turn = session._exchange.turn  # type: ignore[union-attr]  # the only way to know that a thread waits
    for number in range(10):
        waiting.append(InThread(session.query, f"{number}", on_assistant_message=lambda message: note(message)))
        while len(turn._queue) < number + 2:
            time.sleep(0.001)
    agent.go_on.set()
    assert first.result().text == "ignore"
    for number, thread in enumerate(waiting):
        assert thread.result().text == str(number)
    assert [message.text_blocks[0] for message in order] == [str(number) for number in range(10)]
