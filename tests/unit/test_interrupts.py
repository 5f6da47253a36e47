"""Cleaning up in spite of an interrupt at any step, and telling what a signal handler raised."""

from __future__ import annotations

import functools
import signal
from typing import Any, Callable, List

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync import run as run_module
from runtimeuse_sync import session as session_module
from runtimeuse_sync._interrupts import cleaned_up, raised_by_a_signal_handler, surely, undone_on_failure
from runtimeuse_sync.testing import HANG, FakeRuntime

from ..support.doubles import Interrupt, at_every_step, interrupt


@pytest.mark.parametrize("fails", [False, True])
def test_cleaned_up_interrupted_at_any_step(fails: bool) -> None:
    done: List[str] = []

    def body() -> str:
        done.append("body")
        if fails:
            raise LookupError
        return "result"

    def call() -> None:
        assert cleaned_up(body, lambda: done.append("clean")) == "result"

    for run in at_every_step(cleaned_up, interrupt):
        done.clear()
        try:
            run(call)
        except (Interrupt, LookupError):
            pass
        assert "body" not in done or done[-1] == "clean"


def test_a_clean_up_interrupted_at_any_step_is_repeated() -> None:
    done: List[str] = []

    def clean_up() -> None:
        done.append("first")
        done.append("last")

    for run in at_every_step(clean_up, interrupt):
        done.clear()
        try:
            run(lambda: surely(clean_up))
        except Interrupt:
            pass
        assert done[-2:] == ["first", "last"]


@pytest.mark.parametrize("once", ["body", "clean up"])
def test_two_interrupts_in_a_row(once: str) -> None:
    """The first in the body, or in what cleans up after it; the second at any step after that."""
    interrupted: List[str] = []
    cleaned: List[bool] = []

    def may_be_interrupted(where: str) -> None:
        if where == once and not interrupted:
            interrupted.append(where)
            raise Interrupt

    def clean_up() -> None:
        may_be_interrupted("clean up")
        cleaned.append(True)

    for run in at_every_step(cleaned_up, interrupt):
        interrupted.clear()
        cleaned.clear()
        with pytest.raises(Interrupt):
            run(lambda: cleaned_up(lambda: may_be_interrupted("body"), clean_up))
        assert cleaned or not interrupted


def test_undone_on_failure_interrupted_at_any_step() -> None:
    done: List[str] = []

    def body() -> None:
        done.append("body")
        raise LookupError

    for run in at_every_step(undone_on_failure, interrupt):
        done.clear()
        with pytest.raises((Interrupt, LookupError)):
            run(lambda: undone_on_failure(body, lambda: done.append("undo")))
        assert not done or done[-1] == "undo"
    done.clear()
    assert undone_on_failure(lambda: "result", lambda: done.append("undo")) == "result"
    assert not done


def test_what_goes_wrong_is_raised() -> None:
    def fail() -> None:
        raise LookupError("clean up")

    with pytest.raises(LookupError, match="clean up"):
        surely(fail)
    with pytest.raises(LookupError, match="clean up"):
        cleaned_up(lambda: 1, fail)
    with pytest.raises(ValueError, match="invalid literal"):
        cleaned_up(lambda: int("x"), lambda: None)


def handle(*_: object) -> None:
    raise LookupError("by a signal handler")


def raised_by(function: Callable[..., Any]) -> BaseException:
    with pytest.raises(LookupError) as caught:
        function()
    return caught.value


@pytest.mark.parametrize("wrap", [lambda handler: handler, functools.partial])
def test_a_signal_handlers(wrap: Callable[..., Any]) -> None:
    before = signal.signal(signal.SIGUSR1, wrap(handle))
    try:
        assert raised_by_a_signal_handler(raised_by(handle))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not raised_by_a_signal_handler(raised_by(handle))


def test_a_handler_that_has_a_func_is_no_partial() -> None:
    """A `mock.Mock` has one, and that has another, without end."""

    class Handler:
        def __call__(self, *_: object) -> None: ...

        @property
        def func(self) -> None:
            raise AssertionError("not a partial")

    before = signal.signal(signal.SIGUSR1, Handler())
    try:
        assert not raised_by_a_signal_handler(raised_by(handle))
    finally:
        signal.signal(signal.SIGUSR1, before)


def abandoned_run(client: RuntimeUseClient) -> Any:
    return client.stream("hi").__enter__()


def abandoned_session(client: RuntimeUseClient) -> Any:
    return client.session().open()


@pytest.mark.filterwarnings("ignore:unclosed <RuntimeUseSession")
@pytest.mark.parametrize(
    ("abandoned", "finalizer"),
    [(abandoned_run, run_module._give_back), (abandoned_session, session_module._close_abandoned)],
)
def test_a_finalizer_interrupted_at_any_step(abandoned: Callable[[RuntimeUseClient], Any], finalizer: Any) -> None:
    """CPython prints the interrupt and goes on; the connection is closed all the same."""
    for runner in at_every_step(finalizer, interrupt):
        client = RuntimeUseClient(transport=FakeRuntime([HANG]), model="m")
        left = abandoned(client)
        try:
            runner(left._finalizer)
        except Interrupt:
            pass
        connection = left._channel.connection
        connection.join()
        assert connection.inbox.closed is not None
        assert not client._calls
        left.close()


def test_leaving_a_run_is_interrupted_at_any_step() -> None:
    """The step before the first line of `close`, which then does nothing, is one of them."""
    for runner in at_every_step(run_module.Run.close, interrupt):
        client = RuntimeUseClient(transport=FakeRuntime([HANG]), model="m")
        run = client.stream("hi").__enter__()
        try:
            runner(functools.partial(run.__exit__, None, None, None))
        except Interrupt:
            pass
        assert not client._calls
        assert run._channel is not None
        run._channel.connection.join()
