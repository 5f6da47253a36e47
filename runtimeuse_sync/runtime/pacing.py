"""Owns what waits to be sent to one client: gives asyncio's transport no more than the socket takes.

Before Python 3.12 a transport copies whatever the socket does not take at once, several times. So what is written waits
here, uncopied, while the socket is full, and goes to the transport in slices. All that is written takes its turn, the
pongs and close frames of `websockets` as well, so no frame gets into the middle of another one.

Invariant: something waits only while the transport has paused its protocol, or is closing.

Threads: used on the event loop only.
"""

import asyncio
from collections import deque
from typing import Any, Deque, Optional, Union

#: The most bytes that are given to the transport at once.
_SLICE = 256 * 1024

Data = Union[bytes, bytearray, memoryview]


class PacedTransport(asyncio.Transport):
    """The transport of a connection, for everyone who writes to it.

    The protocol must pass on what the transport below tells it: by `pause`, `resume` and `lose`.

    Args:
        transport: The transport below.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._waiting: Deque[memoryview] = deque()
        self._waiting_size = 0
        self._paused = False
        # What to do once everything has been given to the transport, and whether that closes it.
        self._ends_input = False
        self._closes = False

    def pause(self) -> None:
        """Notes that the transport below takes no more for now."""
        self._paused = True

    def resume(self) -> bool:
        """Notes that the transport below takes more, and gives it what waits; returns whether it has taken all."""
        self._paused = False
        self._pass_on()
        if not self._waiting and (self._ends_input or self._closes):
            # Not from here: the transport below is in the middle of a write, after which it would close a second time.
            asyncio.get_running_loop().call_soon(self._end)
        return not self._paused

    def lose(self) -> None:
        """Drops what waits, because the connection is lost."""
        self._waiting.clear()
        self._waiting_size = 0

    def _pass_on(self) -> None:
        waiting = self._waiting
        while waiting and not self._paused:
            if self._transport.is_closing():
                self.lose()
                return
            data = waiting[0][:_SLICE]
            if len(data) == len(waiting[0]):
                waiting.popleft()
            else:
                waiting[0] = waiting[0][_SLICE:]
            self._waiting_size -= len(data)
            # May call `pause`.
            self._transport.write(data)

    def _end(self) -> None:
        if self._waiting:
            return
        if self._ends_input:
            self._ends_input = False
            self._transport.write_eof()
        if self._closes:
            self._transport.close()

    # asyncio.WriteTransport

    def write(self, data: Data) -> None:
        """Sends the data after what waits already."""
        if not self._paused and len(data) <= _SLICE:
            self._transport.write(data)
        elif data:
            self._waiting.append(memoryview(data))
            self._waiting_size += len(data)
            self._pass_on()

    def write_eof(self) -> None:
        """Ends the output, once everything has been sent."""
        self._ends_input = True
        self._end()

    def can_write_eof(self) -> bool:
        """Returns whether `write_eof` is possible."""
        return self._transport.can_write_eof()

    def close(self) -> None:
        """Closes the connection, once everything has been sent."""
        self._closes = True
        self._end()
        if self._waiting and self._transport.is_reading():
            self._transport.pause_reading()

    def abort(self) -> None:
        """Closes the connection at once."""
        self.lose()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Returns whether the connection is closed, or will be once everything has been sent."""
        return self._closes or self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Returns how many bytes wait, here and in the transport below."""
        return self._waiting_size + self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: Optional[int] = None, low: Optional[int] = None) -> None:
        """Sets the limits of the transport below."""
        self._transport.set_write_buffer_limits(high, low)

    # asyncio.ReadTransport and BaseTransport

    def is_reading(self) -> bool:
        """Returns whether the protocol gets what arrives."""
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        """Reads no more until `resume_reading`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads again."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns a detail of the transport below."""
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Sets the protocol of the transport below."""
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Returns the protocol of the transport below."""
        return self._transport.get_protocol()
