"""The connection over a custom transport, whose methods block: one thread that receives, one that sends.

Threads:
    runtimeuse-connection-N         opens the transport, then receives into the inbox; while the inbox is full it waits
                                    (and so pushes back, if the transport has a way to).
    runtimeuse-connection-N-sender  sends the outbox and the cancellations, watches the clock, and closes the transport
                                    when it is asked to, which ends the receiver.
    runtimeuse-connection-N-closer  made when the close is asked for: closes the transport in the sender's place, if
                                    that is stuck inside it.
A transport that blocks for ever in `connect`, or does not react to `close`, keeps its threads (they are daemons); the
callers' deadlines and aborts hold all the same, since no caller ever waits inside a transport.
"""

import json
import logging
import queue
import threading
import time
from typing import Any, Callable, Iterator, Optional

from ._connection import Connection, ConnectionClosed
from ._wakeup import Clock, Wakeup
from .transports.base import ConnectedTransport, Message, PersistentTransport, Transport

#: Seconds after which a sender that was asked to close is taken to be stuck inside the transport.
_STUCK_AFTER = 0.5

_logger = logging.getLogger("runtimeuse_sync")


class BlockingConnection(Connection):
    """A connection over a transport with blocking methods."""

    #: A custom transport may not react to `close` at all.
    join_timeout = 1.0

    def __init__(
        self, connect: Callable[[], ConnectedTransport], max_buffered: int, clock: Clock = time.monotonic
    ) -> None:
        self._wakeup = Wakeup()
        self._room = Wakeup()
        super().__init__(max_buffered, clock)
        self._connect = connect
        self._over = False
        self._sender: Optional[threading.Thread] = None
        self._transport: Optional[ConnectedTransport] = None

    def poke(self) -> None:
        """Wakes both threads; never blocks."""
        self._wakeup.wake()
        self._room.wake()

    def close(self) -> None:
        """Has the transport closed by the sender; or, if that is stuck inside it, by a thread made for that."""
        super().close()
        sender = self._sender
        if sender is not None and sender.is_alive() and self.belongs_to_this_process:
            threading.Thread(
                target=self._close_unless_ended, args=(sender,), name=f"{self._thread.name}-closer", daemon=True
            ).start()

    def _close_unless_ended(self, sender: threading.Thread) -> None:
        sender.join(_STUCK_AFTER)
        if sender.is_alive():
            self._close_transport()

    def _close_transport(self) -> None:
        if self._transport is None:
            return
        try:
            self._transport.close()
        except Exception as error:
            _logger.warning("closing the transport failed: %s", type(error).__name__)

    def _run(self) -> BaseException:
        self.held_up = True
        try:
            transport = self._transport = self._connect()
        except Exception as error:
            return ConnectionClosed(str(error) or type(error).__name__, opening=True)
        self.held_up = False
        sender = self._sender = threading.Thread(
            target=self._send_until_over, args=(transport,), name=f"{self._thread.name}-sender", daemon=True
        )
        sender.start()
        self._opened()
        reason = self._receive(transport)
        # Before the sender is waited for: it may be stuck inside the transport, and callers must not wait for that.
        self.inbox.close(reason)
        self._over = True
        self.poke()
        sender.join(_STUCK_AFTER)
        self._close_transport()
        return reason

    def _receive(self, transport: ConnectedTransport) -> BaseException:
        while not self._over:
            try:
                message = transport.receive()
            except Exception as error:
                return ConnectionClosed(f"receiving failed: {error}")
            if message is None:
                return ConnectionClosed("the connection was closed" if self._closing else "the runtime closed it")
            self.inbox.put([message])
            self._offer_unused()
            self.paused = True
            while self.inbox.full and not self._closing:
                self._room.wait(threading.TIMEOUT_MAX)
                self._offer_unused()
            self.paused = False
        return ConnectionClosed("sending failed")

    def _send_until_over(self, transport: ConnectedTransport) -> None:
        try:
            while not self._over:
                # Looked at first: what was asked for before the close is still taken out and sent.
                closing = self._closing
                for payload in self._take_outgoing():
                    transport.send(json.loads(payload))
                if closing:
                    return
                self._wakeup.wait(self._next_alarm() - self._clock())
        except Exception as error:
            self.inbox.close(ConnectionClosed(f"sending failed: {error}"))
        finally:
            self._over = True
            # Ends a blocked `receive`; the receiver closes it again, which does no harm.
            self._close_transport()


class QueueTransport:
    """A one-shot `Transport`, a callable that maps a queue of messages to an iterator of messages, as a connection."""

    def __init__(self, transport: Transport) -> None:
        self._outgoing: queue.Queue[Optional[Message]] = queue.Queue()
        self._transport = transport
        self._incoming: Optional[Iterator[Message]] = None

    def send(self, message: Message) -> None:
        """Hands a message to the transport."""
        self._outgoing.put(message)

    def receive(self) -> Optional[Message]:
        """Returns the transport's next message; `None` when it has no more."""
        # Called only now: it may wait for the request before it returns.
        if self._incoming is None:
            self._incoming = iter(self._transport(self._outgoing))
        return next(self._incoming, None)

    def close(self) -> None:
        """Tells the transport that the call is over."""
        self._outgoing.put(None)


def connector(transport: Any) -> Callable[[], ConnectedTransport]:
    """Returns what opens a connection over a custom transport.

    Raises:
        TypeError: it is neither a `PersistentTransport` nor a `Transport`.
    """
    if is_persistent(transport):
        persistent: PersistentTransport = transport
        return persistent.connect
    if callable(transport):
        return lambda: QueueTransport(transport)
    raise TypeError(f"transport must have a connect method or be callable, and {type(transport).__name__} is neither")


def is_persistent(transport: Any) -> bool:
    """Returns whether a transport can serve a session."""
    return callable(getattr(transport, "connect", None))
