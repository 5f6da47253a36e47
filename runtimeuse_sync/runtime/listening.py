"""Owns the listening sockets, and refuses connections when the process runs out of file descriptors.

A new connection gets the lowest free descriptor number, so the number shows how many descriptors are left. Some are
reserved for work: every command, download and upload needs a few. A connection whose number is in the reserve is
refused with an HTTP status (`server.py` asks `DescriptorReserve.is_reached`). One far into the reserve is closed at
once.

Threads: runs on the runtime's event loop. asyncio looks up the host's addresses in a thread of its own.
"""

import asyncio
import errno
import logging
import resource
import socket
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, List, Tuple

from .._call import monotonic

if TYPE_CHECKING:
    from websockets.asyncio.server import Server

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: The reserve is an eighth of the process's descriptor limit, within these bounds.
_RESERVE = (16, 256)
#: The errors of `accept` when the process or the system has no resources; asyncio tries again a second later.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: asyncio calls `accept` a hundred times before it pauses, and logs and schedules a pause for each failure. So after a
#: failure, `accept` reports "no connection" for this long, in seconds.
_QUIET = 0.5
#: A shortage is over after this long without a refusal, in seconds; the next one is logged again.
_SPELL = 60.0


class DescriptorReserve:
    """The file descriptors that are reserved for work; logs once when connections are refused because of it.

    Args:
        clock: The monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._noted = float("-inf")

    def is_reached(self, descriptor: int) -> bool:
        """Returns whether a connection with this descriptor must be refused, because it would use the reserve."""
        return self._beyond(descriptor, 0)

    def is_used_up(self, descriptor: int) -> bool:
        """Returns whether so much of the reserve is in use that the connection cannot even get an HTTP answer."""
        return self._beyond(descriptor, 4)

    def log_refusal(self) -> None:
        """Logs that connections are refused, once per shortage."""
        now = self._clock()
        if now - self._noted > _SPELL:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            _logger.warning(
                "Refusing connections: nearly all of the %d file descriptors that this process may have are in use "
                "(see `ulimit -n`), and the rest is reserved for commands and uploads",
                limit,
            )
        self._noted = now

    def on_loop_exception(self, loop: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
        """Handles the loop's uncaught exceptions: logs in one line, once, that `accept` has no descriptors left."""
        if getattr(context.get("exception"), "errno", None) in _NO_ROOM and "accept" in str(context.get("message")):
            self.log_refusal()
        else:
            loop.default_exception_handler(context)

    @staticmethod
    def _beyond(descriptor: int, share: int) -> bool:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            return False
        least, most = _RESERVE
        reserve = min(most, max(least, limit // 8))
        return descriptor >= limit - reserve + (reserve // share if share else 0)


class ListeningSocket(socket.socket):
    """A socket whose `accept` never takes the last descriptors, and reports a shortage at most once per `_QUIET`."""

    def __init__(self, family: int, reserve: DescriptorReserve) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._reserve = reserve
        self._quiet_until = float("-inf")

    def accept(self) -> Tuple[socket.socket, Any]:
        """Accepts a connection if there are descriptors for it.

        Raises:
            BlockingIOError: no connection is waiting, or there are no descriptors for it.
            OSError: there are no descriptors, and this is the first report of it.
        """
        if monotonic() < self._quiet_until:
            raise BlockingIOError(errno.EAGAIN, "there is no room for connections")
        try:
            accepted, address = super().accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._quiet_until = monotonic() + _QUIET
            raise
        if self._reserve.is_used_up(accepted.fileno()):
            accepted.close()
            self._reserve.log_refusal()
            raise BlockingIOError(errno.EAGAIN, "there is no room for this connection")
        return accepted, address


class Listener:
    """The listening servers of one runtime, one per address."""

    def __init__(self, servers: "List[Server]") -> None:
        self._servers = servers

    @property
    def port(self) -> int:
        """The port of the first address."""
        port: int = next(iter(self._servers[0].sockets)).getsockname()[1]
        return port

    def close(self) -> None:
        """Stops accepting connections; leaves the existing ones open."""
        for server in self._servers:
            server.close(close_connections=False)

    async def wait_closed(self) -> None:
        """Returns when the listening sockets and all connections have closed."""
        for server in self._servers:
            await server.wait_closed()


async def listen(
    host: str, port: int, reserve: DescriptorReserve, serve: "Callable[[socket.socket], Awaitable[Server]]"
) -> Listener:
    """Listens on all addresses of a host, by the rules of `loop.create_server`.

    Args:
        host: An address or name; "" is every address of this machine.
        port: The port; 0 takes a free one.
        reserve: The descriptors that connections must not use.
        serve: Serves one bound socket.

    Raises:
        OSError: the name cannot be resolved, or an address cannot be listened on.
        OverflowError: the port is not between 0 and 65535.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: List[ListeningSocket] = []
    servers: List[Server] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            _bind(family, (address[0], port, *address[2:]), reserve, sockets)
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, f"this machine has no address of {host!r}")
        servers += [await serve(bound) for bound in sockets]
    except BaseException:
        for server in servers:
            server.close()
        for bound in sockets:
            bound.close()
        raise
    return Listener(servers)


def _bind(family: int, address: Any, reserve: DescriptorReserve, sockets: List[ListeningSocket]) -> None:
    try:
        bound = ListeningSocket(family, reserve)
    except OSError:
        return  # names may resolve to IPv6 addresses on a kernel without IPv6
    sockets.append(bound)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL and len(sockets) > 1:
            sockets.pop().close()  # likewise if IPv6 is disabled
            return
        reason = (error.strerror or str(error)).lower()
        raise OSError(error.errno, f"error while attempting to bind on address {address!r}: {reason}") from None
