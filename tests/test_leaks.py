"""The fixture that catches leaks: a real run of pytest on tests that leak."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Dict
from xml.etree import ElementTree

import pytest

from .support.processes import CHILD_LIMIT

ROOT = pathlib.Path(__file__).parent.parent

CONFTEST = """
import pytest
from tests.support import leaks
from tests.conftest import *  # the fixtures and hooks of this project


@pytest.fixture(autouse=True)
def grace(request):
    # Nothing comes of waiting for what is there to stay; on a busy machine a straggler may need its time.
    leaks.GRACE_SECONDS, leaks.GRACE_LOOKS = (0.1, 1) if request.node.name.startswith("test_leaks") else (20, 1)
"""

LEAKING_TESTS = """
import atexit, os, socket, subprocess, sys, tempfile, threading, time
import pytest

kept = []
ended = threading.Event()
atexit.register(ended.set)


@pytest.fixture(scope="module")
def shared_pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_leaks_thread():
    threading.Thread(target=ended.wait, name="runtimeuse-leaked", daemon=True).start()

def test_leaks_socket():
    kept.append(socket.socket())

def test_leaks_pipe():
    kept.append(os.pipe())

def test_leaks_file(tmp_path):
    kept.append(open(tmp_path / "left-open", "w"))

def test_leaks_child():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_leaks_zombie():
    kept.append(subprocess.Popen([sys.executable, "-c", ""]))
    os.waitid(os.P_PID, kept[-1].pid, os.WEXITED | os.WNOWAIT)

def test_leaks_temporary_directory():
    tempfile.mkdtemp(prefix="runtimeuse-")


def test_clean_straggler():
    threading.Thread(target=time.sleep, args=(0.05,), name="runtimeuse-straggler").start()

def test_clean_garbage():
    class Cycle:
        def __init__(self):
            self.me, self.socket = self, socket.socket()
        def __del__(self):
            self.socket.close()
    Cycle()

def test_clean_shared_fixture(shared_pipe, tmp_path):
    (tmp_path / "file").write_text("")

def test_clean_foreign_thread():
    threading.Thread(target=ended.wait, name="somebody-elses", daemon=True).start()

def test_clean_after_failure():
    left = socket.socket()
    kept.append(left)
    raise RuntimeError("the one fault to be told of")

@pytest.mark.leaks_allowed("to see that it can be")
def test_clean_with_mark():
    kept.append(socket.socket())

@pytest.mark.leaks_allowed()
def test_leaks_allowed_without_reason():
    pass
"""

LEAKS = {
    "test_leaks_thread": "live thread: runtimeuse-leaked, in ",
    "test_leaks_socket": "socket:[",
    "test_leaks_pipe": "pipe:[",
    "test_leaks_file": "left-open",
    "test_leaks_child": "input()",
    "test_leaks_zombie": "nobody has waited for it",
    "test_leaks_temporary_directory": "temporary file: ",
    "test_leaks_allowed_without_reason": "leaks_allowed needs its reason",
}
CLEAN = [
    "test_clean_straggler",
    "test_clean_garbage",
    "test_clean_shared_fixture",
    "test_clean_foreign_thread",
    "test_clean_after_failure",
    "test_clean_with_mark",
]

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are listed on Linux only")


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """What the run said against each test's teardown or setup; the empty string where it said nothing."""
    directory = tmp_path_factory.mktemp("leaking")
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_leaking.py").write_text(LEAKING_TESTS)
    (directory / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    report = directory / "report.xml"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", f"--junit-xml={report}", str(directory)],
        cwd=str(directory),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CHILD_LIMIT,
        check=False,
    )
    assert report.exists(), run.stdout
    cases = list(ElementTree.parse(str(report)).iter("testcase"))
    return {
        case.get("name", ""): "\n".join((error.text or "") + error.get("message", "") for error in case.iter("error"))
        for case in cases
    }


@pytest.mark.parametrize("name", sorted(LEAKS))
def test_a_leak_fails_its_test(complaints: Dict[str, str], name: str) -> None:
    assert LEAKS[name] in complaints[name]


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_said_against_a_test_that_leaves_nothing(complaints: Dict[str, str], name: str) -> None:
    assert complaints[name] == ""


def test_every_case_was_run(complaints: Dict[str, str]) -> None:
    assert set(complaints) == {*LEAKS, *CLEAN}
