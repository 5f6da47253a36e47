"""Artifacts: which files are announced, when, and how often."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runtimeuse_sync.runtime.artifacts.scanner import Scanner

from ..support.servers import PATIENCE
from ..support.storage import Storage
from .announced import CONFIRM, REQUEST, announced, end_and_answer, files
from .conftest import Connect
from .wire import CANCELLED, Wire, named

RESULT = "command_execution_result_message"


def test_what_the_first_look_finds_is_announced_at_once(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(artifact_settle=60.0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    messages = wire.commands("true", artifacts_dirs=["out"])
    assert named(messages) == [(REQUEST, "old.txt"), (RESULT, None)]
    assert messages[0]["filepath"] == str(tmp_path / "out" / "old.txt")
    wire.answer(messages[0], storage.url + "/old?sig=1", "text/css")
    [put] = storage.wait_for(1)
    assert (put.path, put.body, put.headers["Content-Type"]) == ("/old?sig=1", b"old", "text/css")
    assert put.headers["Content-Length"] == "3"


def test_a_late_file_is_announced_once_it_is_stable(talk: Connect, storage: Storage) -> None:
    wire = talk(artifact_settle=0.4)
    started = time.monotonic()
    late = announced(wire, wire.commands("echo done > out/report.txt", artifacts_dirs=["out"]))
    assert late["filename"] == "report.txt"
    assert time.monotonic() - started >= 0.4
    wire.answer(late, storage.url + "/report")
    assert storage.wait_for(1)[0].body == b"done\n"
    assert named(wire.end()) == [(CONFIRM, None)]


def test_a_file_that_keeps_changing_is_not_stable(tmp_path: Path) -> None:
    scanner = Scanner(settle=2.0)
    scanner.add(str(tmp_path), None)
    assert scanner.scan(0.0) == []
    log = tmp_path / "log"
    for now in range(1, 11):  # on the scanner's clock, and always sooner than it settles
        with log.open("a") as opened:
            opened.write("more\n")
        assert scanner.scan(float(now)) == []
    assert scanner.scan(11.9) == []
    [due] = scanner.scan(12.0)
    assert due.path == str(log)
    scanner.announced(due)
    assert scanner.scan(100.0) == []


def test_a_file_written_at_the_last_instant_is_not_lost(talk: Connect, storage: Storage) -> None:
    wire = talk(artifact_settle=0.5, end_session_delay=0.0)
    wire.commands("true", artifacts_dirs=["out"])
    ran = wire.commands("echo 1 > out/one; mkdir out/sub; echo 2 > out/sub/two")
    received = end_and_answer(wire, storage.url, ran)
    assert files(received) == ["one", "two"]
    # Confirmed only when they have arrived.
    assert sorted(put.path for put in storage.received) == ["/one?sig=x", "/two?sig=x"]


def test_a_file_that_never_settles_is_announced_at_the_end(talk: Connect, storage: Storage) -> None:
    wire = talk(artifact_settle=0.5, end_session_delay=0.1)
    ran = wire.commands("(while echo x; do sleep 0.05; done) > out/growing 2> /dev/null &", artifacts_dirs=["out"])
    received = end_and_answer(wire, storage.url, ran)
    # Once, unless what writes it was held up for so long that it looked stable before.
    assert set(files(received)) == {"growing"}
    assert len(storage.received) == len(files(received))


def test_files_that_come_while_the_session_ends(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(artifact_settle=0.1, end_session_delay=3.0)
    wire.commands("true", artifacts_dirs=["out"])
    wire.send("end_session_message")
    # Taken by the runtime, since it does so in order; what it says of the request is not of interest.
    wire.cancel()
    (tmp_path / "out" / "late").write_text("late\n")
    wire.answer(wire.expect(REQUEST), storage.url + "/late")
    assert named(wire.receive_until(CONFIRM)) == [(CONFIRM, None)]
    assert [put.body for put in storage.received] == [b"late\n"]


def test_which_files_are_artifacts(wire: Wire, storage: Storage) -> None:
    script = """
        mkdir -p out/sub/deep out/node_modules out/sub/__pycache__
        echo a > out/a.txt; echo b > out/sub/deep/b.txt; : > out/empty
        echo c > out/node_modules/c.js; echo d > out/sub/__pycache__/d.pyc; : > out/.artifactignore
        mkfifo out/fifo; ln -s a.txt out/link; ln -s nowhere out/broken; ln -s /etc out/etc
    """
    wire.commands("true", artifacts_dirs=["out"])
    ran = wire.commands(script.replace(": > out/.artifactignore", "true"))
    assert files(end_and_answer(wire, storage.url, ran)) == ["a.txt", "b.txt", "link"]


def test_rules_from_the_request_come_first(wire: Wire) -> None:
    script = "mkdir -p out/env out/logs; echo '*.txt' > out/.artifactignore; cd out; touch x"
    files_of = "for f in a.txt a.log keep.log env/e logs/l.log; do echo x > $f; done"
    wire.commands(f"{script}; {files_of}")
    rules = "*.log\n!keep.log\n\n# no\n[z-a]\n"
    messages = wire.commands("true", artifacts_dirs=["out"], artifacts_ignore_content=rules)
    # What is a rule in the directory's own file, or built in, is none here.
    assert files(messages) == ["a.txt", "e", "keep.log"]


def test_rules_in_the_directory_are_read_again(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(artifact_settle=0.05)
    out = tmp_path / "out"
    (out / "env").mkdir(parents=True)
    for name in ("a.txt", "b.log", "env/e"):
        (out / name).write_text("x")
    (out / ".artifactignore").write_text("*.txt\n*.log\nenv/\n")
    assert named(wire.commands("true", artifacts_dirs=["out"])) == [(RESULT, None)]
    # In one step: for a moment, a file that is written anew is empty, and has no rules.
    (tmp_path / "rules").write_text("*.log\n# longer than before\nenv/\n")
    os.replace(str(tmp_path / "rules"), str(out / ".artifactignore"))
    assert files([wire.receive()]) == ["a.txt"]
    (out / ".artifactignore").unlink()
    assert files([wire.receive()]) == ["b.log"]


def test_a_file_that_changes_is_announced_again(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(artifact_settle=0.05)
    came = wire.commands("echo 1 > out/a", artifacts_dirs=["out"])
    for content in (b"1\n", b"1\n2\n"):
        request = announced(wire, came)
        assert files([request]) == ["a"]
        wire.answer(request, storage.url + "/a")
        storage.wait_for(1)
        assert storage.received.pop().body == content
        if content == b"1\n":
            came = wire.commands("echo 2 >> out/a")


def test_a_file_that_has_gone_and_comes_again_is_announced_again(tmp_path: Path) -> None:
    scanner = Scanner(settle=1.0)
    scanner.add(str(tmp_path), None)
    file, kept = tmp_path / "a", tmp_path.parent / "kept"
    file.write_text("x")
    [due] = scanner.scan(0.0)
    scanner.announced(due)
    # The very same, moved away and back: nothing but the look between the two tells.
    file.rename(kept)
    assert scanner.scan(1.0) == []
    kept.rename(file)
    assert scanner.scan(2.0) == []
    assert [each.path for each in scanner.scan(3.0)] == [str(file)]


def test_directories_accumulate_and_no_file_comes_twice(talk: Connect, tmp_path: Path) -> None:
    wire = talk(artifact_settle=0.05)
    for name in ("one/a", "two/b", "three/c"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    assert files(wire.commands("true", artifacts_dir="one", artifacts_dirs=["two", "one"])) == ["a", "b"]
    assert files(wire.commands("true", artifacts_dirs=["two", str(tmp_path / "three"), "."])) == ["c"]
    (tmp_path / "one" / "new").write_text("x")
    assert files([wire.receive()]) == ["new"]
    wire.assert_idle()


def test_a_cancel_during_the_first_look_does_not_end_the_watching(
    talk: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on = threading.Event(), threading.Event()
    scan = Scanner.scan

    def slow_scan(self: Scanner, *args: Any) -> Any:
        looking.set()
        assert go_on.wait(PATIENCE)
        return scan(self, *args)

    monkeypatch.setattr(Scanner, "scan", slow_scan)
    wire = talk(artifact_settle=0.05)
    wire.send_commands("true", artifacts_dirs=["out"])
    assert looking.wait(PATIENCE)
    wire.cancel()
    go_on.set()
    assert wire.receive() == CANCELLED
    (tmp_path / "out" / "late").write_text("x")
    assert files([wire.receive()]) == ["late"]


def test_pipes_are_waited_on_nowhere(
    talk: Connect, storage: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wire = talk(artifact_settle=0.05)
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / ".artifactignore")
    request = announced(wire, wire.commands("echo x > out/file", artifacts_dirs=["out"]))
    (tmp_path / "out" / "file").unlink()
    os.mkfifo(tmp_path / "out" / "file")
    wire.answer(request, storage.url + "/file")
    assert named(wire.end()) == [(CONFIRM, None)]
    assert storage.received == []
    assert "failed: not a regular file any more" in caplog.text


def test_both_spellings_of_the_field(talk: Connect, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("x")
    for fields in ({"artifacts_dir": "out"}, {"artifacts_dirs": ["out"]}):
        assert files(talk().query("true", **fields)) == ["a"]


def test_a_session_without_directories_ends_at_once(talk: Connect) -> None:
    wire = talk(end_session_delay=60.0)
    assert named(wire.end()) == [(CONFIRM, None)]


def test_a_directory_that_cannot_be_made_is_an_error(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    [answer] = wire.commands("true", artifacts_dirs=["file/below"])
    assert answer["metadata"]["error_name"] == "NotADirectoryError"
    wire.assert_idle()


def test_artifacts_of_a_cancelled_request_still_come(talk: Connect, storage: Storage) -> None:
    wire = talk(artifact_settle=0.05)
    wire.send_commands("echo x > out/x; sleep 60", artifacts_dirs=["out"])
    assert files([wire.receive()]) == ["x"]
    wire.cancel()
    assert wire.receive()["error"] == "Request cancelled"
    assert announced(wire, wire.commands("echo y > out/y"))["filename"] == "y"
