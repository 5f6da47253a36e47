"""Abort from anywhere: `cancel_when`, asked in the calling thread wherever that waits, cancels as `abort` does."""

from __future__ import annotations

import functools
import threading
from typing import Any, Callable, List

import pytest

from runtimeuse_sync import CancelledException, RunTimeoutError, RuntimeUseClient, SessionStateError

from ..support.builders import (
    BOTH,
    BUSY,
    CANCELLED,
    CONFIRM,
    LATE,
    Serve,
    Stopwatch,
    answer_all,
    assistant,
    caller_of,
    client_of,
    echo,
    error,
    next_and_end,
    output,
    put_anywhere,
    ran,
    text,
    upload,
    wait,
)
from ..support.doubles import NeverOpened
from ..support.servers import Peer, black_hole, free_port
from ..support.threads import InThread, when

#: How often the tests ask, where more than one question matters, in seconds.
OFTEN = 0.01

#: An interval that no test lives to see the end of, in seconds.
NEVER = 3600.0


class Flag:
    """A `cancel_when`: notes the threads that ask, and answers that it is set from some question on.

    Args:
        after: How many questions are answered by no; each later one by yes, once `event` is set.
    """

    def __init__(self, after: int = 0) -> None:
        self.event = threading.Event()
        self.event.set()
        self.asked: List[threading.Thread] = []
        self._after = after

    def __call__(self) -> bool:
        self.asked.append(threading.current_thread())
        return len(self.asked) > self._after and self.event.is_set()


class Failure(Exception):
    """What a `cancel_when` raises."""


def unset() -> Flag:
    flag = Flag()
    flag.event.clear()
    return flag


def calls_of(caller: Any) -> List[Callable[..., Any]]:
    def stream(**options: Any) -> None:
        with caller.stream("hi", **options) as run:
            list(run)

    def stream_commands(**options: Any) -> None:
        with caller.stream_commands(["ls"], **options) as run:
            _ = run.result

    return [
        functools.partial(caller.query, "hi"),
        functools.partial(caller.execute_commands, ["ls"]),
        stream,
        stream_commands,
    ]


def obedient(peer: Peer) -> None:
    """Answers the query "next" only, and what ends a call or the session."""
    peer.accept()
    obey(peer)


def obey(peer: Peer) -> None:
    for message in peer.requests():
        if message["message_type"] == "cancel_message":
            peer.send(CANCELLED)
        elif message["message_type"] == "end_session_message":
            peer.send(CONFIRM)
        elif message.get("commands") == []:
            peer.send(ran())
        elif message.get("user_prompt") == "next":
            peer.send(text("next"))


# --- Before anything is sent.


def test_a_flag_that_is_set_already_has_a_one_shot_not_even_connect() -> None:
    transport = NeverOpened()
    for call in calls_of(RuntimeUseClient(transport=transport, model="m")):
        flag = Flag()
        with pytest.raises(CancelledException, match="cancelled by cancel_when"):
            call(cancel_when=flag)
        assert len(flag.asked) == 1
    assert not transport.opened


def test_a_flag_that_is_set_already_has_a_session_send_nothing(serve: Serve) -> None:
    server = serve(echo)
    with client_of(server).session() as session:
        for call in calls_of(session):
            with pytest.raises(CancelledException, match="cancelled by cancel_when"):
                call(cancel_when=Flag())
        assert session.query("next").text == "next"
    assert [message["message_type"] for message in server.messages] == ["invocation_message", "end_session_message"]


# --- Wherever the calling thread waits.


