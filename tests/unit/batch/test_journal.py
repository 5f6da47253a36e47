"""The journal: killed at any byte, damaged, of others, in use, full; no secrets in it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, List, Optional

import pytest

from runtimeuse_sync import AgentRuntimeError, QueryOptions, QueryResult, TextResult
from runtimeuse_sync.batch import Job, JournalError
from runtimeuse_sync.batch._journal import HEADER, Journal
from runtimeuse_sync.batch._outcomes import Done

from ...reliability import children

HEAD = json.dumps(HEADER).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.jsonl"


def done(text: str) -> Done:
    return Done(QueryResult(TextResult(text)), None, 0.5)


def write(path: Path, *numbers: int) -> None:
    journal = Journal(path)
    for number in numbers:
        journal.record(f"id:{number}", job(number), done(f"résult {number}"))
    journal.close()


def job(number: int) -> Job:
    return Job(f"prompt {number}", id=str(number))


def results(path: Path, count: int = 3) -> List[Optional[str]]:
    journal = Journal(path)
    try:
        found = [journal.result_of(f"id:{number}", job(number)) for number in range(count)]
        return [str(each.result) if each else None for each in found]
    finally:
        journal.close()


def test_what_is_recorded_is_found_again(path: Path) -> None:
    write(path, 0, 1)
    write(path, 2)
    assert results(path) == ["résult 0", "résult 1", "résult 2"]
    assert results(path, 4)[3] is None


def test_the_last_record_of_a_job_counts_and_a_failure_is_no_result(path: Path) -> None:
    journal = Journal(path)
    journal.record("id:0", job(0), Done(None, AgentRuntimeError("no"), 0.5))
    journal.record("id:1", job(1), done("résult 1"))
    journal.record("id:1", job(1), Done(None, AgentRuntimeError("no"), 0.5))
    journal.record("id:2", job(2), Done(None, AgentRuntimeError("no"), 0.5))
    journal.record("id:2", job(2), done("résult 2"))
    assert journal.knows("id:0")
    assert not journal.is_empty
    journal.close()
    journal.close()
    assert results(path) == [None, None, "résult 2"]


def test_a_process_that_was_killed_at_any_byte(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded before the last line is there; the journal can be continued, and is whole then."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    write(path, 0, 1)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        # Whether the last byte is there does not matter: without it, the record is complete all the same.
        known = [size >= len(lines[0] + lines[1]) - 1, size >= len(whole) - 1]
        assert [each is not None for each in results(path, 2)] == known, size
        write(path, 0, 1, 2)
        assert results(path) == ["résult 0", "résult 1", "résult 2"]
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_zeros_where_the_power_was_lost(path: Path) -> None:
    write(path, 0)
    with path.open("ab") as file:
        file.write(b"\0" * 100)
    assert results(path) == ["résult 0", None, None]
    write(path, 1)
    assert results(path) == ["résult 0", "résult 1", None]


NOT_RECORDS = (
    b"",
    b"{",
    b"[]",
    b"3",
    b'{"job": "id:1"}',
    b"\0\0",
    b"\xff",
    b'{"job": 3, "digest": "", "result": 1, "error": null}',
)


@pytest.mark.parametrize("line", NOT_RECORDS)
def test_a_damaged_line_in_the_middle(path: Path, line: bytes) -> None:
    write(path, 0, 1)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + line + b"\n" + third)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="is damaged: line 3 is not the record of a job"):
        Journal(path)
    assert path.read_bytes() == before
    path.write_bytes(first + second + third)
    assert results(path, 2) == ["résult 0", "résult 1"], "it is not locked any more"


def test_a_damaged_result(path: Path) -> None:
    write(path, 0)
    path.write_bytes(path.read_bytes().replace(b'"type": "query"', b'"type": "quary"'))
    with pytest.raises(JournalError, match=r"the result of Job\(id='0'.* is damaged"):
        results(path)


@pytest.mark.parametrize("content", [b"name,age\nx,3\n", b"x", b'{"a": 1}\n{"b": 2}\n', b"[1]\n", HEAD[5:]])
def test_a_file_that_is_no_journal_stays_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match="is no journal of run_many; it is left as it is"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_journal_of_a_later_version(path: Path) -> None:
    path.write_bytes(json.dumps({**HEADER, "version": 2}).encode() + b"\n")
    with pytest.raises(JournalError, match="has the version 2"):
        Journal(path)


def test_a_journal_of_other_jobs(path: Path) -> None:
    write(path, 0)
    journal = Journal(path)
    with pytest.raises(JournalError, match="the job with the id '0' had another content"):
        journal.result_of("id:0", Job("another prompt", id="0"))
    assert isinstance(JournalError("x"), ValueError)
    journal.close()


def test_only_one_uses_it(path: Path) -> None:
    write(path, 0)
    journal = Journal(path)
    with pytest.raises(JournalError, match="is in use"):
        Journal(path)
    journal.close()
    Journal(path).close()


FORK = """
import os, sys
from runtimeuse_sync.batch._journal import Journal

