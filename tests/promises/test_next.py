"""Every call ends: `run.next(timeout)` has the next message in time, or a `TimeoutError` with the run still going."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    CancelledException,
    CommandFailedError,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
    SessionStateError,
)

from ..support.builders import (
    BOTH,
    CANCELLED,
    CONFIRM,
    LATE,
    SOON,
    Serve,
    Stopwatch,
    assistant,
    caller_of,
    client_of,
    end,
    error,
    heartbeat,
    next_and_end,
    output,
    put_anywhere,
    ran,
    text,
    upload,
    wait,
)
from ..support.doubles import NeverOpened
from ..support.servers import Peer
from ..support.threads import InThread, when


def until_it_comes(run: Any) -> Any:
    """Polls a run until it returns something."""

    def poll() -> List[Any]:
        try:
            return [run.next(timeout=0)]
        except RunTimeoutError:
            raise
        except TimeoutError:
            return []

    return when(poll)[0]


@BOTH
def test_messages_come_one_by_one_and_then_none(serve: Serve, in_session: bool) -> None:
    go_on = [threading.Event() for _ in range(3)]
    said = [assistant("a"), output("b"), heartbeat()]

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        for event, message in zip(go_on, said):
            wait(event)
            peer.send(message)
        peer.send(text("done"))
        if in_session:
            next_and_end(peer)

    seen: List[Any] = []
    with caller_of(client_of(serve(script)), in_session) as caller:
        with caller.stream("hi", on_assistant_message=seen.append) as run:
            for event, message in zip(go_on, said):
                for timeout in (0, 0.0, 0.001):
                    with pytest.raises(TimeoutError, match="no message has come within 0") as caught:
                        run.next(timeout=timeout)
                    # So it cannot be taken for the end of the run.
                    assert not isinstance(caught.value, RuntimeUseError)
                event.set()
                assert until_it_comes(run).to_dict() == message
            assert run.next() is None
            assert run.next(0) is None
            assert run.result.text == "done"
        assert run.next(timeout=1) is None
        if in_session:
            assert caller.query("next").text == "next"
    assert [message.text_blocks for message in seen] == [["a"]]


def test_it_waits_as_long_as_it_is_given(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.until_gone()

    with client_of(serve(script)).stream("hi") as run:
        watch = Stopwatch()
        with pytest.raises(TimeoutError):
            run.next(0.3)
        assert 0.29 < watch.seconds < LATE


def test_without_a_timeout_it_waits(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        wait(asked)
        peer.send(assistant("a"), text("done"))

    asked = threading.Event()
    with client_of(serve(script)).stream("hi") as run:
        threading.Timer(0.1, asked.set).start()
        message: Any = run.next()
        assert message.text_blocks == ["a"]


@BOTH
def test_the_end_of_the_run_comes_as_its_own_exception(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        peer.send(output("a"), ran("ls", exit_code=3))
        end_if(peer, in_session)

    with caller_of(client_of(serve(script)), in_session) as caller:
        with caller.stream_commands(["ls"]) as run:
            assert until_it_comes(run).text == "a"
            for _ in range(2):
                with pytest.raises(CommandFailedError):
                    run.next(timeout=10)


def end_if(peer: Peer, in_session: bool) -> None:
    if in_session:
        end(peer)


def test_the_runs_own_deadline_is_told_apart(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.expect("cancel_message")

    with client_of(serve(script)).stream("hi", timeout=SOON) as run:
        with pytest.raises(RunTimeoutError):
            until_it_comes(run)
        with pytest.raises(RunTimeoutError):
            run.next()


def test_an_abort_and_cancel_when_reach_it(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        # It may be aborted before the request has left.
        peer.until_gone()

    client = client_of(serve(script))
    with client.stream("hi") as run:
        run.abort()
        with pytest.raises(CancelledException):
            run.next(0)
    flag = threading.Event()
    # It asks even if it never waits.
    with client.stream("hi", cancel_when=flag.is_set, cancel_poll_interval=1e-9) as run:
        with pytest.raises(TimeoutError):
            run.next(0)
        flag.set()
        with pytest.raises(CancelledException):
            run.next(0)


def test_polls_do_not_restart_the_idle_timeout(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"))
        peer.expect("cancel_message")

    with client_of(serve(script)).stream("hi", idle_timeout=SOON) as run:
        assert until_it_comes(run).text_blocks == ["a"]
        with pytest.raises(AgentRuntimeError, match="No message received"):
            until_it_comes(run)


def test_the_end_of_a_one_shots_session_does_not_hold_it_up(serve: Serve) -> None:
    """Seconds may pass before a runtime has announced all files; they are served by whoever asks again."""
    ending, go_on = threading.Event(), threading.Event()
    served: List[str] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/early"), assistant("a"), text("done"))
        peer.expect("artifact_upload_response_message")
        peer.expect("end_session_message")
        ending.set()
        wait(go_on)
        for number in range(3):
            peer.send(upload(f"/out/late{number}"))
        for _ in range(3):
            peer.expect("artifact_upload_response_message")
        peer.send(CONFIRM)

    def note(request: Any) -> Any:
        served.append(request.filename)
        return put_anywhere(request)

    client = client_of(serve(script))
    with client.stream("hi", artifacts_dirs=["/out"], on_artifact_upload_request=note) as run:
        assert until_it_comes(run).text_blocks == ["a"]
        while not ending.is_set():
            with pytest.raises(TimeoutError):
                run.next(0)
        with pytest.raises(TimeoutError):
            run.next(0.01)
        assert served == ["early"]
        go_on.set()
        assert until_it_comes(run) is None
        assert served == ["early", "late0", "late1", "late2"]
        assert run.result.text == "done"


@pytest.mark.parametrize("how", ["result", "iteration", "leaving"])
def test_an_end_that_was_waited_for_in_vain_can_be_waited_for_otherwise(serve: Serve, how: str) -> None:
    ending, go_on = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(error("broken"))
        peer.expect("end_session_message")
        ending.set()
        wait(go_on)
        if how != "leaving":
            peer.send(CONFIRM)

    def poll_until_it_ends(run: Any) -> None:
        while not ending.is_set():
            with pytest.raises(TimeoutError):
                run.next(0)

    client = client_of(serve(script))
    run: Any = client.stream("hi", artifacts_dirs=["/out"], on_artifact_upload_request=put_anywhere)
    with run:
        poll_until_it_ends(run)
        if how != "leaving":
            go_on.set()
            with pytest.raises(AgentRuntimeError, match="broken"):
                _ = run.result if how == "result" else next(run)
    go_on.set()
    with pytest.raises(CancelledException if how == "leaving" else AgentRuntimeError):
        _ = run.result


def test_a_failure_at_the_end_of_a_one_shots_session_comes_with_the_result(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
        peer.send(upload("/out/a"), CONFIRM)

    asked = threading.Event()

    def slow(request: Any) -> Any:
        # Until the confirmation has come.
        wait(asked)
        when(lambda: run._channel.connection.inbox.put_bytes > before)
        return put_anywhere(request)

    run: Any = client_of(serve(script)).stream("hi", artifacts_dirs=["/out"], on_artifact_upload_request=slow)
    with run:
        before = 0
        asked.set()
        with pytest.raises(ArtifactUploadError) as caught:
            until_it_comes(run)
        assert caught.value.result.text == "done"


def test_what_it_is_given_is_checked() -> None:
    run: Any = RuntimeUseClient(transport=NeverOpened(), model="m").stream("hi")
    for timeout in ("1", True, False, [1], 1j):
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            run.next(timeout)
    for timeout in (-1, -0.5, float("nan"), float("-inf")):
        with pytest.raises(ValueError, match="timeout must be"):
            run.next(timeout)
    for good in (1, None, timedelta(seconds=1), timedelta(0)):
        with pytest.raises(SessionStateError, match="entered first"):
            run.next(good)
    with pytest.raises(ValueError, match="timeout must be"):
        run.next(timedelta(seconds=-1))


def test_only_one_thread_may_ask(serve: Serve) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"), text("done"))

    def stuck(_: Any) -> None:
        inside.set()
        wait(go_on)

    with client_of(serve(script)).stream("hi", on_assistant_message=stuck) as run:
        first = InThread(run.next)
        wait(inside)
        with pytest.raises(SessionStateError, match="another thread"):
            run.next(0)
        go_on.set()
        assert first.result().text_blocks == ["a"]
        assert run.next() is None


def test_a_callback_may_poll(serve: Serve) -> None:
    """What it polls is not delivered again; the end that it meets is the run's."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"), assistant("b"), text("done"))
        peer.expect("end_session_message")
        wait(asked)
        peer.send(CONFIRM)

    asked = threading.Event()
    polled: List[Any] = []

    def poll(message: Any) -> None:
        if message.text_blocks == ["a"]:
            polled.append(until_it_comes(run).text_blocks)
            # Until it has met the end, which the runtime does not confirm yet.
            when(lambda: not_yet(run) and run._reader.has_concluded)
            asked.set()

    def not_yet(run: Any) -> bool:
        with pytest.raises(TimeoutError):
            run.next(0)
        return True

    client = client_of(serve(script))
    run: Any = client.stream(
        "hi", on_assistant_message=poll, artifacts_dirs=["/out"], on_artifact_upload_request=put_anywhere
    )
    with run:
        assert run.result.text == "done"
    assert polled == [["b"]]


def test_an_upload_callback_cannot_read_on_at_the_end(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
        peer.send(upload("/out/a"))
        peer.expect("artifact_upload_response_message")
        peer.send(CONFIRM)

    def read_on(request: Any) -> Any:
        with pytest.raises(SessionStateError, match="once its session is ending"):
            run.next(0)
        return put_anywhere(request)

    run: Any = client_of(serve(script)).stream("hi", artifacts_dirs=["/out"], on_artifact_upload_request=read_on)
    with run:
        assert run.result.text == "done"


def test_left_behind_messages_do_not_matter(serve: Serve) -> None:
    """A run that was polled is left as any other: it is cancelled, and its session stays usable."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"))
        peer.expect("cancel_message")
        peer.send(CANCELLED)
        next_and_end(peer)

    with client_of(serve(script)).session() as session:
        with session.stream("hi") as run:
            assert until_it_comes(run).text_blocks == ["a"]
            with pytest.raises(TimeoutError):
                run.next(0.01)
        assert session.query("next").text == "next"
