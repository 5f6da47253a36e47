"""Finds and signals processes and process groups.

The system notifies the runtime only of the exit of its own shells. The shells' descendants have to be looked up in
/proc, on systems that have it.

Threads: no state. `live_groups` and `processes_with`, which read all of /proc, are called in worker threads; the other
functions on the event loop.
"""

import os
import signal
from typing import Dict, Iterator, List, Optional, Tuple

_PROC = "/proc"


def signal_group(group: int, number: int) -> None:
    """Sends a signal to every process of the group, if there are any."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # macOS reports EPERM for a group of zombies only.
        return


def group_exists(group: int) -> bool:
    """Returns whether the group has a process, or a zombie that has not been reaped."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def has_proc() -> bool:
    """Returns whether this system has /proc."""
    return os.path.isdir(_PROC)


def live_groups() -> Dict[int, List[int]]:
    """Returns the running processes of each group; zombies count as ended."""
    groups: Dict[int, List[int]] = {}
    for pid in _pids():
        stat = _read_stat(pid)
        if stat is not None and stat[0] not in "ZX":
            groups.setdefault(stat[1], []).append(pid)
    return groups


def is_alive_in(group: int, pid: int) -> bool:
    """Returns whether the process is running and is in the group."""
    stat = _read_stat(pid)
    return stat is not None and stat[0] not in "ZX" and stat[1] == group


def processes_with(variable: str, value: str) -> List[int]:
    """Returns the ids of the processes that were started with a value in an environment variable.

    The variable may have several values, separated by colons. A process keeps its environment, while a daemon leaves
    its group, and the numbers of groups are reused. Without /proc, no process is found.
    """
    name, wanted = f"{variable}=".encode(), value.encode()
    found = []
    for pid in _pids():
        try:
            with open(f"{_PROC}/{pid}/environ", "rb") as environment:
                content = environment.read()
        except OSError:
            continue  # ended since, or another user's
        if wanted not in content:
            continue
        if any(wanted in entry[len(name) :].split(b":") for entry in content.split(b"\0") if entry.startswith(name)):
            found.append(pid)
    return found


def in_group(group: int, pids: List[int]) -> List[int]:
    """Returns those of the processes that are in the group."""
    members = []
    for pid in pids:
        try:
            if os.getpgid(pid) == group:
                members.append(pid)
        except ProcessLookupError:
            continue
    return members


def signal_processes(pids: List[int], number: int = signal.SIGKILL) -> None:
    """Sends a signal to each process that has not ended."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _pids() -> Iterator[int]:
    if has_proc():
        for name in os.listdir(_PROC):
            if name.isdigit():
                yield int(name)


def _read_stat(pid: int) -> Optional[Tuple[str, int]]:
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            # The process's name is in parentheses, and may itself contain parentheses and spaces.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (fields[0].decode(), int(fields[2])) if len(fields) > 2 else None
