"""Calling callbacks: in which thread and context, and what they return and raise."""

from __future__ import annotations

import contextvars
import functools
import itertools
import json
import threading
import types
from typing import Any, List, NamedTuple, Optional

import pytest

from runtimeuse_sync import ArtifactUploadResult, ExecuteCommandsOptions, QueryOptions
from runtimeuse_sync._call import Call
from runtimeuse_sync._session.callbacks import Callbacks
from runtimeuse_sync._session.turns import Ticket

from ...support.callbacks import (
    ASSISTANT,
    HEARTBEAT,
    OUTPUT,
    REQUEST,
    UPLOAD,
    Failure,
    context,
    make,
    uploaded,
    with_timeout,
    with_upload,
)
from ...support.servers import PATIENCE

#: The callback's option and the message that it receives.
STREAMED = [("on_assistant_message", ASSISTANT), ("on_command_output", OUTPUT), ("on_heartbeat", HEARTBEAT)]


def options_with(option: str, callback: Any, **more: Any) -> QueryOptions:
    more[option] = callback
    return QueryOptions(**more)


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


def test_without_a_timeout_the_callback_sees_and_changes_the_callers_context() -> None:
    def callback(message: Any) -> None:
        context.set(context.get() + " and more")

    def in_a_context_of_its_own() -> str:
        context.set("the caller's")
        make(QueryOptions(on_assistant_message=callback)).deliver(ASSISTANT, 7)
        return context.get()

    assert contextvars.copy_context().run(in_a_context_of_its_own) == "the caller's and more"


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


class Answer(NamedTuple):
    """An object with the attributes of an `ArtifactUploadResult`, but of another class."""

    presigned_url: str
    content_type: str


@pytest.mark.parametrize(
    "answer",
    [
        Answer("https://store.test/a?sig=hidden", "text/plain"),
        types.SimpleNamespace(presigned_url="https://store.test/a?sig=hidden", content_type="text/plain", more=1),
    ],
)
def test_an_upload_callback_that_returns_what_looks_like_a_result(answer: Any) -> None:
    call = Call("query", None)
    options = with_upload(lambda request: answer)
    sent = json.loads(Callbacks(options, call, Ticket(call.wakeup)).upload(REQUEST, options))
    assert (sent["presigned_url"], sent["content_type"]) == ("https://store.test/a?sig=hidden", "text/plain")
    assert "hidden" in call.secrets


def test_the_secrets_of_upload_urls_are_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimeuse_sync._session.callbacks.MAX_URL_SECRETS", 10)
    numbers = itertools.count()
    call = Call("query", None)
    call.secrets = ["own"]
    options = with_upload(lambda request: ArtifactUploadResult(f"https://x/a?sig=number{next(numbers)}&t=same", "t"))
    callbacks = Callbacks(options, call, Ticket(call.wakeup))
    for _ in range(20):
        callbacks.upload(REQUEST, options)
    assert len(call.secrets) == 11
    assert call.secrets[0] == "own"
    assert "number19" in call.secrets
    assert "number0" not in call.secrets


def test_an_upload_callback_that_returns_a_coroutine() -> None:
    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match="on_artifact_upload_request returned a coroutine"):
        uploaded(with_upload(lambda request: coroutine()))
