"""The last line of an error's text says what to do, where there is something to do.

The errors are real ones, so that the advice is found by what they really say.
"""

from __future__ import annotations

import functools
import json
import pickle
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, Callable, List, Tuple

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    CancelledException,
    CommandFailedError,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
    SessionStateError,
)
from runtimeuse_sync._call import Wakeup
from runtimeuse_sync._display import advice
from runtimeuse_sync.testing import (
    HANG,
    FakeRuntime,
    assistant_message,
    command_output,
    command_results,
    text_result,
)

from ...support.builders import SOON, Serve, assistant, put_anywhere, text, wait
from ...support.fixtures import serve
from ...support.processes import CHILD_LIMIT
from ...support.servers import PATIENCE, Peer, black_hole
from ...support.threads import InThread, wait_until_inside

__all__ = ["serve"]


def fake(*replies: Any, **settings: Any) -> RuntimeUseClient:
    return RuntimeUseClient(transport=FakeRuntime(list(replies)), model="m", **settings)


def last_line(failing: Callable[[], Any]) -> str:
    """Returns the last line that Python prints of what a call raises."""
    with pytest.raises(RuntimeUseError) as caught:
        failing()
    failed = caught.value
    printed = "".join(traceback.format_exception(type(failed), failed, failed.__traceback__)).splitlines()
    assert len(printed[-1]) <= 160
    again = type(failed)(*json.loads(json.dumps(failed.args)))
    assert str(again) == str(pickle.loads(pickle.dumps(failed))) == str(failed)
    assert printed[-1] not in str(failed.args[0])
    return printed[-1]


def advised(expected: str, failing: Callable[[float], Any]) -> None:
    """Asserts how the last line begins. On a busy machine, a short time is over before anybody has answered."""
    for seconds in (0.1, PATIENCE):
        line = last_line(functools.partial(failing, seconds))
        if line.startswith(expected):
            break
    assert line.startswith(expected)


# A runtime that cannot be reached.


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://127.0.0.1:1", "Check that the runtime is running "),
        ("ws://no.invalid", "Check the host name in the URL, "),
    ],
)
def test_nobody_there(url: str, expected: str) -> None:
    advised(expected, lambda seconds: RuntimeUseClient(url, model="m", connect_timeout=seconds).query("p"))
    advised(expected, lambda seconds: RuntimeUseClient(url, model="m", connect_timeout=seconds).session().open())


def test_nobody_there_in_time() -> None:
    advised("Check that the runtime is being started ", RuntimeUseClient("ws://127.0.0.1:1").wait_until_ready)
    late = "Query did not end within 1 s: no connection to ws://h yet, the last attempt: connection refused"
    assert str(RunTimeoutError(late)).splitlines()[1].startswith("Check that the runtime is running ")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("401 Unauthorized", "Check the credentials: "),
        ("403 Forbidden", "Check the credentials: "),
        ("404 Not Found", "Check the path and the port of the URL: "),
    ],
)
def test_a_refusal(serve: Serve, status: str, expected: str) -> None:
    client = RuntimeUseClient(serve(lambda peer: peer.refuse(status)).url, model="m")
    assert last_line(lambda: client.query("p")).startswith(expected)


def test_a_silent_handshake() -> None:
    with black_hole() as port:
        client = RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m", connect_timeout=0.05, handshake_timeout=0.05)
        assert "client.wait_until_ready()" in last_line(lambda: client.query("p"))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("the handshake was not answered within 10 s", "Check the port of the URL: "),
        ("the response to the handshake is not HTTP", "Check the port of the URL: "),
        (
            "the connection was closed during the handshake",
            "Check that the runtime is running, and the port of the URL; ",
        ),
        ("connection reset", "Check that the runtime is running, and the port of the URL; "),
        ("the certificate of h is not valid: self-signed certificate", "Check the URL's host name, "),
        ("TLS: WRONG_VERSION_NUMBER", "Check whether the runtime speaks TLS "),
        ("through the proxy p:80: HTTP 407 Proxy Authentication Required", "Check the proxy: "),
        ("the server refused the WebSocket handshake: HTTP 503 Booting: HTTP 401", "Its server is up, but not the "),
        ("connection refused", "Check that the runtime is running "),
    ],
)
def test_reasons(reason: str, expected: str) -> None:
    lines = str(RuntimeConnectionError(f"could not connect to wss://proxy.test:1: {reason}")).splitlines()
    assert lines[1].startswith(expected)
    late = f"no connection within 1 s; the last attempt: {reason}"
    assert str(RuntimeConnectionError(f"could not connect to wss://TLS:1: {late}")).splitlines()[1:] == lines[1:]


