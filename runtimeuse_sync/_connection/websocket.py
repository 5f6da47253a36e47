"""The connection over a WebSocket: one thread that owns the socket, reads, sends and keeps it alive.

Threads: all runs in the connection's thread, `runtimeuse-connection-N`, but for `poke`, which any thread calls. The
thread waits in one place for three things: the socket, the clock, a poke. In each round it sends what is in the outbox,
reads what has arrived into the inbox, and looks at the clock. While the inbox is full it does not read, so that TCP
pushes back on the runtime. The peer is not taken for dead then: it is silent because nobody reads.

Before it takes a request out of the outbox, the thread reads what has arrived: a peer that has closed the connection
while nothing was in flight is noticed before anything of the request is sent.

Keepalive: after `ping_interval` seconds without a sign of life the thread sends a ping; if there is still none
`ping_timeout` seconds later, the connection is lost. Anything received is a sign of life, and so is a blocked send that
makes progress.

A connection for one request closes itself after a short result, as its caller would have it do next (`closes_after`).
That spares both threads a switch, for each short call.

Pings that callers ask for (`is_alive`, `pings.py`) are sent in between, and change nothing in that.

How the socket comes to be open is in `connecting.py`.
"""

# Looking up a host name would import these in the connection's thread, which is to be avoided (`late_imports.py`).
import encodings.idna
import encodings.punycode  # noqa: F401
import math
import socket
import ssl
from typing import Collection, Optional

from .._call import Clock, Deadline, monotonic
from .._interrupts import cleaned_up
from .._websocket.attempt import OpeningFailed, OpeningInterrupted
from .._websocket.poller import Poller
from .._websocket.stream import Disconnected, WebSocketStream
from .._wire import codec
from .._wire.redaction import in_any_form, scrub
from .base import Connection
from .closed import ConnectionClosed, Ending
from .connecting import Connecting
from .pings import AskedPing, AskedPings
from .settings import WebSocketSettings

#: The close code of a server that met an unexpected condition (RFC 6455 §7.4.1).
_INTERNAL_ERROR = 1011

#: The most characters of a text that is looked at to see whether it is the last message.
_SHORT = 16 * 1024


