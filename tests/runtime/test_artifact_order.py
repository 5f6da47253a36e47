"""Artifacts: how many are uploaded at once, and in which order the versions of one file arrive."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Iterator

import pytest

from .announced import CONFIRM, REQUEST
from .conftest import Connect
from .held_storage import HeldStorage, held_storage
from .wire import Message, Wire, named

#: More than the buffers of both sides hold, so that an upload that is not read stays half-way.
LARGE = 32 * 1024 * 1024


@pytest.fixture
def storage() -> Iterator[HeldStorage]:
    with held_storage() as storage:
        yield storage


@pytest.fixture
def wire(talk: Connect) -> Wire:
    return talk(artifact_settle=0.05, end_session_delay=0.05, upload_timeout=60.0)


def new_version(wire: Wire, out: Path, content: bytes) -> Message:
    """Puts a file into the watched directory; returns its announcement."""
    # At once: no half of it is ever seen.
    (out.parent / "next").write_bytes(content)
    (out.parent / "next").replace(out / "file")
    return wire.expect(REQUEST)


@pytest.fixture
def out(wire: Wire, tmp_path: Path) -> Path:
    wire.commands("true", artifacts_dirs=["out"])
    return tmp_path / "out"


def test_many_files_are_uploaded_at_once(talk: Connect, storage: HeldStorage, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for number in range(40):
        (tmp_path / "out" / str(number)).write_text(str(number))
    wire = talk(end_session_delay=0.05, upload_timeout=60.0)
    storage.held = None
    for request in wire.commands("true", artifacts_dirs=["out"])[:-1]:
        wire.answer(request, f"{storage.url}/{request['filename']}?sig=x")
    wire.send("end_session_message")
    assert storage.wait_for("begun", 32)
    storage.release()
    assert named(wire.receive_until(CONFIRM)) == [(CONFIRM, None)]
    assert sorted(storage.all("stored"), key=int) == [str(number) for number in range(40)]
    # No more: each has a thread, a socket and an open file.
    assert storage.most == 32


def test_a_newer_version_waits_for_an_older_one_that_may_have_arrived(
    wire: Wire, out: Path, storage: HeldStorage
) -> None:
    storage.held = ["/1"]
    wire.answer(new_version(wire, out, b"older"), storage.url + "/1?sig=x")
    assert storage.wait_for("begun")
    wire.answer(new_version(wire, out, b"newer"), storage.url + "/2?sig=x")
    wire.assert_idle()
    # The runtime has got the answer for it.
    assert not storage.wait_for("begun", 2, seconds=0.3)
    storage.release()
    assert named(wire.end()) == [(CONFIRM, None)]
    assert storage.log == [("begun", "/1"), ("stored", "older"), ("begun", "/2"), ("stored", "newer")]


def test_an_older_version_that_cannot_have_arrived_is_given_up(
    wire: Wire, out: Path, storage: HeldStorage, caplog: pytest.LogCaptureFixture
) -> None:
    storage.unread = ["/1"]
    wire.answer(new_version(wire, out, b"o" * LARGE), storage.url + "/1?sig=x")
    assert storage.wait_for("begun")
    with caplog.at_level(logging.INFO):
        wire.answer(new_version(wire, out, b"newer"), storage.url + "/2?sig=x")
        # While the storage still does not read the older one.
        assert storage.wait_for("stored")
        storage.release()
        assert named(wire.end()) == [(CONFIRM, None)]
    assert storage.wait_for("broken off")
    assert storage.all("stored") == ["newer"]
    assert "given up for a newer version" in caplog.text


def test_of_versions_that_wait_only_the_newest_is_uploaded(wire: Wire, out: Path, storage: HeldStorage) -> None:
    storage.held = ["/1"]
    for number, content in enumerate((b"first", b"second", b"third"), 1):
        wire.answer(new_version(wire, out, content), f"{storage.url}/{number}?sig=x")
        assert storage.wait_for("begun")
    wire.assert_idle()
    storage.release()
    assert named(wire.end()) == [(CONFIRM, None)]
    assert storage.all("begun") == ["/1", "/3"]
    assert storage.all("stored") == ["first", "third"]


def test_files_of_other_paths_do_not_wait(wire: Wire, out: Path, storage: HeldStorage) -> None:
    storage.held = ["/1"]
    wire.answer(new_version(wire, out, b"held"), storage.url + "/1?sig=x")
    assert storage.wait_for("begun")
    (out / "other").write_bytes(b"other")
    wire.answer(wire.expect(REQUEST), storage.url + "/2?sig=x")
    assert storage.wait_for("stored")
    assert storage.all("stored") == ["other"]
    storage.release()
    assert named(wire.end()) == [(CONFIRM, None)]
