"""Looking up the addresses of a host without being held up by it.

The operating system's look-up cannot be interrupted. So a name is looked up in a thread of its own, which whoever
connects leaves to itself when the time is over. All who ask for the same name while it is looked up share one thread:
a resolver that hangs holds one thread for each name, however often connecting is tried. Literal addresses and
`localhost`, which no network is asked for, need none.

Threads: `runtimeuse-lookup-N`, a daemon, looks up; any connection's thread asks. No locks, which a forked child could
inherit held: each step on the shared dict is one of its own atomic methods, and whoever wakes has written before.
"""

import itertools
import os
import socket
from typing import Callable, Dict, List, Optional, Tuple

from .._threads import new_thread, start_directly
from ..errors import RuntimeUseError
from .http import OpeningFailed
from .opener import Addresses

_numbers = itertools.count(1)

#: The look-ups under way, by process, host and port. A child that was forked has the dict, but not the threads.
_under_way: Dict[Tuple[int, str, int], "_LookUp"] = {}


def look_up(host: str, port: int, wake: Callable[[], None], wait: Callable[[], None]) -> Addresses:
    """Returns the addresses of a host, as `socket.getaddrinfo` does.

    Args:
        host: Its name, or a literal address.
        port: What goes into the addresses.
        wake: Ends a `wait`; called from the look-up's thread.
        wait: Blocks until `wake` has been called; may raise, to give up, and may return earlier.

    Raises:
        OpeningFailed: the host has no address, or nobody knows.
    """
    try:
        addresses = _literal(host, port)
        return _in_thread(host, port, wake, wait) if addresses is None else addresses
    except (socket.gaierror, UnicodeError) as error:
        temporary = isinstance(error, socket.gaierror)
        raise OpeningFailed(f"the host name {host} cannot be resolved: {error}", retryable=temporary) from None


def _literal(host: str, port: int) -> Optional[Addresses]:
    """Returns the addresses of a host that no resolver is asked for; `None` for any other."""
    if ":" in host or host == "localhost":
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, UnicodeError):
        return None
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]


def _in_thread(host: str, port: int, wake: Callable[[], None], wait: Callable[[], None]) -> Addresses:
    new = _LookUp((os.getpid(), host, port))
    found = _under_way.setdefault(new.key, new)
    found.listeners.append(wake)
    try:
        if found is new:
            new.start()
        while not found.done:
            wait()
    finally:
        found.listeners.remove(wake)
    if found.error is not None:
        raise found.error
    return found.addresses


class _LookUp:
    """One look-up, for all who want to know.

    Attributes:
        key: Process, host and port.
        listeners: What wakes those who wait for it.
        done: Whether it has ended, by then with `addresses` or an `error`.
    """

    def __init__(self, key: Tuple[int, str, int]) -> None:
        self.key = key
        self.listeners: List[Callable[[], None]] = []
        self.done = False
        self.addresses: Addresses = []
        self.error: Optional[BaseException] = None

    def start(self) -> None:
        try:
            start_directly(new_thread(self._run, f"runtimeuse-lookup-{next(_numbers)}"))
        except RuntimeUseError as error:
            self._end(OpeningFailed(str(error)))

    def _run(self) -> None:
        _, host, port = self.key
        try:
            self.addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        except BaseException as error:
            # Whatever it is, it is for those who wait.
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: Optional[BaseException]) -> None:
        self.error = error
        self.done = True
        _under_way.pop(self.key, None)
        for wake in self.listeners.copy():
            wake()
