"""Callbacks with a timeout: helper threads, and what ends the wait for them."""

from __future__ import annotations

import threading
from typing import Any, List

import pytest

from runtimeuse_sync import ArtifactUploadResult, QueryOptions
from runtimeuse_sync._call import Call
from runtimeuse_sync._session.callbacks import Callbacks
from runtimeuse_sync._session.turns import Ticket, Turn
from runtimeuse_sync.errors import AgentRuntimeError, CancelledException, RunTimeoutError

from ...support.callbacks import (
    ASSISTANT,
    HEARTBEAT,
    OUTPUT,
    UPLOAD,
    Failure,
    context,
    make,
    uploaded,
    with_timeout,
    with_upload,
)
from ...support.doubles import FakeClock
from ...support.servers import PATIENCE


def test_a_callback_with_a_timeout_runs_in_a_helper_thread_with_the_callers_context() -> None:
    seen: List[Any] = []

    def callback(message: Any) -> None:
        seen.extend((message, context.get(), threading.current_thread()))
        context.set("changed by the callback")

    token = context.set("the caller's")
    try:
        make(with_timeout(callback)).deliver(ASSISTANT, 7)
        assert seen[:2] == [ASSISTANT, "the caller's"]
        assert context.get() == "the caller's"
    finally:
        context.reset(token)
    helper = seen[2]
    assert helper is not threading.current_thread()
    assert helper.name.startswith("runtimeuse-callback-")
    assert helper.daemon


def test_only_the_callbacks_that_have_a_timeout_run_in_helper_threads() -> None:
    threads: List[Any] = []

    def upload(request: Any) -> ArtifactUploadResult:
        threads.append(threading.current_thread())
        return UPLOAD

    options = with_upload(
        upload,
        assistant_callback_timeout=PATIENCE,
        on_command_output=lambda message: threads.append(threading.current_thread()),
        on_heartbeat=lambda message: threads.append(threading.current_thread()),
    )
    make(options).deliver(OUTPUT, 7)
    make(options).deliver(HEARTBEAT, 7)
    uploaded(options)
    assert threads == [threading.current_thread()] * 3


class Stuck:
    """A callback that does not return before the test ends."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def __call__(self, message: Any) -> Any:
        self.entered.set()
        assert self.release.wait(PATIENCE)
        return UPLOAD


def test_an_assistant_callback_that_takes_too_long() -> None:
    stuck = Stuck()
    try:
        with pytest.raises(AgentRuntimeError) as caught:
            make(with_timeout(stuck, 0.02)).deliver(ASSISTANT, 7)
    finally:
        stuck.release.set()
    assert caught.value.error == "on_assistant_message callback timed out"
    assert caught.value.metadata is not None
    assert caught.value.metadata["timeout_type"] == "assistant_callback_timeout"
    assert caught.value.metadata["timeout"] == 0.02


def test_an_upload_callback_that_takes_too_long() -> None:
    stuck = Stuck()
    try:
        with pytest.raises(AgentRuntimeError) as caught:
            uploaded(with_upload(stuck, artifact_upload_callback_timeout=0.02))
    finally:
        stuck.release.set()
    assert caught.value.error == "on_artifact_upload_request callback timed out"
    assert caught.value.metadata == {
        "timeout_type": "artifact_upload_callback_timeout",
        "timeout": 0.02,
        "filename": "a",
        "filepath": "/out/a",
    }


def test_the_calls_deadline_ends_the_wait_for_a_callback() -> None:
    stuck = Stuck()
    try:
        with pytest.raises(RunTimeoutError):
            make(with_timeout(stuck), Call("query", 0.02)).deliver(ASSISTANT, 7)
    finally:
        stuck.release.set()


def test_an_abort_ends_the_wait_for_a_callback() -> None:
    stuck = Stuck()
    call = Call("query", None)

    def abort() -> None:
        assert stuck.entered.wait(PATIENCE)
        call.abort()

    aborter = threading.Thread(target=abort)
    aborter.start()
    try:
        with pytest.raises(CancelledException):
            make(with_timeout(stuck), call).deliver(ASSISTANT, 7)
    finally:
        stuck.release.set()
        aborter.join()


def test_the_time_is_the_calls_clock() -> None:
    # The clock stands still, so only the callback's return ends the wait.
    make(with_timeout(lambda message: None, 0.001), Call("query", None, FakeClock())).deliver(ASSISTANT, 7)


def test_what_comes_after_the_time_is_dropped() -> None:
    late = threading.Event()
    helpers: List[threading.Thread] = []

    def fail_late(message: Any) -> None:
        helpers.append(threading.current_thread())
        assert late.wait(PATIENCE)
        raise Failure("nobody hears it")

    while not helpers:  # the time may be over before the helper runs
        with pytest.raises(AgentRuntimeError):
            make(with_timeout(fail_late, 0.02)).deliver(ASSISTANT, 7)
    late.set()
    for helper in helpers:
        helper.join(PATIENCE)
        assert not helper.is_alive()


def test_a_helper_thread_counts_as_the_holder_of_the_turn() -> None:
    call = Call("query", None)
    ticket, turn = Ticket(call.wakeup), Turn()
    turn.join(ticket)
    held: List[bool] = []
    callbacks = Callbacks(with_timeout(lambda message: held.append(turn.used_by_this_thread())), call, ticket)
    callbacks.deliver(ASSISTANT, 7)
    assert held == [True]
    assert ticket.threads == set()


def test_a_callback_that_times_out_tells_what_it_was_given() -> None:
    stuck = threading.Event()

    def callback(_: Any) -> None:
        stuck.wait(PATIENCE)

    options = QueryOptions(on_assistant_message=callback, assistant_callback_timeout=0.01)
    try:
        with pytest.raises(AgentRuntimeError) as caught:
            make(options).deliver(ASSISTANT, 3)
    finally:
        stuck.set()
    assert caught.value.metadata == {
        "timeout_type": "assistant_callback_timeout",
        "timeout": 0.01,
        "last_message_type": "assistant_message",
        "message_count": 3,
        "phase": "assistant_callback",
    }
