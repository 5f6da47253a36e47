"""Finds what a test has left behind: threads, open descriptors, child processes, temporary files.

A `Snapshot` is taken before the test; `leaks_since` compares the process with it afterwards. Only what is new counts,
so whatever a fixture of a wider scope keeps open is nobody's leak.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import FrozenSet, Iterator, List, Set, Tuple

import psutil

# Our threads and temporary files carry this prefix; those of pytest and other packages are not looked at.
PREFIX = "runtimeuse"

# How long stragglers get. A one-shot call's reader thread, for one, may return just after the call that it served.
GRACE_SECONDS = 2.0
POLL_SECONDS = 0.01
# How often they are looked for in any case: what holds them up on a busy machine holds up each look, too.
GRACE_LOOKS = 100

DESCRIPTORS = "/proc/self/fd"

# What the interpreter and the test tools open when they like and keep for themselves.
TOLERATED_FILES = ("/dev/null", "/dev/random", "/dev/urandom")
TOLERATED_DIRECTORIES = ("/proc/", "/sys/")
TOLERATED_PARTS = ("/.coverage", "/.hypothesis/", "/.pytest_cache/")


@dataclass(frozen=True)
class Snapshot:
    """What the process held at one moment."""

    threads: FrozenSet[threading.Thread]
    descriptors: FrozenSet[Tuple[int, str]]
    children: FrozenSet[psutil.Process]
    temporary_directory: str
    temporary_entries: FrozenSet[str]

    @classmethod
    def take(cls, temporary_directory: str = "") -> Snapshot:
        """Look now. The temporary directory is the current one unless an earlier snapshot's is given."""
        directory = temporary_directory or tempfile.gettempdir()
        return cls(
            threads=frozenset(thread for thread in threading.enumerate() if thread.name.startswith(PREFIX)),
            descriptors=frozenset(_open_descriptors()),
            children=frozenset(_child_processes()),
            temporary_directory=directory,
            temporary_entries=frozenset(name for name in os.listdir(directory) if name.startswith(PREFIX)),
        )


def leaks_since(before: Snapshot) -> List[str]:
    """Describe each thing that is there now and was not before, once stragglers have had their time to go."""
    if not _new_since(before):
        return []
    # What only a reference cycle keeps alive is not held by anybody. If it should have been closed, its ResourceWarning
    # fails the test by itself.
    gc.collect()
    deadline = time.monotonic() + GRACE_SECONDS
    looks = 0
    while True:
        leaks = _new_since(before)
        looks += 1
        if not leaks or (looks >= GRACE_LOOKS and time.monotonic() >= deadline):
            return leaks
        time.sleep(POLL_SECONDS)


def _new_since(before: Snapshot) -> List[str]:
    now = Snapshot.take(before.temporary_directory)
    helper_pids, helper_descriptors = _multiprocessing_helpers()
    return [
        *(_describe_thread(thread) for thread in now.threads - before.threads),
        *(
            f"open descriptor {number}: {target}"
            for number, target in sorted(now.descriptors - before.descriptors)
            if number not in helper_descriptors
        ),
        *(_describe_process(child) for child in now.children - before.children if child.pid not in helper_pids),
        *(
            f"temporary file: {os.path.join(before.temporary_directory, name)}"
            for name in sorted(now.temporary_entries - before.temporary_entries)
        ),
    ]


def _open_descriptors() -> Iterator[Tuple[int, str]]:
    """Yield every open descriptor with what it leads to. The pair tells a reused number from a descriptor kept open."""
    if not os.path.isdir(DESCRIPTORS):  # only Linux has it
        return
    for name in os.listdir(DESCRIPTORS):
        try:
            target = os.readlink(os.path.join(DESCRIPTORS, name))
        except OSError:
            continue  # closed since: the listing's own descriptor always is
        if not _is_tolerated(target):
            yield int(name), target


def _is_tolerated(target: str) -> bool:
    return (
        target in TOLERATED_FILES
        or target.startswith(TOLERATED_DIRECTORIES)
        or any(part in target for part in TOLERATED_PARTS)
    )


def _child_processes() -> List[psutil.Process]:
    """All descendants. To look for them is dear, so first it is asked whether there is any child at all."""
    if sys.platform == "linux":
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []
    return psutil.Process().children(recursive=True)


def _multiprocessing_helpers() -> Tuple[Set[int], Set[int]]:
    """The process ids and descriptors of multiprocessing's helpers, which live until the interpreter ends."""
    pids: Set[int] = set()
    descriptors: Set[int] = set()
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    pids.add(getattr(tracker, "_pid", None) or -1)
    descriptors.add(getattr(tracker, "_fd", None) or -1)
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pids.add(getattr(server, "_forkserver_pid", None) or -1)
    descriptors.add(getattr(server, "_forkserver_alive_fd", None) or -1)
    return pids, descriptors


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or -1)
    where = f", in {frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})" if frame else ""
    return f"live thread: {thread.name}{where}"


def _describe_process(process: psutil.Process) -> str:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return f"child process {process.pid}: it has ended but nobody has waited for it"
        return f"child process {process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"child process {process.pid}: just ended"