class WebSocketConnection(Connection):
    """A connection over a WebSocket.

    Args:
        settings: Where to connect, how, and for how long.
        connect_deadline: When a peer must have accepted the connection, instead of the settings' `connect_timeout`.
        also_retry: The HTTP statuses that count as those of a runtime which may not be up yet, besides the usual ones.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        settings: WebSocketSettings,
        connect_deadline: Optional[Deadline] = None,
        also_retry: Collection[int] = (),
        clock: Clock = monotonic,
    ) -> None:
        super().__init__(settings.max_buffered, clock)
        # The connection's thread makes it: no interrupt can hit that thread, so it is always closed.
        self._poller: Optional[Poller] = None
        self._settings = settings
        self._limits = settings.limits(connect_deadline)
        self._also_retry = also_retry
        # Here, not in the connection's thread: the limits have begun to count, and an error is the caller's.
        self._target = settings.loaded_target()
        self._last_sign = 0.0
        self._failures = 0
        self._must_wake_listener = False
        self._ping_sent_at = math.inf
        self._asked_pings = AskedPings()

    def poke(self) -> None:
        """Wakes the thread; never blocks, and does nothing in a process that inherited the connection by `fork`."""
        poller = self._poller
        # As long as there is none, the thread has not looked at anything yet.
        if poller is not None and self.belongs_to_this_process:
            poller.wake()

    def is_alive(self, seconds: float) -> bool:
        """Sends a ping, and returns whether the peer answers it within a time in seconds; only an interrupt is raised.

        While the inbox is full nobody reads, so no answer can come: a connection that is open then passes for alive.
        """
        if self.is_current_thread:
            # In a finalizer that the garbage collector runs there: the thread cannot wait for itself.
            return self.seems_open
        ping = AskedPing()
        until = self._clock() + seconds

        def wait() -> bool:
            self._asked_pings.ask(ping)
            self.poke()
            while self.seems_open and not ping.answered:
                left = until - self._clock()
                if left <= 0:
                    return self.paused
                ping.wakeup.wait(left)
            return self.seems_open

        return cleaned_up(wait, lambda: self._asked_pings.forget(ping))

    def _wake_others(self) -> None:
        self._asked_pings.wake_all()

    def _run(self) -> ConnectionClosed:
        try:
            poller = self._poller = Poller()
        except OSError as error:
            return ConnectionClosed(error.strerror or type(error).__name__, Ending.NEVER_OPENED, cause=error)
        stream: Optional[WebSocketStream] = None
        try:
            stream = self._make_stream(*self._connecting(poller).open())
            self._keep_tls_session(stream)
            self._opened()
            return self._serve(stream)
        except OpeningFailed as error:
            # An error of TLS has details about the certificate; other causes say no more than the text.
            cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else None
            return ConnectionClosed(
                str(error), Ending.NEVER_OPENED, status=error.status, retry_after=error.retry_after, cause=cause
            )
        except OpeningInterrupted as error:
            return ConnectionClosed(str(error), Ending.NEVER_OPENED)
        finally:
            if stream is not None:
                self._keep_tls_session(stream)
                stream.finish()
            poller.close()

    # Opening.

    def _connecting(self, poller: Poller) -> Connecting:
        return Connecting(
            self._target, poller, self._limits, lambda: self._closing, self._note_failure, self._also_retry, self._clock
        )

    def _make_stream(self, sock: socket.socket, received: bytes) -> WebSocketStream:
        return WebSocketStream(sock, received, self._settings.max_message_size)

    def _note_failure(self, failure: OpeningFailed) -> None:
        self.last_failure: str = str(failure)
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            # After the first, second, fourth, eighth … failure: less and less often.
            why = scrub(self.last_failure, in_any_form(self._settings.target.secrets()))
            origin = self._settings.origin
            text = "could not connect to %s (attempt %d), trying again: %s"
            self.records.write(self.records.logger.warning, text, origin, self._failures, why)

    def _keep_tls_session(self, stream: WebSocketStream) -> None:
        works = stream.disconnected is None or stream.disconnected.close is not None
        if works and self._target.sessions is not None:
            self._target.sessions.keep(stream.sock)

    # Serving.

    def _serve(self, stream: WebSocketStream) -> ConnectionClosed:
        self._last_sign = self._clock()
        if stream.has_pending:
            self._read(stream)
        while stream.disconnected is None:
            # Looked at before the outbox: what was submitted before the close is still sent.
            closing = self._closing
            requests = self._request_waits
            if requests and not self._read_all_arrived(stream):
                break
            # A request that has come only now is for the next round, which begins at once: its caller wakes the thread.
            for payload in self._take_outgoing(requests=requests):
                stream.queue_text(payload)
            for payload in self._asked_pings.due():
                stream.queue_ping(payload)
            was_blocked = stream.wants_write
            if stream.flush() and was_blocked:
                self._note_sign_of_life()
            self._unsent_bytes = stream.unsent
            if closing:
                return ConnectionClosed("the connection was closed", Ending.CLOSED)
            self._keep_alive(stream)
            if stream.disconnected is None:
                self._wait_and_read(stream)
        # If a send failed, there may be messages that had arrived before and have not been read.
        received = True
        while received:
            received = self._read(stream)
        assert stream.disconnected is not None
        return _why_closed(stream.disconnected)

    def _wait_and_read(self, stream: WebSocketStream) -> None:
        self._offer_unused()
        paused = self.inbox.full
        self.paused: bool = paused
        if paused:
            self._note_sign_of_life()
        seconds = 0.0 if stream.has_pending and not paused else self._next_time() - self._clock()
        if self._must_wake_listener:
            # Not earlier: the woken thread needs the GIL, which this thread releases only when it waits.
            self._must_wake_listener = False
            self.inbox.wake_listener()
        assert self._poller is not None
        readable, _ = self._poller.wait(stream.sock, not paused, stream.wants_write, seconds)
        if readable or (stream.has_pending and not paused):
            self._read(stream)

    @property
    def _request_waits(self) -> bool:
        """Whether a request is in the outbox, or will be in a moment: its caller makes it the call in flight first."""
        call = self.in_flight
        return call is not None and not call.sent

    def _read_all_arrived(self, stream: WebSocketStream) -> bool:
        """Reads all that has arrived, as far as there is room for it; returns whether the connection goes on."""
        while not self.inbox.full and self._read(stream):
            pass
        return stream.disconnected is None

    def _read(self, stream: WebSocketStream) -> bool:
        messages, received = stream.read()
        if received:
            self._note_sign_of_life()
        for payload in stream.pongs:
            self._asked_pings.answer(payload)
        if messages:
            self.inbox.put(list(messages), wake=False)
            self._must_wake_listener = True
            if self.closes_after and _is_short_and_of_type(messages[-1], self.closes_after):
                # Its caller would ask for the close next. It is woken once the connection is closed, and waits no more.
                self._closing = True
        return received

    # Keepalive.

    def _note_sign_of_life(self) -> None:
        self._last_sign = self._clock()
        self._ping_sent_at = math.inf

    def _next_time(self) -> float:
        """Returns when the thread must wake up at the latest, on the clock in seconds."""
        interval = self._settings.ping_interval
        if interval is None:
            return self._next_alarm()
        pinged = self._ping_sent_at != math.inf
        ping = self._ping_sent_at + self._settings.ping_timeout if pinged else self._last_sign + interval
        return min(self._next_alarm(), ping)

    def _keep_alive(self, stream: WebSocketStream) -> None:
        interval = self._settings.ping_interval
        if interval is None or self.inbox.full:
            return
        now = self._clock()
        if self._ping_sent_at != math.inf:
            if now - self._ping_sent_at >= self._settings.ping_timeout:
                stream.lose(f"the runtime did not answer a ping within {self._settings.ping_timeout:g} s")
        elif now - self._last_sign >= interval:
            self._ping_sent_at = now
            stream.queue_ping()
            stream.flush()


def _is_short_and_of_type(text: str, message_type: str) -> bool:
    """Returns whether a text is a message of this type; a long text is not looked at, as parsing it takes long."""
    if len(text) > _SHORT or f'"{message_type}"' not in text:
        return False
    try:
        return bool(codec.parse(text)["message_type"] == message_type)
    except codec.MalformedMessage:
        return False


def _why_closed(disconnected: Disconnected) -> ConnectionClosed:
    close = disconnected.close
    if disconnected.violation is not None:
        ending = Ending.PROTOCOL_ERROR
    else:
        ending = Ending.LOST if close is None else Ending.CLOSED
    failure = close.reason if close is not None and close.code == _INTERNAL_ERROR else None
    return ConnectionClosed(str(disconnected), ending, failure=failure)
