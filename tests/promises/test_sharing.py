"""Safe to share: threads, processes, event loops, gevent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from typing import Any, List

import psutil
import pytest

from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, Start, client_of, echo
from ..support.packages import needs
from ..support.processes import CHILD_LIMIT
from ..support.servers import PATIENCE, FaultServer, free_port
from ..support.threads import InThread


def test_a_hundred_threads_share_one_client(serve: Serve) -> None:
    server = serve(echo)
    client = client_of(server)
    before = psutil.Process().num_fds()
    barrier = threading.Barrier(100)

    def ask(number: int) -> List[str]:
        barrier.wait(30)
        return [client.query(f"{number}/{turn}", timeout=50).text for turn in range(10)]

    threads = [InThread(ask, number) for number in range(100)]
    for thread in threads:
        thread.join(55)
    for number, thread in enumerate(threads):
        assert thread.result() == [f"{number}/{turn}" for turn in range(10)]
    for each in threading.enumerate():
        if each.name.startswith("runtimeuse-connection"):
            each.join(PATIENCE)
    # The server's ends of the connections are closed by its threads, each when it comes to it.
    server.stop()
    assert psutil.Process().num_fds() <= before
    assert client._calls == set()


def test_many_threads_on_one_session(start: Start) -> None:
    with client_of(start("echo")).session() as session:

        def ask(number: int) -> None:
            for turn in range(10):
                assert session.query(f"{number}/{turn}", timeout=50).text == f"{number}/{turn}"

        threads = [InThread(ask, number) for number in range(30)]
        for thread in threads:
            thread.join(55)
            thread.result()


def test_inside_a_running_event_loop(serve: Serve) -> None:
    server = serve(echo)

    async def as_in_jupyter() -> List[str]:
        client = client_of(server)
        with client.session() as session:
            return [client.query("one-shot").text, session.query("session").text]

    assert asyncio.run(as_in_jupyter()) == ["one-shot", "session"]


def child(script: str, url: str) -> str:
    """Runs a script in a fresh interpreter, warnings being errors; returns what it printed."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:This process:DeprecationWarning",
            "-c",
            PREAMBLE + textwrap.dedent(script),
            url,
        ],
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


PREAMBLE = """
import os, sys

def client():
    from runtimeuse_sync import RuntimeUseClient
    return RuntimeUseClient(sys.argv[1], model="m")

def forked(function):
    # What the child process says; a child that hangs is killed and says nothing.
    import signal
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(25)
        try:
            function()
        finally:
            sys.stdout.flush()
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    print("child", "killed" if status else "ended", flush=True)
"""


def test_neither_import_nor_a_call_needs_asyncio(serve: Serve) -> None:
    printed = child(
        """
        import runtimeuse_sync
        print("asyncio" in sys.modules)
        c = client()
        print(c.query("hi").text)
        with c.session() as s:
            print(s.execute_commands(["ls"]).results[0].command)
        print("asyncio" in sys.modules)
        """,
        serve(echo).url,
    )
    assert printed.split() == ["False", "hi", "ls", "False"]


def test_an_inherited_session_raises_in_the_child_and_works_in_the_parent(runtime: LocalRuntime) -> None:
    printed = child(
        """
        from runtimeuse_sync import SessionStateError
        c = client()
        with c.session() as s:
            print(s.query("echo one").text, end="")

            def in_child():
                stream = s.stream("x")
                calls = [lambda: s.query("echo x"), lambda: s.execute_commands(["ls"]), stream.__enter__]
                for call in calls:
                    try:
                        call()
                    except SessionStateError as error:
                        print("fork" in str(error))
                s.abort()
                s.close()
                del globals()["s"]
                print(c.query("echo from the child").text, end="")

            forked(in_child)
            print(s.query("echo two").text, end="")
        """,
        runtime.ws_url,
    )
    assert printed.splitlines() == ["one", "True", "True", "True", "from the child", "child ended", "two"]