@BOTH
def test_while_it_waits_for_the_answer(serve: Serve, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        flag.event.set()
        peer.expect("cancel_message")
        peer.send(CANCELLED)
        if in_session:
            next_and_end(peer)

    flag = unset()
    with caller_of(client_of(serve(script)), in_session) as caller:
        with pytest.raises(CancelledException):
            caller.query("hi", cancel_when=flag, cancel_poll_interval=OFTEN)
        if in_session:
            assert caller.query("next").text == "next"
    assert set(flag.asked) == {threading.current_thread()}


def test_while_it_connects() -> None:
    with black_hole() as silent, free_port() as closed:
        for port in (silent, closed):
            client = RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m")
            for call in calls_of(client):
                watch = Stopwatch()
                flag = Flag(after=3)
                with pytest.raises(CancelledException):
                    call(cancel_when=flag, cancel_poll_interval=OFTEN)
                assert (len(flag.asked), watch.seconds < LATE) == (4, True)


def test_while_it_waits_for_its_turn(serve: Serve) -> None:
    asked, ended = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        asked.set()
        wait(ended)
        peer.send(text("first"))
        next_and_end(peer)

    with client_of(serve(script)).session() as session:
        first = InThread(session.query, "first")
        wait(asked)
        with pytest.raises(CancelledException):
            session.query("second", cancel_when=Flag(after=3), cancel_poll_interval=OFTEN)
        ended.set()
        assert first.result().text == "first"
        assert session.query("next").text == "next"


def test_while_the_session_is_brought_back_to_a_known_state(serve: Serve) -> None:
    left = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.expect("cancel_message")
        # It ignores that, and refuses what it is asked, until the second call has ended.
        while not left.is_set():
            if peer.readable(0.01):
                peer.receive()
                peer.send(error(BUSY))
        peer.send(text("late"))
        answer_all(peer)

    with client_of(serve(script)).session() as session:
        with session.stream("first") as run:
            run.abort()
        with pytest.raises(CancelledException):
            session.query("second", cancel_when=Flag(after=3), cancel_poll_interval=OFTEN)
        left.set()
        assert session.query("next").text == "next"


@BOTH
def test_while_a_callback_with_a_timeout_runs(serve: Serve, in_session: bool) -> None:
    inside, cancelled = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"))
        peer.expect("cancel_message")
        cancelled.set()
        peer.send(CANCELLED)
        obey(peer)

    def stuck(_: Any) -> None:
        inside.set()
        wait(cancelled)

    with caller_of(client_of(serve(script)), in_session) as caller:
        with pytest.raises(CancelledException):
            caller.query(
                "hi",
                on_assistant_message=stuck,
                assistant_callback_timeout=NEVER,
                cancel_when=inside.is_set,
                cancel_poll_interval=OFTEN,
            )


def test_while_a_one_shot_ends_its_session(serve: Serve) -> None:
    ending = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("the result"))
        peer.expect("end_session_message")
        ending.set()
        peer.until_gone()

    with pytest.raises(CancelledException):
        client_of(serve(script)).query(
            "hi",
            artifacts_dirs=["/out"],
            on_artifact_upload_request=put_anywhere,
            cancel_when=ending.is_set,
            cancel_poll_interval=OFTEN,
        )


@BOTH
def test_between_uploads(serve: Serve, in_session: bool) -> None:
    answered: List[str] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(*(upload(f"/out/{number}") for number in range(100)))
        kinds: List[str] = []
        for message in peer.requests():
            kinds.append(message["message_type"])
            if kinds[-1] == "cancel_message":
                peer.send(CANCELLED)
            elif message.get("commands") == []:
                peer.send(ran())
            elif "end_session_message" in kinds and kinds.count("artifact_upload_response_message") == 100:
                peer.send(CONFIRM)

    def note(request: Any) -> Any:
        answered.append(request.filepath)
        return put_anywhere(request)

    client = client_of(serve(script))
    session = client.session().open() if in_session else None
    with pytest.raises(CancelledException):
        (session or client).query(
            "hi",
            artifacts_dirs=["/out"],
            on_artifact_upload_request=note,
            cancel_when=lambda: len(answered) == 3,
            cancel_poll_interval=1e-9,
        )
    assert len(answered) == 3
    if session is not None:
        session.close()