@pytest.mark.parametrize("reason", ["no thread could be started: …", 'needs the extra [socks]: pip install "…"'])
def test_reasons_that_say_it(reason: str) -> None:
    text = f"could not connect to ws://h: {reason}"
    assert str(RuntimeConnectionError(text)) == text


# Time limits.


def test_time_limits() -> None:
    assert last_line(lambda: fake(HANG).query("p", idle_timeout=0.05)).startswith("Raise idle_timeout ")
    client = fake([assistant_message("hi"), *text_result("done")])

    over = threading.Event()

    def too_slow(_: Any) -> None:
        wait(over)

    def failing() -> None:
        client.query("p", on_assistant_message=too_slow, assistant_callback_timeout=0.05)

    assert last_line(failing).startswith("Raise assistant_callback_timeout")
    over.set()


def test_a_busy_session() -> None:
    with fake(HANG).session() as session, session.stream("p"):
        others: List[str] = []

        def wait_in_vain() -> None:
            others.append(last_line(lambda: session.query("p", timeout=SOON)))

        other = threading.Thread(target=wait_in_vain)
        other.start()
        other.join()
        assert others[0].startswith("Make the call on the client or on another session, ")


def test_a_runtime_that_goes_on_after_a_timeout(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.until_gone()

    client = RuntimeUseClient(serve(script).url, model="m")
    session = client.session(end_session_timeout=0.05).open()
    with pytest.raises(RunTimeoutError, match=r"within \S+ s\Z"):
        session.query("p", timeout=SOON)
    assert last_line(lambda: session.query("q", timeout=SOON)).startswith("Raise timeout, ")
    session.close()


def test_the_end_of_a_session_takes_too_long(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.until_gone()

    client = RuntimeUseClient(serve(script).url, model="m")
    options: Any = {"artifacts_dir": "/out", "on_artifact_upload_request": put_anywhere, "end_session_timeout": 0.05}
    assert last_line(lambda: client.query("p", **options)).startswith("Raise end_session_timeout")


# Answers.


def test_commands_that_fail() -> None:
    assert "check=False" in last_line(lambda: fake(command_results(3)).execute_commands("exit 3"))

    def noisy(request: Any) -> List[Any]:
        return [command_output("no rule\n", "make", "stderr"), *command_results(2)(request)]

    with pytest.raises(CommandFailedError) as caught:
        fake(noisy).execute_commands("make")
    assert str(caught.value).splitlines()[-1] == "no rule", "what a command says comes last"


def test_answers_that_are_wrong(serve: Serve) -> None:
    client = fake(text_result("no JSON"), [{"message_type": "result_message"}])
    schema = '{"type": "json_schema", "schema": {}}'
    assert "structured output" in last_line(lambda: client.query("p", output_format_json_schema_str=schema))
    assert last_line(lambda: client.query("p")).startswith("Check that the URL leads to a RuntimeUse runtime")

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("x" * 5000))
        peer.until_gone()

    small = RuntimeUseClient(serve(script).url, model="m", max_message_size=1000)
    assert last_line(lambda: small.query("p")).startswith("Raise that setting")


def test_a_connection_that_is_lost(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("hi"))
        peer.cut()

    client = RuntimeUseClient(serve(script).url, model="m")
    with client.session() as session:
        assert last_line(lambda: session.query("p")).startswith("What had arrived is in the error's .results")
        assert last_line(lambda: session.query("p")).startswith("Make the call again")


def test_artifacts_that_are_lost() -> None:
    text = "1 artifact(s) could not be uploaded: /out/a"
    assert "client.files.read(path)" in str(ArtifactUploadError(text, ["/out/a"])).splitlines()[1]


# Sessions and runs that do not allow it.


def states() -> List[Tuple[str, Callable[[], Any], str]]:
    talk = [assistant_message("hi"), *text_result("done")]

    def in_callback(act: Callable[[Any], Any]) -> None:
        with fake(talk).session() as session:
            session.query("p", on_assistant_message=lambda _: act(session))

    def closed() -> None:
        session = fake().session().open()
        session.close()
        session.query("p")

    def twice() -> None:
        with fake().session() as session:
            session.open()

    def enter_twice() -> None:
        with fake(HANG).stream("p") as run, run:
            pass

    return [
        ("closed", closed, "Open another one: "),
        ("opened twice", twice, "Open another one: "),
        (
            "in its callback",
            lambda: in_callback(lambda session: session.query("p")),
            "In a callback or a loop over a run",
        ),
        ("closed in its callback", lambda: in_callback(lambda session: session.close()), "Close it after the call"),
        ("entered twice", enter_twice, "Make another one: "),
    ]


@pytest.mark.parametrize(("failing", "expected"), [each[1:] for each in states()], ids=[each[0] for each in states()])
def test_states(failing: Callable[[], Any], expected: str) -> None:
    assert last_line(failing).startswith(expected)


def test_a_run_that_another_thread_reads() -> None:
    with fake(HANG).stream("p") as run:
        reader = InThread(lambda: run.result)
        assert reader.ident is not None
        wait_until_inside(reader.ident, Wakeup.wait.__code__)
        with pytest.raises(SessionStateError) as caught:
            run.next(0)
        assert str(caught.value).endswith("\nRead a run in one thread; any thread may call its abort().")
        run.abort()
        with pytest.raises(CancelledException):
            reader.result()


# Where there is nothing to do, or it is said already.


def test_no_advice() -> None:
    assert str(CancelledException("Query was cancelled")) == "Query was cancelled"
    assert str(AgentRuntimeError("it failed", {"error_name": "E"})) == "it failed"
    with pytest.raises(SessionStateError) as caught:
        fake().session().query("p")
    assert str(caught.value) == "the session is not open: use it as a context manager, or call open()"
    again = SessionStateError(str(SessionStateError("the session is closed")))
    assert str(again).count("Open another one") == 1


def test_a_long_text_takes_no_time() -> None:
    """The time of some patterns would be quadratic; a second is much for any machine."""
    for long in ("could not connect to ws://x: " + "a" * 3_000_000, "could not connect to " * 200_000, "x" * 3_000_000):
        for kind in (RuntimeConnectionError, RunTimeoutError, AgentRuntimeError):
            begun = time.process_time()
            assert str(kind(long)).startswith(long)
            assert time.process_time() - begun < 1


@pytest.mark.parametrize("option", ["agent_timeout", "", "X\nfake", 3, [["deep"]], None])
def test_what_the_runtime_calls_its_own_timeout_is_no_option(option: Any) -> None:
    assert str(AgentRuntimeError("it failed", {"timeout_type": option})) == "it failed"


def test_the_advice_of_a_cause_is_not_part_of_an_error() -> None:
    class Wrapping:
        def connect(self) -> Any:
            raise RuntimeConnectionError("could not connect to ws://inner: HTTP 401")

    with pytest.raises(RuntimeConnectionError) as caught:
        RuntimeUseClient(transport=Wrapping(), model="m").query("p")
    assert "\n" not in caught.value.args[0]
    assert "HTTP 401" in caught.value.args[0]


def test_machines_get_none() -> None:
    with pytest.raises(AgentRuntimeError) as caught:
        fake(HANG).query("p", idle_timeout=0.05)
    assert caught.value.error == caught.value.args[0] == "No message received from agent runtime for 0.05s"
    assert "Raise" not in repr(caught.value)


@pytest.mark.parametrize("call", ["RuntimeUseClient()", "RuntimeUseClient('ftp://h')", "client.query('p')"])
def test_arguments_that_are_wrong_say_it_in_one_line(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIMEUSE_WS_URL", raising=False)
    with pytest.raises(ValueError, match=r"RUNTIMEUSE_WS_URL|must begin with ws://|pass model=…") as caught:
        eval(call, {"RuntimeUseClient": RuntimeUseClient, "client": RuntimeUseClient("ws://h")})
    assert "\n" not in str(caught.value)


def test_it_is_the_last_line_of_a_program() -> None:
    program = (
        "from runtimeuse_sync import RuntimeUseClient\n"
        "RuntimeUseClient('ws://127.0.0.1:1/?token=hidden', model='m', connect_timeout=1).query('p')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=CHILD_LIMIT)
    assert done.stderr.splitlines()[-1].startswith("Check that the runtime is running ")
    assert "hidden" not in done.stderr.replace(program, "").replace(program.splitlines()[1], "")


def test_each_rule_can_be_told_from_the_others() -> None:
    texts = [rule.advice for rule in (*advice._CONNECTING, *advice._RULES) if rule.advice]
    assert len(texts) == len(set(texts))
    assert all("\n" not in each and len(each) < 160 for each in texts)
