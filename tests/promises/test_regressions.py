"""Faults that were found by trying to break the promises: each is named by what a user would have seen."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any, List
from unittest import mock

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CancelledException,
    QueryOptions,
    QueryResult,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
    SessionStateError,
)

from ..servers import Peer, free_port
from ..threads import InThread
from .helpers import (
    CANCELLED,
    Serve,
    answer_all,
    assistant,
    client_of,
    echo,
    end,
    error,
    ran,
    text,
    upload,
    wait,
)


def test_an_interrupt_on_the_way_into_a_run_leaves_the_session_usable(serve: Serve) -> None:
    with client_of(serve(echo)).session() as session:
        with mock.patch.object(weakref, "finalize", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            session.stream("interrupted").__enter__()
        assert session.query("next", timeout=10).text == "next"


def test_a_run_that_is_entered_twice_goes_on(serve: Serve) -> None:
    with client_of(serve(echo)).stream("hello") as run:
        with pytest.raises(SessionStateError, match="once"):
            run.__enter__()
        assert run.result.text == "hello"


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

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(assistant("first"), text("done"))
        end(peer)

    with client_of(serve(script)).session() as session:
        with session.stream("q", on_assistant_message=lambda _: results.append(run.result), timeout=10) as run:
            assert run.result.text == "done"
    assert [result.text for result in results] == ["done"]


def test_a_run_that_is_dropped_is_left(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.expect("cancel_message")
        peer.send(error("Request cancelled"))
        answer_all(peer)

    with client_of(serve(script)).session() as session:
        run = session.stream("dropped")
        run.__enter__()
        del run
        gc.collect()
        assert session.query("next", timeout=10).text == "next"


def test_a_deadline_while_connecting_says_why(serve: Serve) -> None:
    with free_port() as port, pytest.raises(RunTimeoutError, match="last attempt: connection refused"):
        RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m").query("hi", timeout=0.3)


def test_a_scheme_in_capitals(serve: Serve) -> None:
    server = serve(echo)
    assert RuntimeUseClient(f"WS://127.0.0.1:{server.port}", model="m").query("hi").text == "hi"


@pytest.mark.parametrize("url", ["ws://host/#token", "ws://host:0", "ws://host/\ud800", "ws://us\ud800er@host"])
def test_urls_that_cannot_be_are_named(url: str) -> None:
    with pytest.raises(ValueError, match="ws_url"):
        RuntimeUseClient(url)


def test_empty_fragments_do_not_fill_the_memory() -> None:
    from runtimeuse_sync.transports._frames import FrameParser

    parser = FrameParser(100)
    parser.feed(b"\x01\x01a")
    before = sys.getsizeof(parser._fragments)
    for _ in range(1000):
        assert parser.feed(b"\x00\x00" * 100) == ([], None)
    assert sys.getsizeof(parser._fragments) == before
    assert parser.feed(b"\x80\x01b") == (["ab"], None)


def test_a_short_message_over_the_limit_is_refused_before_its_payload_comes() -> None:
    from runtimeuse_sync.transports._frames import FrameParser

    parsed, error = FrameParser(100).feed(b"\x81\x65")
    assert parsed == []
    assert "max_message_size" in str(error)


def test_options_whose_callbacks_cannot_be_copied_become_json() -> None:
    class Holder:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def on_message(self, message: Any) -> None:
            """Does nothing."""

    options = QueryOptions(model="m", on_assistant_message=Holder().on_message)
    assert json.loads(options.to_json())["model"] == "m"
    assert options.to_dict()["model"] == "m"
    assert options.on_assistant_message is not None


MARK = "mArKeR"


@pytest.mark.parametrize(
    ("url", "headers", "repeated"),
    [
        (f"/ws/{MARK}-in-path", {}, f"no {MARK}-in-path here"),
        (f"/?token=a%2F{MARK}&z=1", {}, f"bad token a%2F{MARK}"),
        ("/", {"Cookie": f"sid={MARK}; x=1"}, f"session {MARK} expired"),
        ("/", {"User-Agent": MARK}, f"{MARK} is not welcome"),
    ],
)
def test_what_a_server_repeats_of_the_way_is_masked(serve: Serve, url: str, headers: Any, repeated: str) -> None:
    server = serve(lambda peer: peer.refuse(f"403 {repeated}"))
    client = RuntimeUseClient(f"ws://127.0.0.1:{server.port}{url}", model="m", headers=headers)
    with pytest.raises(RuntimeConnectionError) as caught:
        client.query("hi")
    assert caught.value.status == 403
    assert MARK not in str(caught.value)


def test_a_presigned_url_that_the_runtime_repeats_is_masked(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/a"))
        url = peer.expect("artifact_upload_response_message")["presigned_url"]
        peer.send(error(f"PUT {url} failed", cause=url))
        peer.expect("end_session_message")
        end_of_session(peer)

    def end_of_session(peer: Peer) -> None:
        peer.send({"message_type": "end_session_confirm_message"})

    with pytest.raises(RuntimeUseError) as caught:
        client_of(serve(script)).query(
            "hi",
            artifacts_dirs=["/out"],
            on_artifact_upload_request=lambda _: ArtifactUploadResult(f"https://s.test/a?X-Sig={MARK}", "text/plain"),
        )
    assert MARK not in str(caught.value)
    assert "failed" in str(caught.value)


def test_a_secret_with_a_quote_in_it_is_masked() -> None:
    options = QueryOptions(secrets_to_redact=["it's-a-secret"], system_prompt='say "it\'s-a-secret"')
    assert "a-secret" not in repr(options)


def test_the_text_of_an_error_with_odd_metadata_is_not_lost(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send({"message_type": "error_message", "error": "disk full", "metadata": ["x"]})

    with pytest.raises(RuntimeUseError, match="disk full"):
        client_of(serve(script)).query("hi")


@pytest.mark.parametrize("body", ["c.query('bye', timeout=1)", "s.query('bye', timeout=1)", "s.close()"])
def test_a_call_in_a_finalizer_at_the_interpreters_end_does_not_hang(serve: Serve, body: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        answer_all(peer)

    program = f"""
