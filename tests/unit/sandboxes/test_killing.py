"""A sandbox is ended once, and in any event: exceptions, interrupts, signals, threads, failures, forks."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from typing import Any, Callable, List, Optional

import pytest

from runtimeuse_sync.sandboxes import ensure_killed
from runtimeuse_sync.sandboxes._killing import ensure_killed as killing

from ...support.doubles import Interrupt, at_every_step, interrupt
from ...support.processes import CHILD_LIMIT
from ...support.threads import InThread


class Killed:
    """Counts; fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.tries = 0
        self.times = 0
        self.failures = failures

    def __call__(self) -> bool:
        self.tries += 1
        if self.tries <= self.failures:
            raise ConnectionError(f"the provider is away ({self.tries})")
        self.times += 1
        return True


@pytest.mark.parametrize("error", [None, LookupError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_however_the_block_is_left(error: Any) -> None:
    killed = Killed()
    seen: Optional[BaseException] = None
    try:
        with ensure_killed(killed):
            assert killed.times == 0
            if error is not None:
                raise error
    except BaseException as caught:
        seen = caught
    assert (killed.times, type(seen)) == (1, error or type(None))


def test_once_only() -> None:
    killed = Killed()
    with ensure_killed(killed) as kill:
        kill()
        kill()
        assert killed.times == 1
    kill()
    assert killed.times == 1


def test_an_interrupt_at_any_step_does_not_keep_it_from_ending() -> None:
    killed = Killed()

    def work() -> None:
        with ensure_killed(killed):
            pass

    for run in at_every_step(killing._end, interrupt):
        killed.__init__()  # type: ignore[misc]
        try:
            run(work)
        except Interrupt:
            pass
        assert killed.times >= 1


def test_an_interrupt_while_the_sandbox_is_being_ended_comes_out_afterwards() -> None:
    tries: List[str] = []

    def kill() -> None:
        tries.append("begun")
        if len(tries) == 1:
            raise KeyboardInterrupt
        tries.append("ended")

    with pytest.raises(KeyboardInterrupt), ensure_killed(kill):
        pass
    assert tries == ["begun", "begun", "ended"]


@pytest.mark.parametrize("failures", [1, 2])
def test_failures_that_pass(failures: int) -> None:
    killed = Killed(failures)
    with ensure_killed(killed):
        pass
    assert (killed.tries, killed.times) == (failures + 1, 1)


def test_a_failure_comes_out() -> None:
    killed = Killed(99)
    with pytest.raises(ConnectionError, match=r"the provider is away \(3\)"), ensure_killed(killed):
        pass
    assert killed.tries == 3


def test_a_failure_never_takes_the_place_of_the_error_in_the_block(caplog: pytest.LogCaptureFixture) -> None:
    killed = Killed(99)
    with pytest.raises(LookupError, match="mine") as caught, ensure_killed(killed):
        raise LookupError("mine")
    assert caught.value.__context__ is None
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.ERROR, "A sandbox could not be ended, and may still run")
    ]
    assert "the provider is away (3)" in caplog.text


def test_it_is_tried_again_when_asked() -> None:
    killed = Killed(4)
    with ensure_killed(killed) as kill:
        with pytest.raises(ConnectionError):
            kill()
        assert killed.tries == 3
    assert (killed.tries, killed.times) == (5, 1)


def test_blocks_of_other_threads_leave_signals_alone() -> None:
    killed = Killed()
    before = signal.getsignal(signal.SIGTERM)

    def work() -> Any:
        with ensure_killed(killed):
            return signal.getsignal(signal.SIGTERM)

    assert InThread(work).result() is before
    assert killed.times == 1


def test_threads_that_end_it_at_once_end_it_once() -> None:
    killed = Killed()
    begun = threading.Event()

    def slow() -> None:
        begun.set()
        assert others.wait(10)
        killed()

    others = threading.Event()
    with ensure_killed(slow) as kill:
        threads = [InThread(kill)]
        assert begun.wait(10)
        threads += [InThread(kill), InThread(kill)]
        others.set()
        for thread in threads:
            thread.result()
    assert killed.times == 1


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    assert before == (signal.SIG_DFL, signal.SIG_DFL)
    with ensure_killed(Killed()), ensure_killed(Killed()):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


def test_blocks_that_overlap_share_the_handlers() -> None:
    first, second = ensure_killed(Killed()), ensure_killed(Killed())
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    second.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_it_is_entered_once_only() -> None:
    block = ensure_killed(Killed())
    with block:
        pass
    with pytest.raises(RuntimeError, match="once only"):
        block.__enter__()


def test_handlers_of_others_are_left_alone() -> None:
    def mine(number: int, frame: Any) -> None:
        raise AssertionError

    signal.signal(signal.SIGTERM, mine)
    try:
        with ensure_killed(Killed()):
            assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with ensure_killed(Killed()):
            signal.signal(signal.SIGTERM, mine)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_block(number: int) -> None:
    killed = Killed()

    def wait() -> None:
        with ensure_killed(killed):
            os.kill(os.getpid(), number)
            signal.pause()

    with pytest.raises(SystemExit) as caught:
        wait()
    assert (killed.times, caught.value.code) == (1, 128 + number)


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=CHILD_LIMIT)
    assert done.returncode == 0
    return done.stdout


def test_a_block_that_is_never_left() -> None:
    program = """
import threading
from runtimeuse_sync.sandboxes import ensure_killed

entered = threading.Event()

def work():
    with ensure_killed(lambda: print("killed", flush=True)):
        entered.set()
        threading.Event().wait()

threading.Thread(target=work, daemon=True).start()
entered.wait()
"""
    assert run(program) == "killed\n"


def test_a_forked_child_does_not_end_it() -> None:
    program = """
import os, sys
from runtimeuse_sync.sandboxes import ensure_killed

with ensure_killed(lambda: print("killed by", "the child" if os.getpid() != parent else "its own", flush=True)) as kill:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        kill()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
"""
    assert run(program) == "killed by its own\n"


@pytest.mark.parametrize(("kill", "text"), [("box", "kill must be callable, not str")])
def test_what_cannot_kill(kill: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        ensure_killed(kill)


def test_it_can_be_handed_on() -> None:
    """A generator whose consumer goes away leaves the block, too."""
    killed = Killed()

    def sandboxes() -> Any:
        with ensure_killed(killed) as kill:
            yield kill

    generator = sandboxes()
    kill: Callable[[], None] = next(generator)
    generator.close()
    kill()
    assert killed.times == 1
