"""Artifacts: very many files, storages that are slow, stall and fail, and files that change while they are uploaded.

Whatever happens, either every file has arrived in its last version when the call returns, or the call raises.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, Dict, Iterator, List

import pytest

from runtimeuse_sync import ArtifactUploadError, ArtifactUploadResult, RuntimeUseClient
from runtimeuse_sync.artifacts import UploadDirectory
from runtimeuse_sync.runtime import LocalRuntime

from ..support.tally import Tally, seeded, tries


class Moody(ThreadingHTTPServer):
    """A storage whose answers take their time, and may be refusals, resets or none at all.

    Attributes:
        stored: What arrived, by path; as it was when its upload ended.
        latency: Seconds that an answer takes.
        moods: How the next uploads go: a status, `"reset"` or `"silent"`; those that are not listed go well.
    """

    daemon_threads = False
    request_queue_size = 256

    def __init__(self, latency: float) -> None:
        self.stored: Dict[str, bytes] = {}
        self.latency = latency
        self.moods: List[Any] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), _Put)

    def answer_for(self, request: Any) -> ArtifactUploadResult:
        port = self.server_address[1]
        return ArtifactUploadResult(f"http://127.0.0.1:{port}/{request.filename}?sig=x", "text/plain")

    def handle_error(self, *_: Any) -> None:
        """An upload that is broken off is nothing to speak of."""


class _Put(BaseHTTPRequestHandler):
    server: Moody

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mood = self.server.moods.pop() if self.server.moods else 200
        if mood == "silent":
            self.server.over.wait()
            return
        self.server.over.wait(self.server.latency)
        if mood == "reset":
            return
        if mood == 200:
            self.server.stored[self.path.partition("?")[0][1:]] = body
        self.send_response(mood)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def storage() -> Iterator[Moody]:
    with Moody(0.1) as storage:
        thread = threading.Thread(target=storage.serve_forever, args=(0.01,), name="storage")
        thread.start()
        try:
            yield storage
        finally:
            storage.over.set()
            storage.shutdown()
            thread.join()


def make(count: int) -> str:
    return f"i=0; while [ $i -lt {count} ]; do echo $i > out/$i; i=$((i+1)); done"


def test_very_many_files(storage: Moody, tally: Tally, tmp_path: Path) -> None:
    """3,000 files to a storage that takes 100 ms for each, within the time that a client waits by default."""
    count = tries(150, 3000)
    fault = "artifacts: files to a slow storage"
    tally.tried(fault, count)
    with LocalRuntime("shell", root=str(tmp_path)) as runtime:
        RuntimeUseClient(runtime.ws_url, model="m").execute_commands(
            [make(count)], artifacts_dirs=["out"], on_artifact_upload_request=storage.answer_for
        )
    assert storage.stored == {str(number): b"%d\n" % number for number in range(count)}
    tally.survived(fault, count)


def test_very_many_files_into_a_directory(tally: Tally, tmp_path: Path) -> None:
    count = tries(150, 3000)
    fault = "artifacts: files into an UploadDirectory"
    tally.tried(fault, count)
    with LocalRuntime("shell", root=str(tmp_path)) as runtime, UploadDirectory(tmp_path / "received") as uploads:
        RuntimeUseClient(runtime.ws_url, model="m").execute_commands(
            [make(count)], artifacts_dirs=["out"], on_artifact_upload_request=uploads.callback
        )
    arrived = {path.name: path.read_bytes() for path in (tmp_path / "received").rglob("*") if path.is_file()}
    assert arrived == {str(number): b"%d\n" % number for number in range(count)}
    tally.survived(fault, count)


def moods_of(chance: Random) -> List[Any]:
    return [chance.choice([200, 200, 200, 403, 500, 503, "reset", "silent"]) for _ in range(chance.randint(0, 12))]


def test_a_storage_of_many_moods(storage: Moody, tally: Tally, tmp_path: Path) -> None:
    """Nobody is told that all is well, unless it is."""
    fault = "artifacts: a storage that fails at random"
    chance = seeded(fault)
    storage.latency = 0.0
    quick: Dict[str, Any] = {
        "artifact_settle": 0.05,
        "end_session_delay": 0.05,
        "upload_timeout": 1.0,
        "upload_retry_delay": 0.01,
    }
    lost = 0
    with LocalRuntime("shell", root=str(tmp_path), **quick) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m")
        for number in range(tries(8, 200)):
            tally.tried(fault)
            storage.stored.clear()
            storage.moods = moods_of(chance)
            names = [f"{number}-{each}" for each in range(chance.randint(1, 8))]
            script = "; ".join(f"echo {name} > out-{number}/{name}" for name in names)
            try:
                client.execute_commands(
                    [script], artifacts_dirs=[f"out-{number}"], on_artifact_upload_request=storage.answer_for
                )
            except ArtifactUploadError:
                lost += 1
                assert len(storage.stored) < len(names)
            else:
                assert storage.stored == {name: f"{name}\n".encode() for name in names}
            tally.survived(fault)
    # Both kinds of ends were seen.
    assert lost > 0


def versions_in_a_row(client: RuntimeUseClient, storage: Moody, root: Path, name: str, versions: List[bytes]) -> None:
    """Has a file uploaded, and put into its place the next version, whenever one is about to be uploaded."""

    def answer(request: Any) -> ArtifactUploadResult:
        if versions:
            (root / "next").write_bytes(versions.pop())
            (root / "next").replace(root / name / "file")
        else:
            (root / name / ".artifactignore").touch()
        return storage.answer_for(request)

    # Until the last one is announced: a file that changes after the end is nobody's.
    script = f"echo first > {name}/file; until [ -e {name}/.artifactignore ]; do sleep 0.02; done"
    client.execute_commands([script], artifacts_dirs=[name], on_artifact_upload_request=answer, timeout=300)


def test_files_that_change_while_they_are_uploaded(storage: Moody, tally: Tally, tmp_path: Path) -> None:
    fault = "artifacts: versions of a file in a row"
    chance = seeded(fault)
    quick: Dict[str, Any] = {"artifact_settle": 0.02, "artifact_scan_interval": 0.01, "end_session_delay": 0.05}
    with LocalRuntime("shell", root=str(tmp_path), **quick) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m")
        for number in range(tries(5, 100)):
            tally.tried(fault)
            storage.latency = chance.uniform(0.0, 0.3)
            versions = [b"%d" % version * chance.choice([1, 1000, 100_000]) for version in range(chance.randint(1, 5))]
            last = versions[0]
            versions_in_a_row(client, storage, tmp_path, f"out-{number}", versions)
            assert storage.stored["file"] == last
            tally.survived(fault)
