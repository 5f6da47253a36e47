"""Every call ends: imports in a connection's thread, which must not hang the end of the interpreter."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from ..support.builders import Serve, answer_all, echo
from ..support.processes import CHILD_LIMIT
from ..support.servers import Peer


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
        [sys.executable, "-c", program, serve(script).url],
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def python(script: str, *arguments: str) -> str:
    """Runs a script in an interpreter of its own, which must say nothing on stderr; returns what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_LIMIT, check=False)
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

        from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient
        from runtimeuse_sync._connection import retry

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

        def load_at_the_end(name, load=retry.load):
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
            retry.load = load_at_the_end
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
                RuntimeUseClient(url, model="m", connect_timeout=0.2).query("x")
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
