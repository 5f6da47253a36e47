"""From a host name to a TCP connection: looks up the name, and connects to the address that accepts first.

Name look-up: the operating system's look-up cannot be interrupted. So it runs in a thread of its own, which the
connection abandons when the time is over. All who ask for the same name at the same time share one look-up: a resolver
that hangs holds one thread for each name, however many attempts there are. Literal addresses and `localhost` need no
network, and so no thread.

Connecting: as in RFC 8305 ("Happy Eyeballs"), the next address is tried a quarter of a second after the one before, or
as soon as that fails, and the earlier ones may still succeed. A network may drop packets, as a sandbox's does while it
boots, and the operating system repeats them only after 1, 3, 7 and 15 s. So once all addresses have been tried without
success, they are tried again twice a second, with new sockets beside the first ones. All sockets are non-blocking, and
all but the one that is returned are closed.

Threads: the thread that will own the socket dials, and asks for look-ups; `runtimeuse-lookup-N`, a daemon, looks up.
There are no locks, which a forked child could inherit held: each step on the shared dict is one atomic method of it,
and the look-up writes its result before it wakes anybody.
"""

import errno
import itertools
import os
import socket
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from .._threads import new_thread, start_directly
from ..errors import RuntimeUseError
from .attempt import Addresses, Opener, OpeningFailed, OpeningInterrupted, os_failure

#: Seconds after which the next address is tried ("Connection Attempt Delay").
NEXT_AFTER = 0.25

#: Seconds from the last address's first attempt to the first retry, and from one retry to the next.
_FIRST_RETRY_AFTER = 1.0
RETRY_AFTER = 0.5

#: The most retries under way at a time, beside the first attempt of each address.
_MOST_RETRIES = 2

_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN)

_numbers = itertools.count(1)

#: The look-ups under way, by process, host and port: a forked child inherits the dict, but not the threads.
_under_way: Dict[Tuple[int, str, int], "_LookUp"] = {}


def look_up(host: str, port: int, wake: Callable[[], None], wait: Callable[[], None]) -> Addresses:
    """Returns the addresses of a host, as `socket.getaddrinfo` does.

    Args:
        host: Its name, or a literal address.
        port: The port to put into the addresses.
        wake: Ends a `wait`; called in the thread of the look-up.
        wait: Blocks until `wake` is called; may return earlier, and may raise to stop waiting.

    Raises:
        OpeningFailed: the host has no address, or it cannot be resolved.
    """
    try:
        addresses = _literal(host, port)
        return _in_thread(host, port, wake, wait) if addresses is None else addresses
    except (socket.gaierror, UnicodeError) as error:
        temporary = isinstance(error, socket.gaierror)
        raise OpeningFailed(f"the host name {host} cannot be resolved: {error}", retryable=temporary) from None


def _literal(host: str, port: int) -> Optional[Addresses]:
    """Returns the addresses of a host that needs no resolver; `None` for any other host."""
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
    """One look-up, for all who asked for it.

    Attributes:
        key: Process, host and port.
        listeners: The functions that wake those who wait for it.
        done: Whether it has ended; `addresses` or `error` is set by then.
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
            # Whatever it is: those who wait raise it.
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: Optional[BaseException]) -> None:
        self.error = error
        self.done = True
        _under_way.pop(self.key, None)
        for wake in self.listeners.copy():
            wake()


# Connecting.


def dial(addresses: Addresses, opener: Opener) -> socket.socket:
    """Returns a connection to one of the addresses.

    Raises:
        OpeningFailed: no address accepts a connection.
        OpeningInterrupted: the opener stopped the attempt.
    """
    race = _Race(opener)
    try:
        return race.run(interleaved(addresses))
    except OpeningInterrupted as interrupted:
        if race.failure is None:
            raise
        raise OpeningInterrupted(f"{interrupted}; one of the addresses: {race.failure}") from None
    finally:
        race.close()


def interleaved(addresses: Addresses) -> Addresses:
    """Returns the addresses with their families in turn, beginning with that of the first (RFC 8305 §4)."""
    families: Dict[int, List[Any]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [each for row in itertools.zip_longest(*families.values()) for each in row if each is not None]


class _Race:
    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        #: The sockets under way, in the order of their start, with their addresses.
        self._attempts: Dict[socket.socket, Any] = {}
        self._retries: Deque[socket.socket] = deque()
        self.failure: Optional[OpeningFailed] = None

    def run(self, addresses: Addresses) -> socket.socket:
        waiting = deque(addresses)
        rounds = itertools.cycle(addresses)
        next_at = self._opener.now()
        while waiting or self._attempts:
            now = self._opener.now()
            failure = self.failure
            if now < next_at and self._attempts:
                connected = self._wait(next_at - now)
                if waiting and self.failure is not failure:
                    next_at = now
            elif waiting:
                connected = self._start(waiting.popleft())
                pause = NEXT_AFTER if waiting else _FIRST_RETRY_AFTER
                next_at = now if waiting and self.failure is not failure else now + pause
            else:
                connected = self._retry(next(rounds))
                next_at = now + RETRY_AFTER
            if connected is not None:
                return connected
        raise self.failure or OpeningFailed("the host name has no address", not_accepted=True)

    def _start(self, address: Any) -> Optional[socket.socket]:
        """Starts to connect; returns the socket if it is connected at once."""
        family, kind, protocol, _, where = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            self.failure = os_failure(error, not_accepted=True)
            return None
        self._attempts[sock] = address
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(where)
        return None if code in _UNDER_WAY else self._ended(sock, code)

    def _retry(self, address: Any) -> Optional[socket.socket]:
        """Tries an address again: packets may arrive by now."""
        if len(self._retries) >= _MOST_RETRIES:
            self._give_up(self._retries[0])
        before = list(self._attempts)
        connected = self._start(address)
        self._retries.extend(sock for sock in self._attempts if sock not in before)
        return connected

    def _wait(self, seconds: float) -> Optional[socket.socket]:
        for sock in self._opener.wait_for_any(list(self._attempts), seconds):
            # It may have been closed earlier in this round.
            if sock in self._attempts:
                connected = self._ended(sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                if connected is not None:
                    return connected
        return None

    def _ended(self, sock: socket.socket, code: int) -> Optional[socket.socket]:
        """Notes how an attempt ended; returns its socket if it is connected."""
        if code == 0:
            self._forget(sock)
            return sock
        self.failure = os_failure(OSError(code, errno.errorcode.get(code, str(code))), not_accepted=True)
        # The address answers by now, so older attempts to it wait for packets that were lost.
        address = self._attempts[sock]
        for each in [other for other, where in self._attempts.items() if where == address]:
            self._give_up(each)
        return None

    def _forget(self, sock: socket.socket) -> None:
        del self._attempts[sock]
        if sock in self._retries:
            self._retries.remove(sock)

    def _give_up(self, sock: socket.socket) -> None:
        self._forget(sock)
        sock.close()

    def close(self) -> None:
        for sock in list(self._attempts):
            self._give_up(sock)