def test_it_is_asked_when_a_loop_comes_back(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(*(assistant(str(number)) for number in range(100)))
        peer.expect("cancel_message")
        peer.send(CANCELLED)
        obey(peer)

    flag = unset()
    seen: List[Any] = []

    def loop(run: Any) -> None:
        for message in run:
            before = len(flag.asked)
            seen.append(message)
            flag.event.set()
            assert len(flag.asked) == before, "it was asked while the loop was away"

    # A one-shot would close the connection, and a reset can overtake the cancel message.
    with client_of(serve(script)).session() as session:
        with session.stream("hi", cancel_when=flag, cancel_poll_interval=1e-9) as run:
            with pytest.raises(CancelledException):
                loop(run)
    assert len(seen) == 1


# --- How often.


def test_messages_do_not_make_it_ask_more_often(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for _ in peer.requests():
            for number in range(2000):
                peer.send(output(str(number)))
            peer.send(ran("ls"))

    flag = unset()
    client_of(serve(script)).execute_commands(["ls"], cancel_when=flag, cancel_poll_interval=NEVER)
    assert len(flag.asked) == 1


@pytest.mark.parametrize("said", [output("x"), {"message_type": "of the future"}], ids=["output", "unknown messages"])
def test_it_is_asked_while_messages_stream_at_full_speed(serve: Serve, said: Any) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("command_execution_message")
        while not peer.readable(0):
            peer.send(*[said] * 100)
        peer.expect("cancel_message")
        peer.send(CANCELLED)
        obey(peer)

    with client_of(serve(script)).session() as session:
        with pytest.raises(CancelledException):
            session.execute_commands(["ls"], cancel_when=Flag(after=3), cancel_poll_interval=OFTEN)


# --- What it may do.


@BOTH
@pytest.mark.parametrize("after", [0, 2])
def test_what_it_raises_cancels_and_comes_out_unchanged(serve: Serve, in_session: bool, after: int) -> None:
    failures = [Failure("its own"), RunTimeoutError("its own"), CancelledException("its own"), KeyboardInterrupt()]
    server = serve(obedient)
    with caller_of(client_of(server), in_session) as caller:
        for failure in failures:
            flag = Flag(after)
            # Only a request that has been sent is cancelled.
            asked_for = len(server.said("invocation_message")) + bool(after)

            def fail(flag: Flag = flag, failure: BaseException = failure, asked_for: int = asked_for) -> bool:
                if flag() and len(server.said("invocation_message")) >= asked_for:
                    raise failure
                return False

            with pytest.raises(type(failure)) as caught:
                caller.query("hi", cancel_when=fail, cancel_poll_interval=OFTEN)
            assert caught.value is failure
        assert caller.query("next").text == "next"
    if in_session:
        assert len(server.said("cancel_message")) == (len(failures) if after else 0)


def test_what_it_raises_at_the_end_of_a_one_shots_session_comes_out(serve: Serve) -> None:
    ending = threading.Event()
    failure = RunTimeoutError("its own")

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        # The run has failed already; its own error must not hide what comes from outside.
        peer.send(error("broken"))
        peer.expect("end_session_message")
        ending.set()
        peer.until_gone()

    def fail() -> bool:
        if ending.is_set():
            raise failure
        return False

    with pytest.raises(RunTimeoutError) as caught:
        client_of(serve(script)).query(
            "hi",
            artifacts_dirs=["/out"],
            on_artifact_upload_request=put_anywhere,
            cancel_when=fail,
            cancel_poll_interval=OFTEN,
        )
    assert caught.value is failure


@pytest.mark.parametrize("after", [0, 2])
def test_it_cannot_call_its_own_session(serve: Serve, after: int) -> None:
    with client_of(serve(obedient)).session() as session:
        for call in (functools.partial(session.query, "inner"), session.close):
            flag = Flag(after)

            def call_it(flag: Flag = flag, call: Any = call) -> bool:
                if flag():
                    call()
                return False

            with pytest.raises(SessionStateError):
                session.query("hi", cancel_when=call_it, cancel_poll_interval=OFTEN)
        assert session.query("next").text == "next"


@BOTH
def test_it_can_make_one_shot_calls(serve: Serve, in_session: bool) -> None:
    server = serve(echo)
    client = client_of(server)
    with caller_of(client, in_session) as caller:
        assert caller.query("hi", cancel_when=lambda: client.query("cancel?").text == "yes").text == "hi"
        with pytest.raises(CancelledException):
            caller.query("hi", cancel_when=lambda: client.query("yes").text == "yes")


@BOTH
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("how", ["next", "result", "close", "abort", "leave the caller"])
def test_it_cannot_read_its_run_but_leave_it(serve: Serve, in_session: bool, after: int, how: str) -> None:
    flag = Flag(after)

    def act() -> bool:
        if flag():
            if how == "next":
                next(run)
            elif how == "result":
                _ = run.result
            elif how == "close":
                run.close()
            elif how == "abort":
                run.abort()
            else:
                caller.abort()
                # A session's call is not in progress before it has the turn.
                return bool(after == 0)
        return False

    with caller_of(client_of(serve(obedient)), in_session) as caller:
        run = caller.stream("hi", cancel_when=act, cancel_poll_interval=OFTEN)
        with pytest.raises(SessionStateError if how in ("next", "result") else CancelledException):
            with run:
                list(run)
        assert caller.query("next").text == "next"


def test_a_result_that_has_arrived_is_returned(serve: Serve) -> None:
    """It is not asked between the result and the end of the call."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("hi"))

    flag = unset()
    run: Any = client_of(serve(script)).stream("hi", cancel_when=flag, cancel_poll_interval=1e-9)
    with run:
        when(lambda: run._channel.connection.inbox.first())
        flag.event.set()
        assert run.result.text == "hi"
