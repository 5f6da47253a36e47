"""Artifacts: what is given up, and that the end of the session is not confirmed then."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import selectors
import socket
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest
from websockets.exceptions import ConnectionClosed

from runtimeuse_sync.runtime.artifacts.scanner import Scanner
from runtimeuse_sync.runtime.artifacts.upload import Progress, Upload, _unsent
from runtimeuse_sync.runtime.artifacts.uploads import Uploads
from runtimeuse_sync.runtime.artifacts.watcher import Artifacts
from runtimeuse_sync.runtime.masking import RedactingLogger
from runtimeuse_sync.runtime.outbox import _shortened
from runtimeuse_sync.runtime.parsing import UploadResponse
from runtimeuse_sync.runtime.settings import RuntimeSettings
from runtimeuse_sync.runtime.workers import Workers

from ..support.servers import PATIENCE
from ..support.storage import Storage
from .announced import CONFIRM, REQUEST, announced, end_in_vain
from .conftest import Connect, StartRuntime
from .held_storage import HeldStorage, held_storage
from .wire import Wire, named, wire_to

RESPONSE = UploadResponse("file", "/a/file", "http://127.0.0.1:1/file", "text/plain")


@pytest.fixture
def held() -> Iterator[HeldStorage]:
    with held_storage() as storage:
        yield storage


class ScriptedUpload(Upload):
    """An upload whose progress is what a test says, until it is broken off."""

    def __init__(self, path: str, response: UploadResponse) -> None:
        super().__init__(path, response)
        self.looks = 0
        self.broken_off_at: List[int] = []
        self.over = threading.Event()

    @property
    def progress(self) -> Progress:
        self.looks += 1
        return (1, min(self.looks, 40), 0)

    def break_off(self, progress: Progress) -> None:
        self.broken_off_at.append(self.looks)
        assert progress == (1, 40, 0)
        self.over.set()

    def put(self, settings: RuntimeSettings) -> None:
        assert self.over.wait(PATIENCE)


def test_an_upload_that_makes_progress_is_never_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: here, ten times its limit."""
    made: List[ScriptedUpload] = []

    def make(path: str, response: UploadResponse) -> ScriptedUpload:
        made.append(ScriptedUpload(path, response))
        return made[-1]

    monkeypatch.setattr("runtimeuse_sync.runtime.artifacts.uploads.Upload", make)
    workers = Workers()
    log = RedactingLogger(logging.getLogger("test"))

    async def upload() -> Dict[str, str]:
        uploads = Uploads(RuntimeSettings(upload_timeout=0.2), workers, log)
        uploads.start("/a/file", RESPONSE)
        await uploads.finish()
        return uploads.failed

    assert asyncio.run(upload()) == {}
    assert workers.join(PATIENCE) == []
    [upload_] = made
    assert upload_.broken_off_at[0] > 40


