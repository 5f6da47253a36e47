"""Reading a run in several goes: what each go does, and what it leaves to the next."""

from __future__ import annotations

import json
import logging
from typing import Any, Dict, List

import pytest

from runtimeuse_sync import AgentRuntimeError, ArtifactUploadResult, CancelledException, RunTimeoutError
from runtimeuse_sync._call import Call
from runtimeuse_sync._session import reader as reader_module
from runtimeuse_sync._session.channel import Channel
from runtimeuse_sync._session.reader import Paused, Reader
from runtimeuse_sync._session.turns import Ticket
from runtimeuse_sync._session.uploads import LATE_FILES
from runtimeuse_sync._wire.request import Defaults, query_request

from ...support.builders import assistant, text, upload
from ...support.doubles import FakeClock, IdleConnection

_LOGGER = logging.getLogger("runtimeuse_sync")


class Started:
    """A query that has been sent, on a connection whose other end is the test's."""

    def __init__(self, max_buffered: int = 2**20, **options: Any) -> None:
        self.clock = FakeClock()
        self.connection = IdleConnection(max_buffered, self.clock)
        self.channel = Channel(self.connection, "ws://model", [], _LOGGER, persistent=True)
        request = query_request("hi", None, dict(options), Defaults({"model": "m"}), "query()")
        self.call = Call("query", None, self.clock)
        if request.options.cancel_when is not None:
            self.call.ask_every(options["cancel_poll_interval"], request.options.cancel_when)
        ticket = Ticket(self.call.wakeup)
        self.reader = Reader(request, self.call, ticket, 1000, _LOGGER)
        self.channel.enter(self.call, ticket)
        self.channel.uploads.options = request.options
        self.channel.begin(self.call, request.payload, request.result_type, [], _LOGGER)
        self.connection.take_outgoing()

    def hand_in(self, *messages: Dict[str, Any]) -> None:
        self.connection.hand_in([json.dumps(message) for message in messages])

    def read(self, seconds: float = 0.0) -> Any:
        return self.reader.read(self.channel, to_the_end=False, pause_at=self.clock.now + seconds)

    def sent(self) -> List[Dict[str, Any]]:
        return [json.loads(payload) for payload in self.connection.take_outgoing()]


def test_only_what_has_arrived() -> None:
    run = Started()
    with pytest.raises(Paused):
        run.read()
    run.hand_in(assistant("a"), assistant("b"))
    run.hand_in({"message_type": "of the future"})
    run.hand_in(text("done"))
    assert [run.read().text_blocks for _ in range(2)] == [["a"], ["b"]]
    assert run.read() is None
    assert (run.reader.result.text, run.reader.message_count) == ("done", 3)


def test_the_silence_of_a_runtime_is_counted_from_what_came_last() -> None:
    run = Started(idle_timeout=10)
    for _ in range(3):
        with pytest.raises(Paused):
            run.read()
        run.clock.advance(9.0)
        run.hand_in(assistant("a"))
        run.clock.advance(9.0)
        # What has come comes first, however late the reader is.
        assert run.read().text_blocks == ["a"]
    with pytest.raises(Paused):
        run.read()
    run.clock.advance(9.0)
    with pytest.raises(Paused):
        run.read()
    run.clock.advance(1.0)
    with pytest.raises(AgentRuntimeError, match="No message received"):
        run.read()


def test_messages_that_are_dropped_without_end_do_not_hold_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_SLACK", 5.0)
    run = Started()
    used = run.channel.use_next

    def use_next(batch: Any) -> Any:
        run.clock.advance(1.0)
        return used(batch)

    monkeypatch.setattr(run.channel, "use_next", use_next)
    run.hand_in(*[{"message_type": "of the future"}] * 100)
    with pytest.raises(Paused):
        run.read(10)
    assert 15 <= run.clock.now - 1000 <= 17


def slow_upload(run: List[Started], served: List[str], seconds: float) -> Any:
    def answer(request: Any) -> ArtifactUploadResult:
        run[0].clock.advance(seconds)
        served.append(request.filename)
        return ArtifactUploadResult(f"http://storage/{request.filename}", "text/plain")

    return answer