@pytest.mark.parametrize("reconnect", [False, True])
def test_an_inherited_session_is_closed_and_opens_no_connection(runtime: LocalRuntime, reconnect: bool) -> None:
    printed = child(
        f"""
        from runtimeuse_sync import SessionStateError
        with client().session(reconnect={reconnect}) as s:
            print(s.query("echo one").text, end="")

            def in_child():
                print(s.closed, s.is_healthy())
                try:
                    s.query("echo two")
                except SessionStateError as error:
                    print("fork" in str(error))

            forked(in_child)
            print(s.closed, s.is_healthy(), s.query("echo two").text, end="")
        """,
        runtime.ws_url,
    )
    assert printed.splitlines() == ["one", "True False", "True", "child ended", "False True two"]


def test_leaving_an_inherited_session_leaves_the_parents_alone(runtime: LocalRuntime) -> None:
    printed = child(
        """
        c = client()
        with c.session() as s:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                print(s.query("echo parent").text, end="", flush=True)
        print("left", flush=True)
        """,
        runtime.ws_url,
    )
    assert printed.splitlines() == ["left", "parent", "left"]


def test_an_inherited_run_raises_in_the_child(runtime: LocalRuntime) -> None:
    """It waits for a thread that the child does not have."""
    printed = child(
        """
        from runtimeuse_sync import SessionStateError
        c = client()
        with c.session() as s:
            for owner in (s, c):
                with owner.stream("echo one; sleep 0.3; echo two") as run:
                    print(next(run).text_blocks[0])

                    def in_child():
                        try:
                            next(run)
                        except SessionStateError:
                            print("refused")
                        run.abort()
                        run.close()

                    forked(in_child)
                    print(run.result.text.split()[-1])
        """,
        runtime.ws_url,
    )
    assert printed.splitlines() == ["one", "refused", "child ended", "two"] * 2


def test_multiprocessing(serve: Serve) -> None:
    server = serve(echo)
    printed = child(
        """
        import multiprocessing
        shared = client()
        shared.query("before")

        def ask(number):
            return shared.query(str(number)).text

        with multiprocessing.get_context("fork").Pool(3) as pool:
            print(pool.map(ask, range(6)))
            pool.close()
            pool.join()
        print(shared.query("after").text)
        """,
        server.url,
    )
    assert printed.splitlines() == [str([str(number) for number in range(6)]), "after"]


@needs("gevent")
def test_gevent(serve: Serve) -> None:
    printed = child(
        """
        import warnings
        warnings.simplefilter("ignore")  # those of gevent and what it patches
        import gevent
        from gevent import monkey
        monkey.patch_all()
        c = client()
        jobs = [gevent.spawn(c.query, str(number)) for number in range(20)]
        gevent.joinall(jobs, timeout=20, raise_error=True)
        print(sorted(int(job.value.text) for job in jobs) == list(range(20)))
        with c.session() as s:
            jobs = [gevent.spawn(s.query, str(number)) for number in range(20)]
            gevent.joinall(jobs, timeout=20, raise_error=True)
            print([job.value.text for job in jobs] == [str(number) for number in range(20)])
            from runtimeuse_sync import CancelledException, RunTimeoutError
            # Another greenlet, which must go on while this one waits.
            gevent.spawn(lambda: [gevent.sleep(0.01) for _ in range(20)]).link(lambda _: s.abort())
            try:
                s.query("silence", timeout=30)
            except CancelledException:
                print(True)
            try:
                s.query("silence", timeout=0.1)
            except RunTimeoutError:
                print(True)
        """,
        serve(echo_but_silence).url,
    )
    assert printed.split() == ["True"] * 4


def echo_but_silence(peer: Any) -> None:
    from ..support.builders import CANCELLED, answer

    peer.accept()
    for message in peer.requests():
        if message.get("user_prompt") == "silence":
            continue
        if message["message_type"] == "cancel_message":
            peer.send(CANCELLED)
            continue
        answer(peer, message)


def test_a_client_outlives_its_runtime(serve: Serve) -> None:
    with free_port() as port:
        with FaultServer(echo, port=port) as first:
            client = client_of(first)
            assert client.query("one").text == "one"
        with FaultServer(echo, port=port):
            assert client.query("two").text == "two"
