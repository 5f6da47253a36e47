"""Replies that take time: waits, faults, generators, in memory and over a WebSocket."""

from __future__ import annotations

import contextlib
import math
import threading
from typing import Any, Callable, ContextManager, Iterator, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CancelledException,
    ConnectionLostError,
    RunTimeoutError,
    RuntimeUseClient,
)
from runtimeuse_sync.testing import (
    FakeRuntime,
    Reply,
    assistant_message,
    delay,
    error,
    heartbeat,
    ignore_cancel,
    late_terminal,
    lost_connection,
    silence,
    text_result,
    upload_request,
    wait_for,
)

from ...support.builders import SOON
from ...support.servers import PATIENCE
from ...support.threads import InThread, when

Opened = Callable[..., ContextManager[RuntimeUseClient]]


@contextlib.contextmanager
def in_memory(fake: FakeRuntime, **settings: Any) -> Iterator[RuntimeUseClient]:
    yield RuntimeUseClient(transport=fake, model="m")


@contextlib.contextmanager
def over_a_websocket(fake: FakeRuntime, **settings: Any) -> Iterator[RuntimeUseClient]:
    with fake.serve() as url:
        yield RuntimeUseClient(url, model="m", **settings)


@pytest.fixture(params=[in_memory, over_a_websocket])
def opened(request: pytest.FixtureRequest) -> Opened:
    how: Opened = request.param
    return how


def test_messages_are_sent_while_a_generator_runs(opened: Opened) -> None:
    heard = threading.Event()

    def reply(request: Any) -> Iterator[Any]:
        yield assistant_message("working on " + request["user_prompt"])
        assert heard.wait(PATIENCE)
        yield delay(0)
        yield from text_result("done")

    with FakeRuntime([reply]) as fake, opened(fake) as client:
        result = client.query("it", timeout=60, on_assistant_message=lambda message: heard.set())
    assert result.text == "done"


def test_a_generator_is_cancelled_while_it_waits(opened: Opened) -> None:
    closed = threading.Event()

    def reply(_: Any) -> Iterator[Any]:
        try:
            yield assistant_message("begun")
            yield delay(PATIENCE * 10)
            yield assistant_message("never")
        finally:
            closed.set()

    with FakeRuntime([reply, text_result("next")]) as fake, opened(fake) as client, client.session() as session:
        with session.stream("p") as run:
            run.next()
        assert session.query("q").text == "next"
        assert closed.wait(PATIENCE)
    assert fake.cancelled == 1


def test_waiting_for_an_event(opened: Opened) -> None:
    event = threading.Event()
    fake = FakeRuntime([[assistant_message("x"), heartbeat(30000), wait_for(event), *text_result("done")]])
    with fake, opened(fake) as client, client.stream("p") as run:
        assert isinstance(run.next(timeout=60), AssistantMessageInterface)
        beat: Any = run.next(timeout=60)
        assert (beat.phase, beat.elapsed_ms) == ("request_in_flight", 30000)
        with pytest.raises(TimeoutError):
            run.next(timeout=0.1)
        event.set()
        assert list(run) == []
        assert run.result.data.text == "done"  # type: ignore[union-attr]  # a text result


def test_a_lost_connection(opened: Opened) -> None:
    fake = FakeRuntime([[assistant_message("so far"), lost_connection()], text_result("again")])
    with fake, opened(fake) as client:
        with client.session(reconnect=True) as session:
            with pytest.raises(ConnectionLostError) as caught:
                session.query("p", timeout=60)
            assert caught.value.assistant_texts == ["so far"]
            assert session.query("q", timeout=60).text == "again"


def test_silence_is_noticed_by_its_time_limit(opened: Opened) -> None:
    with FakeRuntime([[assistant_message("last words"), silence()]]) as fake, opened(fake) as client:
        with pytest.raises(AgentRuntimeError, match="No message received") as caught:
            client.query("p", idle_timeout=SOON)
        assert caught.value.assistant_texts == ["last words"]