def test_slow_upload_callbacks_are_called_one_a_go() -> None:
    served: List[str] = []
    started: List[Started] = []
    run = Started(artifacts_dirs=["/out"], on_artifact_upload_request=slow_upload(started, served, 1.0))
    started.append(run)
    run.hand_in(*(upload(f"/out/{number}") for number in range(3)), assistant("a"))
    for number in range(3):
        with pytest.raises(Paused):
            run.read(0.5)
        assert len(served) == number + 1
    assert run.read(0.5).text_blocks == ["a"]
    assert served == ["0", "1", "2"]
    assert [message["filename"] for message in run.sent()] == served


def test_answers_that_the_runtime_does_not_take_are_left_to_a_later_go() -> None:
    served: List[str] = []
    started: List[Started] = []
    run = Started(1000, artifacts_dirs=["/out"], on_artifact_upload_request=slow_upload(started, served, 0.0))
    started.append(run)
    run.connection.submit(b"x" * 5000)
    run.hand_in(upload("/out/a"), assistant("a"))
    for _ in range(2):
        with pytest.raises(Paused):
            run.read()
    assert served == []
    run.connection.take_outgoing()
    assert run.read(1.0).text_blocks == ["a"]
    assert served == ["a"]


def test_a_poll_asks_cancel_when() -> None:
    answers = [False, False, True]
    run = Started(cancel_when=lambda: answers.pop(0), cancel_poll_interval=2)
    for left in (2, 2, 1):
        with pytest.raises(Paused):
            run.read()
        assert len(answers) == left
        run.clock.advance(1.5)
    run.clock.advance(1.0)
    with pytest.raises(CancelledException):
        run.read()


def test_a_message_before_the_terminal_one_is_kept_for_the_error() -> None:
    answers = [False, True]
    seen: List[Any] = []
    run = Started(cancel_when=lambda: answers.pop(0), cancel_poll_interval=2, on_assistant_message=seen.append)
    run.clock.advance(3.0)
    run.hand_in(assistant("a"), text("done"))
    with pytest.raises(CancelledException):
        run.read()
    assert (seen, run.reader._output.texts([])) == ([], ["a"])


def test_a_terminal_message_wins() -> None:
    answers = [False, True]
    run = Started(cancel_when=lambda: answers.pop(0), cancel_poll_interval=2)
    run.clock.advance(3.0)
    run.hand_in(text("done"))
    assert run.read() is None
    assert (run.reader.result.text, answers) == ("done", [True])


def one_shot(callback: Any, seconds: float = 60.0) -> Started:
    options = {"artifacts_dirs": ["/out"], "on_artifact_upload_request": callback}
    run = Started(end_session_timeout=seconds, **options)
    run.channel.persistent = False
    return run


def until_it_ends(run: Started) -> Any:
    """Asks again and again, and lets a second pass after each time."""
    for _ in range(100):
        try:
            return run.read()
        except Paused:
            run.clock.advance(1.0)
    raise AssertionError("it did not end")


def test_a_paused_end_of_the_session_is_bounded_by_its_own_time() -> None:
    run = one_shot(print, 10.0)
    run.hand_in(text("done"))
    with pytest.raises(RunTimeoutError, match="did not confirm the end of the session within 10 s") as caught:
        until_it_ends(run)
    assert (caught.value.result.text, run.clock.now) == ("done", 1010.0)
    assert [message["message_type"] for message in run.sent()] == ["end_session_message"]


def test_a_failed_upload_bounds_the_wait_for_what_else_may_come() -> None:
    def fail(request: Any) -> Any:
        raise OSError("no storage")

    run = one_shot(fail)
    run.hand_in(text("done"))
    with pytest.raises(Paused):
        run.read()
    run.hand_in(upload("/out/a"))
    with pytest.raises(OSError, match="no storage"):
        until_it_ends(run)
    assert run.clock.now <= 1001.0 + LATE_FILES