import sys
from runtimeuse_sync import RuntimeUseClient
class Last:
    def __del__(self):
        try:
            {body}
        except Exception as error:
            pass
c = RuntimeUseClient(sys.argv[1], model="m")
s = c.session().open()
last = Last()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, serve(script).url], capture_output=True, text=True, timeout=15, check=False
    )
    assert done.returncode == 0, done.stderr


def test_half_a_client_can_be_shown() -> None:
    half = RuntimeUseClient.__new__(RuntimeUseClient)
    assert "RuntimeUseClient" in repr(half)


def test_the_end_of_a_session_is_answered(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        end(peer)

    with client_of(serve(script)).session():
        pass


def python(script: str, *arguments: str) -> str:
    """Runs a script in an interpreter of its own, which must say nothing on stderr; returns what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


@pytest.mark.parametrize("moment", ["before the end", "after the end"])
def test_the_interpreter_does_not_end_inside_an_import(moment: str) -> None:
    """A daemon that is frozen there keeps the import lock, and the next import, in a finalizer, hangs."""
    printed = python(
        """
        import atexit, contextlib, sys, threading, types

        # Registered before the client's own, and so run after it.
        before = sys.argv[1] == "before the end"
        at_the_end, goes_on = threading.Event(), threading.Event()
        atexit.register(lambda: at_the_end.set() or before or goes_on.wait(15))

        from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient, _socket_connection

        ready = threading.Event()

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "tenacity":
                    ready.set()
                    # Slow as a disk can be, so that it is still under way when the main thread has come to its end.
                    threading.main_thread().join()
                    threading.Event().wait(0.3)

        class Dying:
            def __del__(self):
                import this_module_does_not_exist

        def load_at_the_end(name, load=_socket_connection.load):
            ready.set()
            at_the_end.wait()
            loaded = load(name)
            print(loaded, flush=True)
            goes_on.set()
            return loaded

        sys.meta_path.insert(0, Finder())
        sys.unraisablehook = lambda unraisable: None
        # Not in this module, whose variables the frozen thread keeps alive.
        sys.modules["holder"] = types.ModuleType("holder")
        sys.modules["holder"].dying = Dying()
        if not before:
            _socket_connection.load = load_at_the_end
        client = RuntimeUseClient("ws://127.0.0.1:1", model="m")

        def wait_until_ready():
            with contextlib.suppress(RuntimeConnectionError):
                client.wait_until_ready()

        threading.Thread(target=wait_until_ready, daemon=True).start()
        assert ready.wait(15)
        print("ends", flush=True)
        """,
        moment,
    )
    assert printed.split() == (["ends"] if moment == "before the end" else ["ends", "False"])


def test_the_thread_of_a_connection_imports_nothing_else(serve: Serve) -> None:
    printed = python(
        """
        import sys, threading
        from runtimeuse_sync import RuntimeUseClient

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if threading.current_thread() is not threading.main_thread():
                    print(name)

        sys.meta_path.insert(0, Finder())
        client = RuntimeUseClient(sys.argv[1], model="m")
        with client.session() as session:
            session.query("in a session")
        client.query("one-shot", on_assistant_message=print, assistant_callback_timeout=5)
        for url in ("wss://localhost:1", "ws://h\u00f6st.invalid"):
            try:
                RuntimeUseClient(url, model="m", connect_timeout=0.001).query("x")
            except ConnectionError:
                print("refused")
        """,
        serve(echo).url,
    )
    imported = [name for name in printed.split() if name != "refused"]
    assert printed.count("refused") == 2
    # Its own imports come after it.
    assert imported[0] == "tenacity", imported
    assert not {"encodings.idna", "encodings.punycode"}.intersection(imported)
