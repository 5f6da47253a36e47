"""Futures of runs: what `concurrent.futures` promises, `abort`, threads that cannot be had, the interpreter's end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import os
import re
import signal
import textwrap
import threading
import weakref
from datetime import timedelta
from typing import Any, List, Optional

import pytest

from runtimeuse_sync import (
    CancelledException,
    CommandFailedError,
    RunFuture,
    RuntimeConnectionError,
    RuntimeUseClient,
    SessionStateError,
    _call,
    _threads,
    futures,
)
from runtimeuse_sync.testing import HANG, FakeRuntime, command_results, text_result

from ..reliability import children
from ..support.builders import answer_all, assistant, begin_until_cancelled, client_of, wait
from ..support.builders import text as result
from ..support.servers import PATIENCE, FaultServer, Peer
from ..support.threads import InThread, raise_in, without_collector


def fake(*replies: Any) -> RuntimeUseClient:
    return RuntimeUseClient(transport=FakeRuntime(list(replies)), model="m")


def test_it_is_a_future() -> None:
    future = fake(text_result("four")).submit("2 + 2")
    assert isinstance(future, RunFuture)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE).text == "four"
    assert (future.done(), future.running(), future.cancelled(), future.exception()) == (True, False, False, None)


def test_commands() -> None:
    future = fake(command_results("out")).submit_commands(["ls"])
    assert future.result(PATIENCE).results[0].stdout == "out"


def test_an_error_is_the_futures() -> None:
    future = fake(command_results(3)).submit_commands(["exit 3"])
    assert isinstance(future.exception(PATIENCE), CommandFailedError)
    with pytest.raises(CommandFailedError, match="exit 3"):
        future.result()
    assert not future.cancelled()


def test_wait_and_as_completed() -> None:
    gate = threading.Event()

    def when_let(_: Any) -> Any:
        wait(gate)
        return text_result("late")

    late, soon = fake(when_let).submit("p"), fake(text_result("soon")).submit("p")
    done, not_done = concurrent.futures.wait([late, soon], PATIENCE, concurrent.futures.FIRST_COMPLETED)
    assert (done, not_done) == ({soon}, {late})
    gate.set()
    assert {each.result().text for each in concurrent.futures.as_completed([late, soon], PATIENCE)} == {"late", "soon"}


@pytest.mark.parametrize(
    ("keywords", "error", "said"),
    [
        ({"timout": 3}, TypeError, "timout"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"model": 3}, TypeError, "model"),
        ({"on_assistant_message": 3}, TypeError, "on_assistant_message"),
    ],
)
def test_arguments_are_checked_before_anything_starts(
    client: RuntimeUseClient, keywords: Any, error: Any, said: str
) -> None:
    threads = set(threading.enumerate())
    with pytest.raises(error, match=said):
        client.submit("p", **keywords)
    with pytest.raises(ValueError, match="commands must not be empty"):
        client.submit_commands([])
    with pytest.raises(ValueError, match="prompt must not be empty"):
        client.submit(" ")
    assert set(threading.enumerate()) <= threads


def test_the_time_to_wait_is_not_the_runs() -> None:
    future = fake(HANG).submit("p")
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(0)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timedelta(milliseconds=10))
    assert future.running()
    future.abort()
    with pytest.raises(CancelledException, match="Query was cancelled"):
        future.result(PATIENCE)


@pytest.mark.parametrize("how", ["abort", "cancel", "the client's abort"])
def test_a_run_in_flight_is_cancelled_on_the_runtime(how: str) -> None:
    with FaultServer(lambda peer: begin_until_cancelled(peer, "begun")) as server:
        client = client_of(server)
        begun = threading.Event()
        future = client.submit("p", on_assistant_message=lambda _: begun.set())
        wait(begun)
        if how == "cancel":
            assert future.cancel() is True
        elif how == "abort":
            future.abort()
        else:
            client.abort()
        assert isinstance(future.exception(PATIENCE), CancelledException)
        assert future.cancelled()
        assert future.cancel() is False
        future.abort()
        server.wait_for("cancel_message")


def test_an_abort_that_comes_at_once() -> None:
    """The run has not been sent, perhaps; the client's abort reaches it all the same."""
    for _ in range(30):
        client = fake(HANG)
        future = client.submit("p")
        client.abort()
        assert isinstance(future.exception(PATIENCE), CancelledException)


