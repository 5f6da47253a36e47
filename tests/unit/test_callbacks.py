"""Calling the user's callbacks: in which thread, in which context, and what their failures come to."""

from __future__ import annotations

import contextvars
import functools
import json
import threading
from typing import Any, Dict, List, Optional

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CommandOutputMessageInterface,
    ExecuteCommandsOptions,
    HeartbeatMessageInterface,
    QueryOptions,
)
from runtimeuse_sync._call import Call
from runtimeuse_sync._callbacks import Callbacks
from runtimeuse_sync._turn import Ticket, Turn
from runtimeuse_sync.errors import AgentRuntimeError, CancelledException, RunTimeoutError

from ..servers import PATIENCE
from .doubles import FakeClock

ASSISTANT = AssistantMessageInterface("assistant_message", ["hi"])
OUTPUT = CommandOutputMessageInterface("command_output_message", "stdout", "x", "ls")
HEARTBEAT = HeartbeatMessageInterface("heartbeat_message", "agent", 1)
REQUEST = ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "a", "/out/a")
UPLOAD = ArtifactUploadResult("https://store.test/a?sig=1", "text/plain")

#: Option, what is delivered.
STREAMED = [("on_assistant_message", ASSISTANT), ("on_command_output", OUTPUT), ("on_heartbeat", HEARTBEAT)]


def make(options: Any, call: Optional[Call] = None) -> Callbacks:
    call = call or Call("query", None)
    return Callbacks(options, call, Ticket(call.wakeup))


def with_timeout(callback: Any, seconds: float = PATIENCE, **more: Any) -> QueryOptions:
    return QueryOptions(on_assistant_message=callback, assistant_callback_timeout=seconds, **more)


def options_with(option: str, callback: Any, **more: Any) -> QueryOptions:
    more[option] = callback
    return QueryOptions(**more)


def with_upload(callback: Any, **more: Any) -> QueryOptions:
    return QueryOptions(artifacts_dirs=["/out"], on_artifact_upload_request=callback, **more)


def uploaded(options: Any, call: Optional[Call] = None) -> Dict[str, Any]:
    answer: Dict[str, Any] = json.loads(make(options, call).upload(REQUEST, options))
    return answer


@pytest.mark.parametrize(("option", "message"), STREAMED)
@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
def test_each_message_goes_to_its_callback_in_the_calling_thread(kind: Any, option: str, message: Any) -> None:
    got: List[Any] = []
    others = {name: pytest.fail for name, _ in STREAMED if name != option}
    options = kind(**{option: lambda each: got.append((each, threading.current_thread()))}, **others)
    make(options).deliver(message, 7)
    assert got == [(message, threading.current_thread())]


@pytest.mark.parametrize(("option", "message"), STREAMED)
def test_no_callback(option: str, message: Any) -> None:
    make(QueryOptions()).deliver(message, 7)
    make(QueryOptions(assistant_callback_timeout=1)).deliver(message, 7)


class Failure(Exception):
    pass


@pytest.mark.parametrize(("option", "message"), STREAMED)
@pytest.mark.parametrize("error", [Failure("x"), KeyboardInterrupt(), SystemExit(3), TimeoutError(), StopIteration()])
def test_exceptions_come_out_unchanged(option: str, message: Any, error: BaseException) -> None:
    def fail(each: Any) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        make(options_with(option, fail)).deliver(message, 7)
    assert caught.value is error


@pytest.mark.parametrize("error", [Failure("x"), KeyboardInterrupt(), SystemExit(3), TimeoutError(), StopIteration()])
def test_exceptions_come_out_of_a_helper_thread_unchanged(error: BaseException) -> None:
    def fail(each: Any) -> Any:
        raise error

    with pytest.raises(type(error)) as caught:
        make(with_timeout(fail)).deliver(ASSISTANT, 7)
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        uploaded(with_upload(fail, artifact_upload_callback_timeout=PATIENCE))
    assert caught.value is error


@pytest.mark.parametrize(("option", "message"), STREAMED)
@pytest.mark.parametrize("seconds", [None, PATIENCE])
def test_a_callback_that_returns_a_coroutine(option: str, message: Any, seconds: Optional[float]) -> None:
    async def coroutine(each: Any) -> None: ...

    @functools.wraps(print)
    def disguised(each: Any) -> Any:
        return coroutine(each)

    with pytest.raises(TypeError, match=f"{option} returned a coroutine"):
        make(options_with(option, disguised, assistant_callback_timeout=seconds)).deliver(message, 7)


_context: contextvars.ContextVar[str] = contextvars.ContextVar("_context", default="unset")


def test_a_callback_with_a_timeout_runs_in_a_helper_thread_with_the_callers_context() -> None:
    seen: List[Any] = []

    def callback(message: Any) -> None:
        seen.extend((message, _context.get(), threading.current_thread()))
        _context.set("changed by the callback")

    token = _context.set("the caller's")
    try:
        make(with_timeout(callback)).deliver(ASSISTANT, 7)
        assert seen[:2] == [ASSISTANT, "the caller's"]
        assert _context.get() == "the caller's"
    finally:
        _context.reset(token)
    helper = seen[2]
    assert helper is not threading.current_thread()
    assert helper.name.startswith("runtimeuse-callback-")
    assert helper.daemon


def test_without_a_timeout_the_callback_sees_and_changes_the_callers_context() -> None:
    def callback(message: Any) -> None:
        _context.set(_context.get() + " and more")

    def in_a_context_of_its_own() -> str:
        _context.set("the caller's")
        make(QueryOptions(on_assistant_message=callback)).deliver(ASSISTANT, 7)
        return _context.get()

    assert contextvars.copy_context().run(in_a_context_of_its_own) == "the caller's and more"


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
    """A callback that does not return before the test is over."""

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
    # The clock stands still, so the time never comes; the callback's return does.
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


@pytest.mark.parametrize("seconds", [None, PATIENCE])
def test_the_answer_to_an_upload_request(seconds: Optional[float]) -> None:
    asked: List[Any] = []

    def upload(request: Any) -> ArtifactUploadResult:
        asked.append(request)
        return UPLOAD

    options = with_upload(upload, artifact_upload_callback_timeout=seconds)
    assert uploaded(options) == {
        "message_type": "artifact_upload_response_message",
        "filename": "a",
        "filepath": "/out/a",
        "presigned_url": "https://store.test/a?sig=1",
        "content_type": "text/plain",
    }
    assert asked == [REQUEST]


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (None, "NoneType"),
        ("https://store.test/a", "str"),
        ({"presigned_url": "x", "content_type": "y"}, "dict"),
        (ArtifactUploadResult, "type"),
        (ArtifactUploadResult(None, "text/plain"), "presigned_url"),  # type: ignore[arg-type]
        (ArtifactUploadResult("https://x", 1), "content_type"),  # type: ignore[arg-type]
    ],
)
def test_an_upload_callback_that_returns_something_else(returned: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text) as caught:
        uploaded(with_upload(lambda request: returned))
    assert "on_artifact_upload_request" in str(caught.value)


def test_an_upload_callback_that_returns_a_coroutine() -> None:
    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match="on_artifact_upload_request returned a coroutine"):
        uploaded(with_upload(lambda request: coroutine()))


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