class Jumping(selectors.DefaultSelector):
    """Waits for no time: the clock of its loop goes on at once."""

    now = 0.0

    def select(self, timeout: Optional[float] = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


@pytest.mark.parametrize(("answered_at", "ended_at"), [([50, 100, 150], 150), ([50], 110), ([], 60)])
def test_answers_are_waited_for_as_long_as_they_come(
    answered_at: List[float], ended_at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Jumping()
    loop = asyncio.SelectorEventLoop(clock)
    monkeypatch.setattr(loop, "time", lambda: clock.now)
    monkeypatch.setattr(Uploads, "start", lambda *_: None)
    log = RedactingLogger(logging.getLogger("test"))

    async def end() -> float:
        artifacts = Artifacts(RuntimeSettings(upload_response_timeout=60.0), Workers(), Any, log)  # type: ignore[arg-type]
        artifacts._unanswered = {"/a/file": ["/a/file"] * 3}
        for at in answered_at:
            loop.call_at(at, artifacts.answer, RESPONSE)
        await artifacts._until_answered()
        return loop.time()

    try:
        assert loop.run_until_complete(end()) == pytest.approx(ended_at, abs=0.01)
    finally:
        loop.close()


def test_what_the_other_side_takes_is_progress() -> None:
    """A system takes megabytes at once from who sends; they leave it much later."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(b"x" * 65536)
        full = _unsent(ours)
        assert full > 0
        assert theirs.recv(65536)
        assert _unsent(ours) < full
    assert _unsent(ours) == 0


@pytest.mark.parametrize("unread", [False, True])
def test_an_upload_without_progress_is_given_up(talk: Connect, held: HeldStorage, tmp_path: Path, unread: bool) -> None:
    """Whether the storage takes none of the file, or all of it and does not answer."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_bytes(b"x" * (32 * 1024 * 1024 if unread else 10))
    held.held = None
    held.unread = ["/x"] if unread else []
    wire = talk(upload_timeout=1.0, end_session_delay=0.05)
    reason = end_in_vain(wire, held.url, wire.commands("true", artifacts_dirs=["out"])[:1])
    assert reason == "1 artifact was not uploaded: x (no progress for 1 s)"
    assert held.wait_for("begun", 2)
    assert held.all("begun") == ["/x", "/x"]


def test_one_lost_file_among_others(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in "abc":
        (tmp_path / "out" / name).write_text(name)
    storage.answers = [403]
    requests = wire.commands("true", artifacts_dirs=["out"])[:-1]
    wire.answer(requests[0], storage.url + "/a")
    storage.wait_for(1)
    for request in requests[1:]:
        wire.answer(request, f"{storage.url}/{request['filename']}")
    assert wire.end_unconfirmed() == ([], "1 artifact was not uploaded: a (HTTP status 403)")
    assert sorted(put.path for put in storage.received) == ["/a", "/b", "/c"]


def test_a_failed_upload_is_made_good_by_the_next_version(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(artifact_settle=0.05, end_session_delay=0.05)
    storage.answers = [403]
    wire.commands("true", artifacts_dirs=["out"])
    for number, content in enumerate(("older", "newer"), 1):
        (tmp_path / "next").write_text(content)
        (tmp_path / "next").replace(tmp_path / "out" / "file")
        wire.answer(wire.expect(REQUEST), storage.url + "/file")
        storage.wait_for(number)
    assert named(wire.end()) == [(CONFIRM, None)]
    assert [put.body for put in storage.received] == [b"older", b"newer"]


def test_a_file_that_becomes_shorter_is_sent_anew(talk: Connect, held: HeldStorage, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_bytes(b"x" * 32 * 1024 * 1024)
    held.unread = ["/x"]
    wire = talk(end_session_delay=0.05)
    [request, _] = wire.commands("true", artifacts_dirs=["out"])
    wire.answer(request, held.url + "/x")
    assert held.wait_for("begun")
    os.truncate(out / "x", 5)
    held.release()
    assert held.wait_for("stored")
    assert held.all("stored") == ["xxxxx"]
    # It has changed, so it is announced again.
    wire.send("end_session_message")
    wire.answer(wire.expect(REQUEST), held.url + "/x")
    assert named([wire.receive()]) == [(CONFIRM, None)]


def test_a_thread_that_cannot_be_started(wire: Wire, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    came = wire.commands("echo x > out/x", artifacts_dirs=["out"])
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name == "runtimeuse-upload":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert end_in_vain(wire, storage.url, came) == "1 artifact was not uploaded: x (RuntimeError)"


def test_a_directory_that_cannot_be_looked_at(talk: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that is not ours to read: one that the runtime has no descriptor left for, say."""
    wire = talk(end_session_delay=0.05)
    wire.commands("mkdir out/sub", artifacts_dirs=["out"])
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("/sub"):
            raise OSError(errno.EMFILE, "Too many open files", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert wire.end_unconfirmed() == ([], "1 artifact was not uploaded: sub (Too many open files)")


def test_an_end_that_fails(talk: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    wire = talk(artifact_scan_interval=60.0, artifact_settle=60.0, end_session_delay=0.05)
    wire.commands("true", artifacts_dirs=["out"])

    def fail(*_: Any) -> None:
        raise LookupError("odd")

    monkeypatch.setattr(Scanner, "scan", fail)
    assert wire.end_unconfirmed() == ([], "the end of the session failed: LookupError")
    assert "The end of a session failed" in caplog.text


def test_what_is_said_fits_into_a_close_frame(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for number in range(9):
        (tmp_path / "out" / f"{'ä' * 40}-{number}").write_text("x")
    wire = talk(end_session_delay=0.05)
    storage.answers = [403] * 9
    for request in wire.commands("true", artifacts_dirs=["out"])[:-1]:
        wire.answer(request, f"{storage.url}/x")
    _, reason = wire.end_unconfirmed()
    assert reason == f"9 artifacts were not uploaded: {'ä' * 40}-0 (HTTP …"


@pytest.mark.parametrize(
    ("text", "size", "shortened"),
    [("abc", 3, "abc"), ("abcd", 3, "…"), ("abcde", 4, "a…"), ("aäb", 4, "aäb"), ("aäbc", 4, "a…"), ("\ud83d", 9, "?")],
)
def test_texts_are_shortened_by_their_bytes(text: str, size: int, shortened: str) -> None:
    assert _shortened(text, size) == shortened


def test_a_stop_does_not_confirm(start: StartRuntime, held: HeldStorage) -> None:
    runtime = start(end_session_delay=0.05)
    held.held = None
    with wire_to(runtime) as wire:
        came = wire.commands("echo x > out/x", artifacts_dirs=["out"])
        wire.send("end_session_message")
        wire.answer(announced(wire, came), held.url + "/x")
        assert held.wait_for("begun")
        runtime.stop()
        with pytest.raises(ConnectionClosed) as caught:
            wire.receive()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001