def test_a_cancelled_asyncio_future_aborts_the_run() -> None:
    future = fake(HANG).submit("p")

    async def cancel() -> None:
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        await asyncio.sleep(0)

    asyncio.run(cancel())
    assert isinstance(future.exception(PATIENCE), CancelledException)


def test_asyncio_sees_an_abort_as_a_cancellation() -> None:
    future = fake(HANG).submit("p")

    async def wait_for_it() -> None:
        wrapped = asyncio.wrap_future(future)
        future.abort()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    asyncio.run(wait_for_it())


def test_callbacks_run_in_the_runs_thread_with_the_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: List[Any] = []
    over = threading.Event()

    def note(_: Any) -> None:
        seen.append((threading.current_thread().name, variable.get(None)))

    def note_the_end(future: Any) -> None:
        note(future)
        over.set()

    gate = threading.Event()

    def reply(_: Any) -> Any:
        wait(gate)
        return [assistant("hi"), *text_result("x")]

    token = variable.set("submitted")
    future = fake(reply).submit("p", on_assistant_message=note)
    variable.reset(token)
    future.add_done_callback(note_the_end)
    gate.set()
    wait(over)
    assert [name.startswith("runtimeuse-submit-") for name, _ in seen] == [True, True]
    assert seen[0][0] == seen[1][0]
    assert [value for _, value in seen] == ["submitted", "submitted"]
    assert variable.get(None) is None


@pytest.mark.parametrize("kind", [LookupError, KeyboardInterrupt, SystemExit])
def test_what_a_callback_raises_comes_out_unchanged(kind: Any) -> None:
    raised = kind("of the callback")

    def fail(_: Any) -> None:
        raise raised

    future = fake([assistant("hi")]).submit("p", on_assistant_message=fail)
    assert future.exception(PATIENCE) is raised


@pytest.mark.parametrize("misdirects", [False, True])
def test_a_thread_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, misdirects: bool) -> None:
    monkeypatch.setattr(_threads, "_MISDIRECTS", misdirects)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("runtimeuse-submit"):
            raise RuntimeError("can't start new thread")
        start(thread)

    client = fake(text_result("first"), text_result("next"))
    with client.session() as session:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for caller in (client, session):
                # Not from the main thread, which starts all of its own directly.
                assert isinstance(InThread(caller.submit, "p").error(), RuntimeConnectionError)
        assert not client._calls
        # The turn has been given back.
        assert session.submit("p").result(PATIENCE).text == "first"
    assert not futures._in_flight


# On a session.


def test_runs_of_a_session_begin_in_the_order_of_submission() -> None:
    runtime = FakeRuntime([lambda request: text_result(request["user_prompt"])] * 30)
    with RuntimeUseClient(transport=runtime, model="m").session() as session:
        submitted = [session.submit(str(number)) for number in range(30)]
        assert [future.result(PATIENCE).text for future in submitted] == [str(number) for number in range(30)]
    assert [request["user_prompt"] for request in runtime.requests] == [str(number) for number in range(30)]


def test_the_end_of_a_session_waits_for_what_was_submitted() -> None:
    with fake(text_result("1"), text_result("2")).session() as session:
        submitted = [session.submit("p"), session.submit("p")]
    assert [future.result(PATIENCE).text for future in submitted] == ["1", "2"]


