"""Finding and signalling whole groups of processes. Plain functions; no threads or tasks run here.

Only a shell's parent learns of its exit; that of its children and grandchildren has to be looked for, in /proc where
there is one.
"""

import os
import signal
from typing import Dict, Iterator, List, Optional, Tuple

_PROC = "/proc"


def signal_group(group: int, number: int) -> None:
    """Sends a signal to every process of the group; it is no error if there is none any more."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # macOS answers EPERM for a group of nothing but zombies.
        return


def group_exists(group: int) -> bool:
    """Returns whether there is a process of the group, or a zombie of it that has not been reaped."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def has_proc() -> bool:
    """Returns whether processes can be looked for."""
    return os.path.isdir(_PROC)


def live_groups() -> Dict[int, List[int]]:
    """Returns the processes of each group that have not ended (a zombie has, whoever should reap it)."""
    groups: Dict[int, List[int]] = {}
    for pid in _pids():
        stat = _read_stat(pid)
        if stat is not None and stat[0] not in "ZX":
            groups.setdefault(stat[1], []).append(pid)
    return groups


def is_alive_in(group: int, pid: int) -> bool:
    """Returns whether the process has not ended, and is in the group."""
    stat = _read_stat(pid)
    return stat is not None and stat[0] not in "ZX" and stat[1] == group


def processes_with(variable: str, value: str) -> List[int]:
    """Returns the ids of the processes that were started with this in their environment; none where there is no /proc.

    The variable may hold several values, with colons between them.

    Unlike a group, which a daemon leaves and whose number is used again, an environment stays with its process.
    """
    name, wanted = f"{variable}=".encode(), value.encode()
    found = []
    for pid in _pids():
        try:
            with open(f"{_PROC}/{pid}/environ", "rb") as environment:
                content = environment.read()
        except OSError:
            continue  # ended since, or somebody else's
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
    """Sends a signal to each process; it is no error if one has ended."""
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
            # The name stands in parentheses and may hold anything, also parentheses and blanks.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (fields[0].decode(), int(fields[2])) if len(fields) > 2 else None