journal = Journal(sys.argv[1])
reader, writer = os.pipe()
begun, begins = os.pipe()
pid = os.fork()
if pid == 0:
    # A worker of a pool, say, which outlives the process that forked it.
    os.close(writer)
    os.write(begins, b"!")
    os.read(reader, 1)
    os._exit(0)
os.read(begun, 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_forked_process_does_not_keep_the_lock(path: Path, how: str) -> None:
    if how == "closed":
        script = FORK + "journal.close(); Journal(sys.argv[1]).close(); os.close(writer); os.waitpid(pid, 0)"
        children.run(script, str(path))
        return
    # Its output is nobody's: the forked process would keep a pipe open.
    script = FORK + "print(pid, flush=True); os.read(0, 1); os.kill(os.getpid(), 9)"
    with children.started(f"import os; os.close(2)\n{script}", str(path)) as child:
        assert child.stdout is not None
        int(child.stdout.readline())
        child.kill()
        child.wait()
        Journal(path).close()


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so, and the file ends with a whole line."""
    write(path, 0)
    journal = Journal(path)
    file = journal._file

    class Full:
        """Takes a few bytes more."""

        room = 10

        def write(self, data: bytes) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = file.write(data[: self.room])
            self.room = 0
            return written or 0

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

    full: Any = Full()
    monkeypatch.setattr(journal, "_file", full)
    with pytest.raises(OSError, match="No space left"):
        journal.record("id:1", job(1), done("x"))
    Full.room = 0
    monkeypatch.setattr(journal, "_file", file)
    journal.record("id:2", job(2), done("résult 2"))
    journal.close()
    assert results(path) == ["résult 0", None, "résult 2"]


def test_an_interrupt_while_it_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded again must not be glued to half a line."""
    write(path, 0)
    journal = Journal(path)
    file = journal._file

    class Interrupted:
        def write(self, data: bytes) -> int:
            file.write(data[:10])
            raise KeyboardInterrupt

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

    interrupted: Any = Interrupted()
    monkeypatch.setattr(journal, "_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.record("id:1", job(1), done("x"))
    monkeypatch.setattr(journal, "_file", file)
    journal.record("id:1", job(1), done("résult 1"))
    journal.close()
    assert results(path) == ["résult 0", "résult 1", None]


def test_it_has_neither_prompts_nor_secrets(path: Path) -> None:
    options = QueryOptions(agent_env={"TOKEN": "hunter-2"}, secrets_to_redact=["hunter-3"], system_prompt="hunter-4")
    asked = Job("hunter-1", options=options, id="x")
    journal = Journal(path)
    journal.record("id:x", asked, done("fine"))
    journal.record("id:x", asked, Done(None, LookupError("hunter-2 hunter-3"), 0.5))
    journal.close()
    assert b"hunter" not in path.read_bytes()


@pytest.mark.parametrize("where", ["missing/runs.jsonl", "."])
def test_a_place_where_no_file_can_be(tmp_path: Path, where: str) -> None:
    with pytest.raises((FileNotFoundError, IsADirectoryError)):
        Journal(tmp_path / where)
