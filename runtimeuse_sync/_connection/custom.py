"""The connection over a custom transport, whose methods block: a thread that receives, one that sends, one that closes.

Threads:
    runtimeuse-connection-N         the receiver: opens the transport, then receives into the inbox. While the inbox is
                                    full it waits, so that the transport can push back on the runtime.
    runtimeuse-connection-N-sender  sends what is in the outbox and the cancellations, and watches the deadline.
    runtimeuse-connection-N-closer  waits until the connection is to be closed, or is over; gives the sender a moment to
                                    finish, and closes the transport, which ends a blocked `send` or `receive`.
Only a third thread can close the transport while the other two are blocked inside it. A transport that blocks for ever
in `connect`, or does not react to `close`, keeps its threads, which are daemons. The callers' deadlines and aborts hold
all the same, since no caller waits inside a transport.
"""

import inspect
import json
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional

from .._call import Clock, Wakeup, monotonic
from .._threads import new_thread, start_directly
from ..errors import RuntimeUseError, said
from .base import Connection
from .closed import ConnectionClosed, Ending, NotATransport

if TYPE_CHECKING:
    from ..transports.base import ConnectedTransport, Message, PersistentTransport, Transport

#: How many seconds the sender has to finish before it is taken to be stuck inside the transport.
_STUCK_AFTER = 0.5

_logger = logging.getLogger("runtimeuse_sync")


class CustomConnection(Connection):
    """A connection over a custom transport.

    Args:
        connect: Opens the transport's connection; may block.
        max_buffered: How many bytes of received messages may be queued.
        clock: Returns the time in seconds.
    """

    #: A custom transport may not react to `close` at all; its threads are left behind then. The threads of one that
    #: does have ended by this time, also after an abort or at the deadline.
    join_timeout = 1.0
    shortest_join = 0.05

    def __init__(
        self, connect: "Callable[[], ConnectedTransport]", max_buffered: int, clock: Clock = monotonic
    ) -> None:
        self._receiver_wakeup = Wakeup(sliced=False)
        self._sender_wakeup = Wakeup(sliced=False)
        self._closer_wakeup = Wakeup(sliced=False)
        super().__init__(max_buffered, clock)
        self._connect = connect
        self._over = False
        # Whether sender and closer have been started: a thread cannot be joined before, although it may run by then.
        self._both_started = False

    def poke(self) -> None:
        """Wakes the three threads; never blocks."""
        self._receiver_wakeup.wake()
        self._sender_wakeup.wake()
        self._closer_wakeup.wake()

    def _run(self) -> ConnectionClosed:
        self.in_user_code = True
        try:
            transport = _checked(self._connect())
        except BaseException as error:
            return _failed("", error, Ending.NEVER_OPENED)
        finally:
            self.in_user_code = False
        sender = new_thread(self._send, f"{self._thread.name}-sender", transport)
        closer = new_thread(self._close_transport, f"{self._thread.name}-closer", transport, sender)
        try:
            # In this order: if not both can be started, nothing has been sent.
            start_directly(closer)
            start_directly(sender)
            self._both_started = True
        except RuntimeUseError as error:
            # The system cannot start another thread. Callers learn of it first, as below.
            failure = ConnectionClosed(said(error), Ending.NEVER_OPENED, cause=error.__cause__)
            self.inbox.close(failure)
            self._over = True
            self.poke()
            _close(transport)
            return failure
        # The connection may have been asked to close before the closer could act on it.
        self._closer_wakeup.wake()
        self._opened()
        reason = self._receive(transport)
        # First of all, because the other threads may be stuck inside the transport, and no caller must wait for them.
        self.inbox.close(reason)
        self._over = True
        self.poke()
        closer.join(2 * _STUCK_AFTER)
        if isinstance(transport, QueueTransport):
            transport.end_iteration()
        return reason

    def _close_transport(self, transport: "ConnectedTransport", sender: threading.Thread) -> None:
        while not self._over and not (self._closing and self._both_started):
            self._closer_wakeup.wait(threading.TIMEOUT_MAX)
        if self._both_started:
            sender.join(_STUCK_AFTER)
        _close(transport)

    def _receive(self, transport: "ConnectedTransport") -> ConnectionClosed:
        while not self._over:
            try:
                message: Any = transport.receive()
            except BaseException as error:
                return _failed("receiving failed: ", error)
            if message is None:
                text = "the connection was closed" if self._closing else "the runtime closed it"
                return ConnectionClosed(text, Ending.CLOSED)
            if not isinstance(message, (dict, str)):
                try:
                    message = _text_of(message)
                except ValueError as problem:
                    return ConnectionClosed(str(problem), Ending.PROTOCOL_ERROR)
            self.inbox.put([message])
            self._offer_unused()
            self.paused = True
            while self.inbox.full and not self._closing:
                self._receiver_wakeup.wait(threading.TIMEOUT_MAX)
                self._offer_unused()
            self.paused = False
        return ConnectionClosed("sending failed", Ending.LOST)

    def _send(self, transport: "ConnectedTransport") -> None:
        try:
            while not self._over:
                # Read first: what was submitted before the close is still sent.
                closing = self._closing
                for payload in self._take_outgoing():
                    transport.send(json.loads(payload))
                if closing:
                    return
                self._sender_wakeup.wait(self._next_alarm() - self._clock())
        except BaseException as error:
            self.inbox.close(_failed("sending failed: ", error))
        finally:
            self._over = True
            self.poke()