def test_a_sessions_abort_ends_the_run_in_progress_only() -> None:
    def script(peer: Peer) -> None:
        begin_until_cancelled(peer, "begun")
        peer.send({"message_type": "error_message", "error": "Request cancelled", "metadata": {}})
        answer_all(peer)

    begun = threading.Event()
    with FaultServer(script) as server, client_of(server).session() as session:
        first = session.submit("p", on_assistant_message=lambda _: begun.set())
        second = session.submit("second")
        wait(begun)
        session.abort()
        assert isinstance(first.exception(PATIENCE), CancelledException)
        assert second.result(PATIENCE).text == "second"


def test_a_run_that_waits_for_its_turn_can_be_aborted() -> None:
    gate = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        wait(gate)
        peer.send(result("first"))
        answer_all(peer)

    with FaultServer(script) as server, client_of(server).session() as session:
        first, second = session.submit("first"), session.submit("second")
        second.abort()
        assert isinstance(second.exception(PATIENCE), CancelledException)
        gate.set()
        assert first.result(PATIENCE).text == "first"


@pytest.mark.parametrize("ask", ["result", "exception"])
def test_a_callback_that_waits_for_a_later_run_of_its_session(ask: str) -> None:
    later: List[RunFuture[Any]] = []

    def wait_for_it(_: Any) -> None:
        later.append(session.submit("later"))
        getattr(later[0], ask)()

    with fake([assistant("hi")], text_result("later")).session() as session:
        with pytest.raises(SessionStateError, match="would never end"):
            session.query("p", on_assistant_message=wait_for_it)
        assert later[0].result(PATIENCE).text == "later"


def test_a_session_that_is_not_open() -> None:
    session = fake().session()
    with pytest.raises(SessionStateError, match="not open"):
        session.submit("p")
    with session:
        pass
    with pytest.raises(SessionStateError, match="closed"):
        session.submit_commands(["ls"])


# Interrupts, memory, processes.


@without_collector()
def test_an_exception_that_another_thread_sets_is_noticed_in_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_call, "SLICE", 0.01)

    class OutOfTime(Exception):
        pass

    future = fake(HANG).submit("p")
    waiting = threading.Event()

    def wait_for_it() -> None:
        waiting.set()
        future.result()

    waiter = InThread(wait_for_it)
    wait(waiting)
    raise_in(waiter.ident or 0, OutOfTime)
    assert isinstance(waiter.error(), OutOfTime)
    assert future.running()
    future.abort()
    assert future.exception(PATIENCE) is not None


def test_a_wait_needs_no_lock_that_the_runs_thread_needs() -> None:
    """An interrupt may leave a `Condition` locked forever: then the run could not end."""
    future = fake(HANG).submit("p")
    with future._condition:
        for ask in (future.result, future.exception):
            assert isinstance(InThread(ask, 0.001).error(), concurrent.futures.TimeoutError)
        for look in (future.done, future.running, future.cancelled):
            assert InThread(look).result() is (look == future.running)
    future.abort()
    assert isinstance(future.exception(PATIENCE), CancelledException)
    with future._condition:
        assert isinstance(InThread(future.result).error(), CancelledException)
        assert InThread(future.cancelled).result()


def test_nothing_keeps_a_future_alive() -> None:
    def forget() -> weakref.ref[Any]:
        future = fake(command_results(3)).submit_commands(["exit 3"])
        assert future.exception(PATIENCE) is not None
        return weakref.ref(future)

    gc.collect()
    gc.disable()
    try:
        gone = forget()
        until = threading.Event()
        for _ in range(1000):
            if gone() is None:
                break
            until.wait(0.005)  # for the run's thread to end
        assert gone() is None
    finally:
        gc.enable()


FORK = """
import os, sys
from runtimeuse_sync import RuntimeUseClient, SessionStateError
from runtimeuse_sync.testing import HANG, FakeRuntime, text_result

future = RuntimeUseClient(transport=FakeRuntime([HANG]), model="m").submit("p")
pid = os.fork()
if pid == 0:
    try:
        future.result()
    except SessionStateError as error:
        assert "fork" in str(error)
        own = RuntimeUseClient(transport=FakeRuntime([text_result("child")]), model="m").submit("p")
        assert own.result(20).text == "child"
        sys.exit(7)
_, status = os.waitpid(pid, 0)
assert os.WEXITSTATUS(status) == 7, status
future.abort()
print(type(future.exception()).__name__)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_does_not_wait_for_ever() -> None:
    assert children.run(FORK) == "CancelledException\n"


PROGRAM = """
import threading
from runtimeuse_sync import RuntimeUseClient, futures
from runtimeuse_sync.testing import HANG, FakeRuntime, error, text_result

