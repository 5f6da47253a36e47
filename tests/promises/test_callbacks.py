"""Callbacks run in the calling thread, in order, one at a time; their exceptions are raised unchanged."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from typing import Any, List

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CancelledException,
    QueryResult,
    Run,
    RuntimeUseError,
    SessionStateError,
)
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import (
    CANCELLED,
    CONFIRM,
    LATE,
    Serve,
    Stopwatch,
    answer_all,
    assistant,
    begin_until_cancelled,
    client_of,
    end,
    heartbeat,
    output,
    ran,
    text,
    upload,
    wait,
)
from ..support.servers import Peer
from ..support.threads import InThread

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def talkative(peer: Peer) -> None:
    peer.accept()
    for message in peer.requests():
        if message["message_type"] == "invocation_message":
            said: List[Any] = []
            for number in range(50):
                said += [assistant(f"a{number}"), output(f"c{number}"), heartbeat(number), upload(f"/out/u{number}")]
            peer.send(*said, text("done"))
        elif message["message_type"] == "end_session_message":
            peer.send(CONFIRM)


@pytest.mark.parametrize("in_session", [False, True])
def test_thread_order_and_context(serve: Serve, in_session: bool) -> None:
    seen: List[Any] = []
    running = threading.Lock()

    def note(message: Any) -> None:
        assert running.acquire(blocking=False), "two at a time"
        with contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(running.release)
            assert threading.current_thread() is threading.main_thread()
            assert variable.get() == f"set by {len(seen)}"
            seen.append(message)
            variable.set(f"set by {len(seen)}")  # seen by the next one, and by the caller

    def note_upload(request: Any) -> ArtifactUploadResult:
        note(request)
        return ArtifactUploadResult(f"http://storage/{request.filename}", "text/plain")

    variable.set("set by 0")
    server = serve(talkative)
    client = client_of(server)
    with client.session() if in_session else contextlib.nullcontext(client) as caller:
        caller.query(
            "hi",
            artifacts_dir="/out",
            on_assistant_message=note,
            on_command_output=note,
            on_heartbeat=note,
            on_artifact_upload_request=note_upload,
        )
    assert variable.get() == "set by 200"
    shown = [
        getattr(message, "text_blocks", [None])[0]
        or getattr(message, "text", None)
        or getattr(message, "filename", None)
        or f"h{message.elapsed_ms}"
        for message in seen
    ]
    assert shown == [f"{kind}{number}" for number in range(50) for kind in "achu"]
    responses = server.said("artifact_upload_response_message")
    assert [response["filepath"] for response in responses] == [f"/out/u{number}" for number in range(50)]
    assert [response["presigned_url"] for response in responses] == [f"http://storage/u{n}" for n in range(50)]


def test_with_a_timeout_of_its_own_it_runs_elsewhere_with_the_context_copied(serve: Serve) -> None:
    threads: List[str] = []

    def note(message: Any) -> None:
        assert variable.get() == "the caller's"
        variable.set("the callback's")
        threads.append(threading.current_thread().name)

    variable.set("the caller's")
    client_of(serve(talkative)).query("hi", on_assistant_message=note, assistant_callback_timeout=10)
    assert variable.get() == "the caller's"
    assert len(threads) == 50
    assert all(name.startswith("runtimeuse-callback-") for name in threads)


class Mine(Exception):
    pass


@pytest.mark.parametrize("timeout", [None, 10])
@pytest.mark.parametrize("callback", ["on_assistant_message", "on_command_output", "on_heartbeat"])
def test_an_exception_comes_out_unchanged_and_cancels(serve: Serve, callback: str, timeout: Any) -> None:
    mine = Mine("mine", 1)

    def fail(_: Any) -> None:
        raise mine

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"), output("c"), heartbeat())
        peer.expect("cancel_message")

    server = serve(script)
    options: Any = {callback: fail}
    with pytest.raises(Mine) as caught:
        client_of(server).query("hi", assistant_callback_timeout=timeout, **options)
    assert caught.value is mine
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    server.wait_for("cancel_message")


@pytest.mark.parametrize("result", [None, "http://u", {"presigned_url": "u"}, ArtifactUploadResult("u", None)])  # type: ignore[arg-type]
def test_an_upload_callback_that_returns_something_else(serve: Serve, result: Any) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/a"))
        peer.expect("cancel_message")

    with pytest.raises(TypeError, match=r"ArtifactUploadResult|content_type"):
        client_of(serve(script)).query("hi", artifacts_dir="/out", on_artifact_upload_request=lambda _: result)


def test_coroutine_functions_are_refused_before_anything_is_sent() -> None:
    async def callback(_: Any) -> None:
        raise AssertionError

    from runtimeuse_sync import RuntimeUseClient

    client = RuntimeUseClient("ws://127.0.0.1:1", model="m")
    for name in ("on_assistant_message", "on_command_output", "on_heartbeat"):
        options: Any = {name: callback}
        with pytest.raises(TypeError, match=name):
            client.query("hi", **options)


@pytest.mark.parametrize("timeout", [None, 10])
def test_the_same_session_from_inside_its_callback_raises_at_once(runtime: LocalRuntime, timeout: Any) -> None:
    with client_of(runtime).session() as session:
        inside: List[BaseException] = []

        def reenter(_: Any) -> None:
            for call in (
                lambda: session.query("echo hi"),
                lambda: session.execute_commands(["ls"]),
                lambda: session.stream("echo hi").__enter__(),
                session.close,
            ):
                watch = Stopwatch()
                with pytest.raises(SessionStateError) as caught:
                    call()
                assert watch.seconds < LATE
                assert isinstance(caught.value, (RuntimeUseError, RuntimeError))
                inside.append(caught.value)

        result = session.query("echo one", on_assistant_message=reenter, assistant_callback_timeout=timeout)
        assert (result.text, len(inside)) == ("one\n", 4)
        assert session.query("echo two").text == "two\n"


def test_the_same_session_from_inside_its_own_run_raises_at_once(runtime: LocalRuntime) -> None:
    with client_of(runtime).session() as session, session.stream("echo one; echo two") as run:
        for _ in run:
            with pytest.raises(SessionStateError):
                session.query("echo three")
        assert run.result.text == "one\ntwo\n"


def test_other_sessions_and_one_shots_from_inside_a_callback(runtime: LocalRuntime) -> None:
    client = client_of(runtime)
    with client.session() as session, client.session() as other:
        said: List[str] = []

        def nested(_: Any) -> None:
            said.append(client.query("echo one-shot").text)
            said.append(other.query("echo other").text)

        assert session.query("echo outer", on_assistant_message=nested).text == "outer\n"
        assert said == ["one-shot\n", "other\n"]


@pytest.mark.parametrize("timeout", [None, 10])
def test_abort_from_a_callback(serve: Serve, timeout: Any) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("a"), assistant("b"))
        peer.expect("cancel_message")
        peer.send(text("late"))
        answer_all(peer)

    with client_of(serve(script)).session() as session:
        seen: List[str] = []

        def abort(message: Any) -> None:
            seen.append(message.text_blocks[0])
            session.abort()

        with pytest.raises(CancelledException):
            session.query("hi", on_assistant_message=abort, assistant_callback_timeout=timeout)
        assert seen == ["a"]
        assert session.query("next", timeout=10).text == "next"


def test_a_callback_that_outlives_its_call_is_forgotten(serve: Serve) -> None:
    release, done = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "a")
        peer.send(text("late"))
        answer_all(peer)

    with client_of(serve(script)).session() as session:

        def late(_: Any) -> None:
            wait(release)
            # Its call is over: it is a thread like any other now, and may use the session.
            assert session.query("from behind", timeout=10).text == "from behind"
            done.set()
            raise Mine

        with pytest.raises(RuntimeUseError):
            session.query("hi", on_assistant_message=late, assistant_callback_timeout=0.1)
        assert session.query("next", timeout=10).text == "next"
        release.set()
        wait(done)


def test_a_run_that_is_left_by_its_own_callback_reads_no_more(serve: Serve) -> None:
    taken = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("first"), assistant("stale"))
        peer.expect("cancel_message")
        peer.send(CANCELLED)
        peer.expect_barrier()
        peer.send(ran())
        peer.expect("invocation_message")
        taken.set()
        peer.send(assistant("of the other"), text("other"))
        end(peer)

    said: List[List[str]] = []
    others: List[InThread] = []
    with client_of(serve(script)).session() as session:

        def leave(message: AssistantMessageInterface) -> None:
            said.append(message.text_blocks)
            run.close()
            others.append(InThread(session.query, "other", timeout=10))
            wait(taken)

        with session.stream("left", on_assistant_message=leave, timeout=10) as run:
            with pytest.raises(CancelledException):
                _ = run.result
        assert others[0].result().text == "other"
    assert said == [["first"]]


def test_uploads_behind_one_whose_callback_leaves_the_run_are_kept_for_the_next(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(upload("/a/first"), upload("/a/second"))
        answer_all(peer)

    served: List[str] = []

    def place(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        served.append(request.filename)
        if len(served) == 1:
            run.close()
        return ArtifactUploadResult("http://storage/x", "text/plain")

    server = serve(script)
    with client_of(server).session() as session:
        run = session.stream("left", on_artifact_upload_request=place, artifacts_dir="/a", timeout=10)
        with run:
            with pytest.raises(CancelledException):
                _ = run.result
        assert served == ["first"]
        assert session.query("next", timeout=10).text == "next"
    assert [each["filename"] for each in server.said("artifact_upload_response_message")] == ["first", "second"]


def test_a_run_that_its_own_callback_reads_to_the_end_has_ended(serve: Serve) -> None:
    results: List[QueryResult] = []
    run: Run[QueryResult]

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("first"), text("done"))
        end(peer)

    with client_of(serve(script)).session() as session:
        with session.stream("q", on_assistant_message=lambda _: results.append(run.result), timeout=10) as run:
            assert run.result.text == "done"
    assert [result.text for result in results] == ["done"]