def _text_of(received: Any) -> str:
    """Returns the JSON text that a transport received as bytes.

    Raises:
        ValueError: it received something else. That must not be ignored: it may be the result that a caller waits for.
    """
    kind = type(received).__name__
    if not isinstance(received, (bytes, bytearray, memoryview)):
        raise ValueError(f"the transport received a message of the type {kind}; it must be a dict or JSON text")
    try:
        text = bytes(received).decode()
    except UnicodeDecodeError:
        text = ""
    if not text.lstrip().startswith("{"):
        raise ValueError(f"the transport received a message of the type {kind} that is not a JSON object in UTF-8")
    return text


def _checked(made: Any) -> "ConnectedTransport":
    """Returns what a transport's `connect` returned, after checking that it has the methods of a `ConnectedTransport`.

    Raises:
        NotATransport: a method is missing, or is a coroutine function.
    """
    methods = {name: getattr(made, name, None) for name in ("send", "receive", "close")}
    lacking = [name for name, method in methods.items() if not callable(method)]
    awaited = [name for name, method in methods.items() if inspect.iscoroutinefunction(method)]
    if not lacking and not awaited:
        connected: ConnectedTransport = made
        return connected
    if callable(methods["close"]) and "close" not in awaited:
        _close(made)  # A coroutine would warn otherwise that it was never awaited.
    problem = f"has no {' and no '.join(lacking)}" if lacking else f"has a coroutine function for {awaited[0]}"
    raise NotATransport(
        f"the transport's connect() returned a {type(made).__name__}, which {problem}: it must be an object with the "
        "blocking methods send, receive and close"
    )


def _close(transport: "ConnectedTransport") -> None:
    try:
        transport.close()
    except BaseException as error:
        _logger.warning("closing the transport failed: %s", type(error).__name__)


def _failed(what: str, error: BaseException, ending: Ending = Ending.LOST) -> ConnectionClosed:
    why = said(error)
    text = f"{what}{type(error).__name__}: {why}" if why else f"{what}{type(error).__name__}"
    return ConnectionClosed(text, ending, cause=error)


class QueueTransport:
    """A `ConnectedTransport` over a one-shot `Transport`, which maps a queue of messages to an iterator of messages."""

    def __init__(self, transport: "Transport") -> None:
        self._outgoing: queue.Queue[Optional[Message]] = queue.Queue()
        self._transport = transport
        self._submitted = threading.Event()
        self._incoming: Optional[Iterator[Message]] = None

    def send(self, message: "Message") -> None:
        """Puts a message into the transport's queue."""
        self._outgoing.put(message)
        self._submitted.set()

    def receive(self) -> "Optional[Message]":
        """Returns the transport's next message; `None` when it has no more."""
        # The transport is called only when the request is in the queue: it may answer without looking there.
        if self._incoming is None:
            self._submitted.wait()
            self._incoming = _iterator(self._call_transport())
        return next(self._incoming, None)

    def _call_transport(self) -> "Iterator[Message]":
        try:
            # The parameters of a decorator's function, not of the function that it wraps.
            parameters = inspect.signature(self._transport, follow_wrapped=False).parameters
        except (TypeError, ValueError):
            return self._transport(self._outgoing)  # Its signature is unknown.
        named = parameters.get("send_queue")
        if named is None:
            by_name = {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.VAR_KEYWORD}
        else:
            # By name, as the async client does: it need not be the first parameter.
            by_name = named.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return self._transport(send_queue=self._outgoing) if by_name else self._transport(self._outgoing)

    def close(self) -> None:
        """Tells the transport that the call is over: puts `None` into its queue."""
        self._outgoing.put(None)
        self._submitted.set()

    def end_iteration(self) -> None:
        """Closes the iterator, which frees what it holds; only for the thread that receives."""
        close = getattr(self._incoming, "close", None)
        if close is not None:
            close()


def _iterator(made: Any) -> "Iterator[Message]":
    """Returns an iterator over what a one-shot transport returned.

    Raises:
        NotATransport: it cannot be iterated over.
    """
    if hasattr(type(made), "__iter__") or hasattr(type(made), "__getitem__"):
        return iter(made)
    if inspect.iscoroutine(made):
        made.close()
    raise NotATransport(
        f"the transport returned a {type(made).__name__} when it was called: it must return an iterator of messages, "
        "as a plain generator function does"
    )


def connector(transport: Any, *, one_shot: bool = False) -> "Callable[[], ConnectedTransport]":
    """Returns the function that opens a connection over a custom transport.

    Args:
        transport: The transport.
        one_shot: Whether to call a transport that is of both kinds, as a `Transport`; default: use its `connect`.

    Raises:
        TypeError: it is neither a `PersistentTransport` nor a `Transport`.
    """
    if is_persistent(transport) and not (one_shot and callable(transport)):
        persistent: PersistentTransport = transport
        return persistent.connect
    if callable(transport):
        return lambda: QueueTransport(transport)
    raise TypeError(f"transport must have a connect method or be callable, and {type(transport).__name__} is neither")


def is_persistent(transport: Any) -> bool:
    """Returns whether a transport is a `PersistentTransport`, and so can serve a session."""
    return callable(getattr(transport, "connect", None))
