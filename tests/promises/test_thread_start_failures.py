"""Every call ends: a system or interpreter that starts no thread. The error says what to do; nothing is left behind."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    RuntimeConnectionError,
    RuntimeUseClient,
    SessionStateError,
    WebSocketTransport,
)
from runtimeuse_sync.artifacts import UploadDirectory

from ..support.builders import BOTH, Serve, answer, assistant, caller_of, client_of, echo
from ..support.processes import CHILD_LIMIT
from ..support.servers import PATIENCE, Peer

NO_MORE = "can't start new thread"


def refuse(patch: pytest.MonkeyPatch, name: str = "") -> None:
    """Has no thread started any more, or none of this name."""
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name.startswith(f"runtimeuse-{name}"):
            raise RuntimeError(NO_MORE)
        start(thread)

    patch.setattr(threading.Thread, "start", no_more)


def readiness(client: RuntimeUseClient) -> None:
    client.wait_until_ready(1)


CALLS: Dict[str, Callable[[RuntimeUseClient], object]] = {
    "query": lambda client: client.query("hi"),
    "stream": lambda client: client.stream("hi").__enter__(),
    "session": lambda client: client.session().open(),
    "wait_until_ready": readiness,
}


@pytest.mark.parametrize("call", sorted(CALLS))
def test_no_thread_for_the_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    client = client_of(serve(echo))
    with monkeypatch.context() as patch:
        refuse(patch)
        with pytest.raises(RuntimeConnectionError, match=f"{NO_MORE}; make fewer calls at once, or raise"):
            CALLS[call](client)
    assert not client._calls
    assert client.query("next").text == "next"


def test_a_session_that_got_no_thread_is_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    session = client_of(serve(echo)).session()
    with monkeypatch.context() as patch:
        refuse(patch)
        with pytest.raises(RuntimeConnectionError):
            session.open()
    assert "closed" in repr(session)
    session.close()
    with pytest.raises(SessionStateError):
        session.query("hi")


@pytest.mark.parametrize("call", sorted(CALLS))
def test_an_interpreter_that_starts_no_more(serve: Serve, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """As Python 3.12 does from `atexit` on."""
    client = client_of(serve(echo))

    def no_more(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(SessionStateError, match="shutting down"):
            CALLS[call](client)
    assert client.query("next").text == "next"


@BOTH
def test_no_thread_for_a_callback(serve: Serve, monkeypatch: pytest.MonkeyPatch, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message["message_type"] == "invocation_message":
                peer.send(assistant("hello"))
            answer(peer, message)

    seen: queue.Queue[Any] = queue.Queue()
    options: Any = {"on_assistant_message": seen.put, "assistant_callback_timeout": PATIENCE}
    with caller_of(client_of(serve(script)), in_session) as caller:
        with monkeypatch.context() as patch:
            refuse(patch, "callback")
            with pytest.raises(AgentRuntimeError, match=f"on_assistant_message .*{NO_MORE}"):
                caller.query("hi", **options)
        assert seen.empty()
        assert caller.query("next", timeout=PATIENCE, **options).text == "next"


def test_no_second_thread_for_the_transport_alone(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(echo)
    with monkeypatch.context() as patch:
        refuse(patch, "queue-sender")
        with pytest.raises(RuntimeConnectionError, match=NO_MORE):
            next(WebSocketTransport(server.url)(queue.Queue()))
    # The sender comes first: without it nothing is opened.
    assert not server.peers


def test_no_thread_for_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch)
    with pytest.raises(RuntimeConnectionError, match=NO_MORE):
        UploadDirectory(tmp_path).__enter__()


# In processes of their own: a real limit, a real interpreter.

LIMITED = """
    import os, resource, sys, threading
    from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient

    client = RuntimeUseClient(sys.argv[1], model="m")
    # Also imports what calls need: once the user has changed, that may not be readable.
    assert client.query("before").text == "before"
    with client.session():
        client.wait_until_ready()
    before = len(os.listdir("/proc/self/fd"))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(54321)
        os.setuid(54321)  # Root has no limit.
    resource.setrlimit(resource.RLIMIT_NPROC, (1, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
    for call in (lambda: client.query("hi"), lambda: client.session().open(), lambda: client.wait_until_ready(5)):
        try:
            call()
        except RuntimeConnectionError as error:
            assert "ulimit -u" in str(error), error
        else:
            raise AssertionError("there was no limit")
    resource.setrlimit(resource.RLIMIT_NPROC, (resource.getrlimit(resource.RLIMIT_NPROC)[1],) * 2)
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == 1
    assert client.query("after").text == "after"
    print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are limited by RLIMIT_NPROC on Linux")
def test_a_real_limit(serve: Serve) -> None:
    server = serve(echo)
    assert run(LIMITED, server.url) == "done\n"


SUBINTERPRETER = """
    import sys
    sys.path[:] = {path!r}
    from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient

    client = RuntimeUseClient({url!r}, model="m")
    for call in (lambda: client.query("hi"), lambda: client.session().open(), lambda: client.wait_until_ready(5)):
        try:
            call()
        except RuntimeConnectionError as error:
            assert "an interpreter that allows such threads" in str(error), error
        else:
            raise AssertionError("it allows daemons")
    with open({done!r}, "w") as file:
        file.write("done")
"""

STARTER = """
    import os, sys
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    script = open(sys.argv[1]).read()
    ident = interpreters.create()
    failed = interpreters.run_string(ident, script)
    assert failed is None, failed
    # To destroy an interpreter that has imported _datetime makes 3.12.1 itself abort.
    os._exit(0)
"""


def has_subinterpreters_without_daemons() -> bool:
    # Those of 3.8 allow them.
    return sys.version_info >= (3, 9)


@pytest.mark.skipif(not has_subinterpreters_without_daemons(), reason="this Python's subinterpreters allow daemons")
def test_a_real_subinterpreter(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    done, script = tmp_path / "done", tmp_path / "script.py"
    code = textwrap.dedent(SUBINTERPRETER).format(path=sys.path, url=server.url, done=str(done))
    script.write_text(code)
    run(STARTER, str(script), environment={"PYTHONPATH": ""})
    assert done.read_text() == "done"


def run(script: str, *arguments: str, environment: Optional[Dict[str, str]] = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
        check=False,
        env={**os.environ, **(environment or {})},
        cwd=str(Path(__file__).resolve().parents[2]),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout
