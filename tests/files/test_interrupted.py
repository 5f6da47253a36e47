"""What ends an operation early: abort, Ctrl-C, a deadline, the caller's own exceptions, lost connections.

No half-written target and no temporary file is left, on either side, and the session still works.
"""

from __future__ import annotations

import datetime
import os
import signal
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from runtimeuse_sync import (
    CancelledException,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    SessionStateError,
)

from ..support.builders import wait
from ..support.strict_runtime import StrictRuntime
from ..support.threads import InThread, when
from .conftest import Sandbox
from .test_files import random_bytes

SIZE = 8_000_000


class Stop(Exception):
    """What a test raises in a callback."""


def after(bytes_done: int, act: Callable[[], Any]) -> Callable[[int, Any], None]:
    """A progress callback that acts once, when so many bytes are done."""
    acted: List[bool] = []

    def progress(done: int, total: Any) -> None:
        if done >= bytes_done and not acted:
            acted.append(True)
            act()

    return progress


def stop() -> None:
    raise Stop


def operations(sandbox: Sandbox, tmp_path: Path) -> Dict[str, Callable[[Callable[[int, Any], None]], Any]]:
    """Each operation that takes time, as a function of its progress callback."""
    local = tmp_path / "local"
    (local / "tree/d").mkdir(parents=True)
    (local / "file").write_bytes(random_bytes(SIZE))
    (local / "tree/d/file").write_bytes(random_bytes(SIZE))
    (sandbox.root / "file").write_bytes(random_bytes(SIZE))
    (sandbox.root / "tree").mkdir()
    (sandbox.root / "tree/file").write_bytes(random_bytes(SIZE))
    (sandbox.root / "target").write_text("as it was")
    (local / "target").write_text("as it was")
    files = sandbox.files
    return {
        "read": lambda progress: files.read("file", progress=progress),
        "write": lambda progress: files.write("target", random_bytes(SIZE), progress=progress),
        "upload": lambda progress: files.upload(local / "file", "target", progress=progress),
        "upload tree": lambda progress: files.upload(local / "tree", "new/tree", progress=progress),
        "upload tree into": lambda progress: files.upload(local / "tree", "tree", progress=progress),
        "download": lambda progress: files.download("file", local / "target", progress=progress),
        "download tree": lambda progress: files.download("tree", local / "new/tree", progress=progress),
        "download tree into": lambda progress: files.download("tree", local / "tree", progress=progress),
    }


KINDS = [
    "read",
    "write",
    "upload",
    "upload tree",
    "upload tree into",
    "download",
    "download tree",
    "download tree into",
]


def assert_untouched(sandbox: Sandbox, tmp_path: Path) -> None:
    local = tmp_path / "local"
    assert (sandbox.root / "target").read_text() == (local / "target").read_text() == "as it was"
    names = sorted(path.name for path in local.rglob("*") if path.name != "new")
    assert names == ["d", "file", "file", "target", "tree"]
    assert sandbox.left() == []
    assert not (sandbox.root / "new/tree").exists()
    assert os.listdir(sandbox.root / "tree") == ["file"]
    assert sandbox.temporary
    # The next operation works.
    assert sandbox.files.exists("target")


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_of_progress_ends_it_and_comes_out_unchanged(sandbox: Sandbox, tmp_path: Path, kind: str) -> None:
    act = operations(sandbox, tmp_path)[kind]
    raised = Stop("mine")

    def fail() -> None:
        raise raised

    with pytest.raises(Stop) as caught:
        act(after(1_000_000, fail))
    assert caught.value is raised
    assert_untouched(sandbox, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_abort_between_two_requests(sandbox: Sandbox, tmp_path: Path, kind: str) -> None:
    act = operations(sandbox, tmp_path)[kind]
    with pytest.raises(CancelledException, match="was cancelled"):
        act(after(1_000_000, sandbox.caller.abort))
    assert_untouched(sandbox, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c(sandbox: Sandbox, tmp_path: Path, kind: str) -> None:
    act = operations(sandbox, tmp_path)[kind]
    with pytest.raises(KeyboardInterrupt):
        act(after(1_000_000, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert_untouched(sandbox, tmp_path)


def test_the_deadline_is_for_the_whole_operation(strict: StrictRuntime, strict_client: RuntimeUseClient) -> None:
    (strict.root / "target").write_text("as it was")
    held = threading.Event()

    def hold(command: Any) -> None:
        # From the second request on, the sandbox does not answer before the deadline.
        if "RUNTIMEUSE_DATA_1" in command.get("env", {}):
            held.wait(30)

    def release() -> None:
        wait(strict.cancelled)
        held.set()

    strict.before = hold
    # Released by the end of the operation: the runtime cannot be cancelled while it holds the command.
    releasing = InThread(release)
    with pytest.raises(RunTimeoutError, match=r"(?m)^Writing a file did not end within 6 s$") as raised:
        # So long that the second request is made in time, on a busy machine, too.
        strict_client.files.write("target", random_bytes(SIZE), timeout=6)
    releasing.result()
    assert raised.value.results == []
    strict.before = None
    strict.stop()
    assert (strict.root / "target").read_text() == "as it was"
    assert os.listdir(strict.root) == ["target"]


def test_the_clients_timeout_is_the_default(strict: StrictRuntime) -> None:
    client = RuntimeUseClient(transport=strict, timeout=0.5)
    held = threading.Event()
    strict.before = lambda command: wait(held)
    with pytest.raises(RunTimeoutError, match=r"(?m)^Reading a file did not end within 0.5 s$"):
        client.files.read("file")
    with client.session() as session:
        with pytest.raises(RunTimeoutError, match=r"(?m)within 0.25 s$"):
            session.files.read("file", timeout=datetime.timedelta(seconds=0.25))
        held.set()


@pytest.mark.parametrize("in_session", [False, True])
def test_abort_of_a_request_in_flight(strict: StrictRuntime, strict_client: RuntimeUseClient, in_session: bool) -> None:
    (strict.root / "target").write_text("as it was")
    running = threading.Event()

    def note(command: Any) -> None:
        if "RUNTIMEUSE_DATA_1" in command.get("env", {}):
            running.set()

    # The first command that brings data never ends by itself.
    strict.env["PATH"] = f"{slow_base64(strict.root.parent)}:{strict.env['PATH']}"
    strict.before = note
    session = strict_client.session().open()
    caller: Any = session if in_session else strict_client
    writing = InThread(caller.files.write, "target", random_bytes(SIZE))
    wait(running)
    caller.abort()
    assert isinstance(writing.error(), CancelledException)
    assert str(writing.error()) == "Writing a file was cancelled"
    assert os.listdir(strict.root) == ["target"]
    assert caller.files.read("target") == b"as it was"
    session.close()


def slow_base64(directory: Path) -> Path:
    """Returns a directory with a `base64` that hangs if it decodes a lot."""
    tools = directory / "slow"
    tools.mkdir()
    (tools / "base64").write_text(
        """#!/bin/sh
PATH=${PATH#*:}
[ "$1" = -d ] && [ -n "$RUNTIMEUSE_DATA_1" ] && exec sleep 60
exec base64 "$@"
"""
    )
    (tools / "base64").chmod(0o755)
    return tools


def test_an_operation_that_waits_for_its_turn_is_not_aborted(
    strict: StrictRuntime, strict_client: RuntimeUseClient
) -> None:
    (strict.root / "file").write_text("x")
    running, go = threading.Event(), threading.Event()

    def hold(command: Any) -> None:
        if command["command"] == "echo held":
            running.set()
            wait(go)

    strict.before = hold
    with strict_client.session() as session:
        first = InThread(session.execute_commands, ["echo held"])
        wait(running)
        second = InThread(session.files.read, "file")
        # It waits: the request in flight is another one.
        when(lambda: session._operations)
        session.abort()
        go.set()
        assert isinstance(first.error(), CancelledException)
        assert second.result() == b"x"


def test_a_lost_connection_of_a_client(strict: StrictRuntime, strict_client: RuntimeUseClient) -> None:
    """The temporary file is removed on a new connection."""
    (strict.root / "target").write_text("as it was")

    def cut() -> None:
        strict.connections[0].cut()

    with pytest.raises(RuntimeConnectionError):
        strict_client.files.write("target", random_bytes(SIZE), progress=after(1_000_000, cut))
    assert len(strict.connections) == 2
    assert os.listdir(strict.root) == ["target"]


def test_a_lost_connection_of_a_session(strict: StrictRuntime, strict_client: RuntimeUseClient) -> None:
    session = strict_client.session().open()
    with pytest.raises(RuntimeConnectionError) as raised:
        session.files.write("target", random_bytes(SIZE), progress=after(1_000_000, strict.connections[0].cut))
    assert getattr(raised.value, "results", []) == []
    session.close()
    # Nobody can remove the temporary file; the target is not touched.
    assert not (strict.root / "target").exists()


def test_a_session_that_is_not_open(strict_client: RuntimeUseClient) -> None:
    with pytest.raises(SessionStateError):
        strict_client.session().files.read("file")


def test_a_session_inside_its_own_progress(sandbox: Sandbox) -> None:
    sandbox.files.write("file", random_bytes(SIZE))
    seen: List[bytes] = []
    # Between two requests the session is free.
    sandbox.files.write("other", random_bytes(SIZE), progress=after(1, lambda: seen.append(sandbox.files.read("file"))))
    assert seen == [random_bytes(SIZE)]


def test_a_runtime_that_cannot_be_reached() -> None:
    client = RuntimeUseClient("ws://127.0.0.1:9", connect_timeout=0.1)
    with pytest.raises(RuntimeConnectionError):
        client.files.read("file")
    with pytest.raises(RunTimeoutError):
        RuntimeUseClient("ws://127.0.0.1:9", connect_timeout=30).files.read("file", timeout=0.2)


def test_a_file_object_that_fails(sandbox: Sandbox) -> None:
    class Failing:
        def __init__(self) -> None:
            self.reads = 0

        def read(self, size: int) -> bytes:
            self.reads += 1
            if self.reads > 2:
                raise Stop
            return random_bytes(1_000_000)

    with pytest.raises(Stop):
        sandbox.files.write("target", Failing())
    assert os.listdir(sandbox.root) == []


def test_a_text_file_object(sandbox: Sandbox) -> None:
    class Text:
        def read(self, size: int) -> str:
            return "x"

    with pytest.raises(TypeError, match="binary"):
        sandbox.files.write("target", Text())  # type: ignore[arg-type]
    assert os.listdir(sandbox.root) == []


def test_operations_from_many_threads_on_one_session(sandbox: Sandbox) -> None:
    def there_and_back(index: int) -> bool:
        data = random_bytes(500_000 + index)
        sandbox.files.write(f"file {index}", data)
        same: bool = sandbox.files.read(f"file {index}") == data
        return same

    threads = [InThread(there_and_back, index) for index in range(4)]
    assert [thread.result() for thread in threads] == [True] * 4