def test_silence_is_noticed_by_pings() -> None:
    fake = FakeRuntime([[assistant_message("last words"), silence()]])
    with fake, over_a_websocket(fake, ping_interval=0.1, ping_timeout=0.2) as client:
        with pytest.raises(ConnectionLostError):
            client.query("p", timeout=60)


def test_a_runtime_that_waits_answers_pings() -> None:
    fake = FakeRuntime([[delay(0.5), *text_result("done")]])
    with fake, over_a_websocket(fake, ping_interval=0.05, ping_timeout=60) as client:
        assert client.query("p", timeout=60).text == "done"


def test_a_terminal_that_comes_late_is_not_taken_for_the_next_one(opened: Opened) -> None:
    event = threading.Event()
    fake = FakeRuntime([late_terminal(text_result("late"), event), text_result("next")])
    with fake, opened(fake) as client, client.session() as session:
        with pytest.raises(RunTimeoutError):
            session.query("p", timeout=1)
        when(lambda: fake.cancelled == 1)
        following = InThread(lambda: session.query("q", timeout=60))
        event.set()
        assert following.result().text == "next"


def test_a_second_terminal_ends_the_request(opened: Opened) -> None:
    event = threading.Event()
    fake = FakeRuntime([[*error("I go on"), wait_for(event), *text_result("late")], text_result("next")])
    with fake, opened(fake) as client, client.session() as session:
        with pytest.raises(AgentRuntimeError, match="I go on"):
            session.query("p", timeout=60)
        following = InThread(lambda: session.query("q", timeout=60))
        event.set()
        assert following.result().text == "next"


def test_artifacts_that_are_announced_late(opened: Opened) -> None:
    reply: Reply = [upload_request("/out/a"), *text_result("done"), delay(0.05), upload_request("/out/b")]
    with FakeRuntime([reply]) as fake, opened(fake) as client:
        client.query(
            "write",
            timeout=60,
            artifacts_dirs=["/out"],
            on_artifact_upload_request=lambda request: ArtifactUploadResult("https://s.test/x", "text/x"),
        )
    assert [each["filepath"] for each in fake.uploads] == ["/out/a", "/out/b"]


def test_an_abort_of_a_request_that_ignores_its_cancel(opened: Opened) -> None:
    event = threading.Event()
    with FakeRuntime([[assistant_message("x"), ignore_cancel(), wait_for(event)]]) as fake, opened(fake) as client:
        with pytest.raises(CancelledException):
            client.query("p", on_assistant_message=lambda _: client.abort())
        event.set()


@pytest.mark.parametrize("reply", [[assistant_message("x"), delay(PATIENCE * 10)], [assistant_message("x")]])
def test_the_end_of_a_session_stops_what_is_in_flight(reply: Reply) -> None:
    with FakeRuntime([reply]) as fake:
        connection = fake.connect()
        connection.send({"message_type": "invocation_message", "user_prompt": "p"})
        assert connection.receive() == assistant_message("x")
        connection.send({"message_type": "end_session_message"})
        assert connection.receive() == {"message_type": "end_session_confirm_message"}
        assert connection.receive() is None


def test_many_requests_at_once(opened: Opened) -> None:
    def answer(request: Any) -> Iterator[Any]:
        yield assistant_message(request["user_prompt"])
        yield delay(0.01)
        yield from text_result(request["user_prompt"])

    with FakeRuntime(answer) as fake, opened(fake) as client:
        prompts = [str(number) for number in range(20)]
        calls: List[Any] = [client.submit(prompt) for prompt in prompts]
        assert [call.result(PATIENCE).text for call in calls] == prompts
    assert len(fake.requests) == 20


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="seconds must be a number, not str"):
        delay("1")  # type: ignore[arg-type]  # that is the point
    for wrong in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="seconds must be finite and not negative"):
            delay(wrong)
    with pytest.raises(TypeError, match="event must have a method wait"):
        wait_for(3)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="terminal must be a list of messages, not dict"):
        late_terminal(assistant_message("x"), 1)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="event must have a method wait"):
        late_terminal(text_result("x"), "1")  # type: ignore[arg-type]  # that is the point