def client(reply):
    return RuntimeUseClient(transport=FakeRuntime([reply]), model="m")

at_the_end, wait_for_all = threading.Event(), futures._at_exit

def at_exit():
    print("at the end", flush=True)
    at_the_end.set()
    wait_for_all()

futures._at_exit = at_exit

# Not before: Python 3.12.0 and 3.12.1 start no thread, not even a connection's, once they are ending.
arrived = threading.Event()

def hang(_):
    arrived.set()
    return HANG

def late(_):
    arrived.set()
    assert at_the_end.wait(100)
    print("done", flush=True)
    return text_result("late")

"""


@pytest.mark.parametrize(
    ("submit", "printed", "said"),
    [
        ("client(late).submit('p')", "ends\nat the end\ndone\n", None),
        (
            "client(lambda _: (late(_), error('no'))[1]).submit('p')",
            "ends\nat the end\ndone\n",
            "failed .* ended: AgentRuntimeError",
        ),
        (
            "futures.EXIT_PATIENCE = 0.1; client(hang).submit('p')",
            "ends\nat the end\n",
            r"1 submitted run\(s\) .* were aborted",
        ),
        (
            "futures.EXIT_PATIENCE = 0; client(hang).submit('p', timeout=2)",
            "ends\nat the end\n",
            "ended: RunTimeoutError",
        ),
    ],
    ids=["done", "failed", "aborted", "out of time"],
)
def test_the_interpreters_end(submit: str, printed: str, said: Optional[str]) -> None:
    """It waits, though not for ever, and nothing is lost without a word."""
    program = textwrap.dedent(PROGRAM) + f"\n{submit}\narrived.wait(100)\nprint('ends', flush=True)\n"
    with children.started(program, strict=False) as child:
        out, complaints = child.communicate(timeout=children.PATIENCE)
    assert child.returncode == 0
    assert out == printed
    if said is None:
        assert complaints == ""
    else:
        assert len([line for line in complaints.splitlines() if "RuntimeWarning" in line]) == 1, complaints
        assert re.search(said, complaints), complaints


@pytest.mark.parametrize("moment", ["at the end", "before"])
def test_ctrl_c_aborts_what_is_in_flight(moment: str) -> None:
    """Whether it comes while the interpreter waits, or has ended the program before."""
    before = "print('begun', flush=True)\nthreading.Event().wait()\n" if moment == "before" else ""
    program = textwrap.dedent(PROGRAM) + f"\nclient(hang).submit('p')\narrived.wait(100)\n{before}"
    with children.started(program, strict=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == ("begun\n" if before else "at the end\n")
        child.send_signal(signal.SIGINT)
        # Less than it would wait for the run.
        _, complaints = child.communicate(timeout=futures.EXIT_PATIENCE - 5)
    assert "KeyboardInterrupt" in complaints


def test_importing_the_package_does_not_import_it() -> None:
    printed = children.run(
        """
        import sys
        import runtimeuse_sync
        print("concurrent.futures" in sys.modules, "runtimeuse_sync.futures" in sys.modules)
        print(runtimeuse_sync.RunFuture.__name__, "RunFuture" in runtimeuse_sync.__all__)
        """
    )
    assert printed == "False False\nRunFuture True\n"


def test_an_unknown_name_of_the_package() -> None:
    import runtimeuse_sync

    with pytest.raises(AttributeError, match="has no attribute 'RunFutur'"):
        getattr(runtimeuse_sync, "RunFutur")  # noqa: B009  # mypy knows better
