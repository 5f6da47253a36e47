"""The sockets that the runtime listens on, and what becomes of connections when the process runs out of descriptors.

Runs on the runtime's event loop. A new connection gets the lowest number that is free, so that number says how many
descriptors are left. Some are kept for work, for each command, download and upload needs a few: a connection with a
number among these is refused with an HTTP status that says why (`server.py` does so, by `Room.is_scarce`), and one far
into them is closed without a word.
"""

import asyncio
import errno
import logging
import resource
import socket
import time
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, List, Tuple

if TYPE_CHECKING:
    from websockets.asyncio.server import Server

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: What is kept for work: an eighth of what the process may have, within these bounds.
_RESERVE = (16, 256)
#: What `accept` says when this process or the system has no room; asyncio then tries again a second later.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: asyncio asks a hundred times before it pauses, each time logs it, and plans a pause of its own. So the first failure
#: is all that it sees for so long, in seconds.
_QUIET = 0.5
#: A shortage is over when there was none for so long, in seconds; the next one is logged again.
_SPELL = 60.0


class Room:
    """Knows whether there are descriptors for one more connection, and logs once when there are not.

    Args:
        clock: The monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted = float("-inf")

    def is_scarce(self, descriptor: int) -> bool:
        """Returns whether a connection with this descriptor has to be refused, in favour of work."""
        return self._beyond(descriptor, 0)

    def is_gone(self, descriptor: int) -> bool:
        """Returns whether there is not even room to say so."""
        return self._beyond(descriptor, 4)

    def note(self) -> None:
        """Logs that connections are refused, once per spell."""
        now = self._clock()
        if now - self._noted > _SPELL:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            _logger.warning(
                "Refusing connections: nearly all of the %d file descriptors that this process may have are in use "
                "(see `ulimit -n`), and the rest is kept for commands and uploads",
                limit,
            )
        self._noted = now

    def on_loop_exception(self, loop: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
        """What the event loop calls for what nobody catches: says in a line, once, that `accept` finds no room."""
        if getattr(context.get("exception"), "errno", None) in _NO_ROOM and "accept" in str(context.get("message")):
            self.note()
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
    """A socket whose `accept` never takes the last descriptors, and fails at most once at a time."""

    def __init__(self, family: int, room: Room) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._room = room
        self._quiet_until = float("-inf")

    def accept(self) -> Tuple[socket.socket, Any]:
        """Accepts a connection for which there is room.

        Raises:
            BlockingIOError: there is none now.
            OSError: there is no room, said for the first time.
        """
        if time.monotonic() < self._quiet_until:
            raise BlockingIOError(errno.EAGAIN, "there is no room for connections")
        try:
            accepted, address = super().accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._quiet_until = time.monotonic() + _QUIET
            raise
        if self._room.is_gone(accepted.fileno()):
            accepted.close()
            self._room.note()
            raise BlockingIOError(errno.EAGAIN, "there is no room for this connection")
        return accepted, address


class Listener:
    """Everything that listens."""

    def __init__(self, servers: "List[Server]") -> None:
        self._servers = servers

    @property
    def port(self) -> int:
        """The port that the first address listens on."""
        port: int = next(iter(self._servers[0].sockets)).getsockname()[1]
        return port

    def close(self) -> None:
        """Takes no more connections; leaves those that there are as they are."""
        for server in self._servers:
            server.close(close_connections=False)

    async def wait_closed(self) -> None:
        """Returns when all connections have ended, too."""
        for server in self._servers:
            await server.wait_closed()


async def listen(host: str, port: int, room: Room, serve: "Callable[[socket.socket], Awaitable[Server]]") -> Listener:
    """Listens on all addresses of a host, by the rules of `loop.create_server`.

    Args:
        host: An address or name; "" is every address of this machine.
        port: The port; 0 takes a free one.
        room: What says how many connections there may be.
        serve: Serves one bound socket.

    Raises:
        OSError: the name is not known, or an address cannot be listened on.
        OverflowError: the port is no port.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: List[ListeningSocket] = []
    servers: List[Server] = []
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            _bind(family, (address[0], port, *address[2:]), room, sockets)
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


def _bind(family: int, address: Any, room: Room, sockets: List[ListeningSocket]) -> None:
    try:
        bound = ListeningSocket(family, room)
    except OSError:
        return  # a kernel without IPv6 may still have names with such addresses
    sockets.append(bound)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL and len(sockets) > 1:
            sockets.pop().close()  # likewise, where IPv6 is switched off
            return
        reason = (error.strerror or str(error)).lower()
        raise OSError(error.errno, f"error while attempting to bind on address {address!r}: {reason}") from None
