"""Every call ends, Callbacks, Bounded memory: what a failed run still holds and still reports."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any, Type

import pytest

from runtimeuse_sync import AgentRuntimeError, CommandFailedError, RunTimeoutError, RuntimeUseClient
from runtimeuse_sync.testing import HANG, FakeRuntime, command_output, command_results
from runtimeuse_sync.testing import error as fake_error


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="only CPython counts references")
@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("commands", CommandFailedError),
        ("stream", CommandFailedError),
        ("query", AgentRuntimeError),
        ("callback", AgentRuntimeError),
        ("idle", AgentRuntimeError),
        ("deadline", RunTimeoutError),
    ],
)
def test_what_a_failed_call_has_got_is_given_back_with_its_error(how: str, wanted: Type[Exception]) -> None:
    """A large result must not wait for the cyclic garbage collector."""

    def fail(_: Any) -> None:
        raise AgentRuntimeError("the callback's own")

    replies: Any = {
        "commands": command_results(1),
        "stream": command_results(1),
        "query": fake_error("failed"),
        "callback": [command_output("x")],
        "idle": HANG,
        "deadline": HANG,
    }
    client = RuntimeUseClient(transport=FakeRuntime([replies[how]]), model="m")

    def call() -> None:
        if how == "query":
            client.query("hi")
        elif how == "stream":
            with client.stream_commands(["c"]) as run:
                list(run)
        else:
            limits: Any = {"idle": {"idle_timeout": 0.01}, "deadline": {"timeout": 0.01}}
            client.execute_commands(["c"], on_command_output=fail, **limits.get(how, {}))

    def failed() -> weakref.ref[BaseException]:
        try:
            call()
        except wanted as error:
            return weakref.ref(error)
        raise AssertionError("it did not fail")

    gc.collect()
    gc.disable()
    try:
        assert failed()() is None
    finally:
        gc.enable()


def test_a_run_that_was_left_still_tells_how_it_ended() -> None:
    client = RuntimeUseClient(transport=FakeRuntime([command_results(3)]))
    with client.stream_commands(["c"]) as run:
        with pytest.raises(CommandFailedError) as caught:
            list(run)
    with pytest.raises(CommandFailedError) as again:
        print(run.result)
    assert again.value.exit_code == 3
    assert again.value.results == caught.value.results
    assert again.value.args == caught.value.args


class Mine(AgentRuntimeError):
    """An error of the user's that cannot be copied."""

    def __reduce__(self) -> Any:
        raise RuntimeError("not to be copied")


def test_an_error_of_the_users_comes_out_unchanged_and_stays_so() -> None:
    mine = Mine("the callback's own")

    def fail(_: Any) -> None:
        raise mine

    client = RuntimeUseClient(transport=FakeRuntime([[command_output("x")]]))
    with pytest.raises(Mine) as caught:
        with client.stream_commands(["c"], on_command_output=fail) as run:
            list(run)
    assert caught.value is mine
    with pytest.raises(Mine) as again:
        print(run.result)
    assert again.value is mine
