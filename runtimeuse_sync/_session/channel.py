"""The requests on one connection: whose turn it is, where the protocol stands, and what has been kept for later.

A `Channel` joins a connection, the state machine of the protocol, and the turn. Whoever has the turn owns the state
machine and takes from the inbox:

    the calling thread       from `enter` to `leave`: it brings the connection to rest (`_settle`), sends its request
                             (`begin`), and reads until its request is over.
    the connection's thread  when there are messages while nobody has the turn or waits for it: it drops what is stale,
                             keeps upload requests, and sends the barrier. So a session that a call has left early comes
                             to rest behind the caller's back, and never fills up.

Interrupts: a `KeyboardInterrupt` may hit the calling thread between any two steps. Each message is therefore used in
the order "state machine, then position", and the state machine knows a message that it is given again. All that is
queued is used before a request is begun, so nothing from before is ever read after. The barrier is put into the outbox
until it is there or has been taken out. And `leave` may be repeated.
"""

import math
import threading
from typing import Any, List, NamedTuple, Optional

from .._call import Call
from .._connection.base import Connection, ConnectionClosed, Outgoing
from .._connection.inbox import Batch, Item
from .._logs import Logger
from .._wakeup import Wakeup
from .._wire import codec
from .._wire.redaction import scrub
from .._wire.surrogates import Halves
from ..errors import ProtocolError, RunTimeoutError, SessionStateError
from ..messages import ArtifactUploadRequestMessageInterface
from .outcome import connection_error
from .protocol import STREAMED, Event, Protocol, State
from .turns import Ticket, Turn
from .uploads import Uploads

#: How many secrets of earlier calls are still masked in later ones.
MAX_EARLIER_SECRETS = 256

#: Seconds between two looks at whether the peer takes what is sent, where nothing tells.
_LOOK_AGAIN = 0.05

#: Seconds without a terminal message after which a connection that is not at rest is asked (again) by the barrier.
PROBE_INTERVAL = 1.0

#: The same after the first refusal of the barrier.
FIRST_PROBE = 0.05

#: How many malformed messages of a connection are logged: a runtime can send them without end.
_MOST_MALFORMED_LOGGED = 20

_TERMINALS = ("result_message", "command_execution_result_message", "error_message")


class Received(NamedTuple):
    """What a message means, and the message, checked; an exception in its place where a terminal is malformed."""

    event: Event
    message: Any


class ProbeTimer:
    """When a runtime that owes something is to be asked whether it still does, on the clock of the calls.

    Kept from call to call: calls that each end before the time is up must not put it off for ever.

    Attributes:
        due_at: When the barrier is due.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The connection is at rest."""
        self.due_at = math.inf
        self._after_refusal = FIRST_PROBE
        self._refused = False

    def update(self, now: float, *, refused: bool) -> None:
        """Sets when the barrier is due, from where the protocol stands.

        Args:
            now: The time.
            refused: Whether the barrier's last answer was a refusal.
        """
        if self.due_at == math.inf:
            self.due_at = now + PROBE_INTERVAL
        if refused and not self._refused:
            # Perhaps only because it came a moment before the runtime counted as idle: so soon, then less often.
            self._refused = True
            self.due_at = now + self._after_refusal
            self._after_refusal = min(2 * self._after_refusal, PROBE_INTERVAL)

    def passed(self, now: float, *, sent: bool) -> None:
        """The time has come; the barrier was sent, or its answer is still awaited."""
        if sent:
            self._refused = False
        self.due_at = now + PROBE_INTERVAL


class Channel:
    """The requests on one connection.

    Attributes:
        connection: The connection.
        protocol: Where its requests stand; for whoever has the turn.
        turn: Whose turn it is.
        active: The call that has the turn.
        uploads: The upload requests that have come; for whoever has the turn.
        confirmed_in: The `end` of the batch with which the runtime has confirmed the session's end, once it has.
        secrets: What must not be shown of the way to the runtime.
    """

    def __init__(
        self, connection: Connection, origin: str, secrets: List[str], logger: Logger, *, persistent: bool
    ) -> None:
        self.connection = connection
        self.protocol = Protocol()
        self.turn = Turn()
        self.active: Optional[Call] = None
        self.uploads = Uploads(connection.submit, connection.inbox.max_bytes)
        self.confirmed_in = math.inf
        self.secrets = secrets
        self._earlier_secrets: List[str] = []
        self._origin = origin
        self._logger = logger
        self._persistent = persistent
        self._barrier: Optional[Outgoing] = None
        self._request: Optional[Outgoing] = None
        self._probe_timer = ProbeTimer()
        self._malformed = 0
        self._halves = Halves()
        self._own_ticket = Ticket(Wakeup())
        if persistent:
            connection.on_unused = self._settle_in_background

    # The calling thread.

    def enter(self, call: Call, ticket: Ticket) -> None:
        """Waits for the turn, for the connection to be open, and for it to be at rest.

        Raises:
            CancelledException, RunTimeoutError: the call was aborted, or its deadline passed.
            RuntimeConnectionError: the connection could not be opened, or was lost.
            SessionStateError: this process only inherited the connection, or the session has ended.
        """
        self.take_turn(call, ticket)
        self.wait_until_open(call)
        self._wait_until_settled(call)

    def wait_until_open(self, call: Call) -> None:
        """Waits for the connection to be open; raises as `enter`."""
        while not self.connection.is_open:
            self.check_connection(call)
            self._wait(call)

    def take_turn(self, call: Call, ticket: Ticket) -> None:
        """Waits for the turn; raises as `enter`."""
        self.connection.check_process(call)
        call.connection = self.connection
        self.turn.join(ticket)
        while not self.turn.has(ticket):
            call.wait()
        self.active = call
        call.secrets = [*self.secrets, *self._earlier_secrets, *call.secrets]
        self.connection.inbox.listener = call.wakeup

    def begin(self, call: Call, payload: bytes, result_type: str, secrets: List[str], logger: Logger) -> None:
        """Sends the request of a call that has the turn; the connection must be at rest, or not even open.

        Args:
            call: The call.
            payload: The request, as JSON text in UTF-8.
            result_type: The `message_type` of the result that ends it.
            secrets: Its `secrets_to_redact`.
            logger: Where the channel logs from now on, until another call begins.
        """
        call.check()
        self._logger = logger
        self._probe_timer.reset()
        self._halves.kept.clear()
        # In this order: if an interrupt comes in between, `leave` sees whether the request is in the outbox.
        request = self._request = Outgoing(payload, call)
        self.protocol.begin(result_type, secrets)
        self.connection.submit_once(request)

    def next_batch(self, call: Call, idle_until: float) -> Optional[Batch]:
        """Returns the next messages that are not used up; `None` once it is `idle_until` and none has come.

        Raises:
            CancelledException, RunTimeoutError: the call was aborted, or its deadline passed.
            ConnectionLostError: the connection is over, and all that it brought is used up.
            ProtocolError: it is over because the runtime broke the rules of WebSocket.
        """
        inbox = self.connection.inbox
        self.connection.check_process(call)
        while True:
            call.check()
            batch = inbox.first()
            if batch is not None:
                if batch.position < len(batch.items):
                    return batch
                self.connection.used_up(batch)
                continue
            self.check_connection(call)
            if call.now() >= idle_until:
                return None
            self._wait(call, idle_until)

    def wait_until_answers_are_taken(self, call: Call, until: float = math.inf) -> None:
        """Waits until no more than may be buffered is left to be sent; raises as `enter`, but for a lost connection.

        A runtime that announces files and does not read what it is answered would fill the memory otherwise.
        """
        inbox = self.connection.inbox
        # A large request may be left to be sent besides.
        most = inbox.max_bytes + (0 if self._request is None else len(self._request.payload))
        while self.connection.unsent > most and inbox.closed is None and call.now() < until:
            call.wait(min(until, call.now() + _LOOK_AGAIN))

    def leave(self, call: Call, ticket: Ticket) -> None:
        """Gives the turn up; a request that is still in flight is cancelled. May be repeated, and never blocks."""
        if self.turn.has(ticket):
            request = self._request
            if request is not None and request.request_of is call and not self.connection.has_got(request):
                self.protocol.withdraw()
            self.protocol.abandon()
            if self.protocol.state is State.ABANDONED:
                call.cancel_on_runtime()
            if self._persistent:
                self._remember_secrets(call.secrets)
                self._settle()
            self.connection.inbox.listener = None
            self.active = None
        self.turn.leave(ticket)
        if self._persistent and (self.connection.paused or self.connection.inbox.first() is not None):
            self.connection.poke()

    def close(self) -> None:
        """Has the connection closed; a request that is in flight is cancelled before. May be repeated, never blocks."""
        call = self.active
        if call is not None and self.protocol.state is State.ACTIVE:
            # Of another thread, say, which the end of the session has waited for in vain. First, for after the close
            # nothing is sent any more.
            call.cancel_on_runtime()
        self.connection.close()

    def abandon_run_of_this_thread(self) -> None:
        """Has the run that this thread has begun, and not left, left: who ends the session will not go on with it."""
        call, ticket = self.active, self.turn.first
        if call is None or ticket is None or not ticket.is_of_this_thread:
            return
        ticket.readers.left = True
        call.abort()
        if ticket.readers.elsewhere:
            # It is for that thread to leave it, and this one has nothing to do with it any more.
            ticket.threads.discard(threading.get_ident())
        else:
            self.leave(call, ticket)

    def _remember_secrets(self, secrets: List[str]) -> None:
        """Has the next calls mask what the runtime was told in this one, too: it may come up later."""
        # Each stands where it was told last, so that what is forgotten is what was told the longest time ago.
        latest_first = dict.fromkeys(reversed(self._earlier_secrets + secrets))
        self._earlier_secrets = list(latest_first)[:MAX_EARLIER_SECRETS][::-1]

    # Whoever has the turn.

    def use_next(self, batch: Batch) -> Optional[Received]:
        """Moves the protocol on by the batch's next message; returns it if it is for the caller.

        Raises `ProtocolError` where that is an upload request, and no more of them may be kept.

        A message that is malformed, unknown or stale is for nobody. An upload request is kept in any case: it is
        answered from there.
        """
        halves = self._halves
        received = self._interpret(batch.items[batch.position])
        if received is None:
            batch.position += 1
            return None
        if received.event is Event.STREAM and self.protocol.state is State.ACTIVE:
            # Nearly all messages are such: it is for the caller, and moves nothing.
            batch.position += 1
            return received
        if halves.kept and received.event not in (Event.STREAM, Event.ARTIFACT) and self.protocol.state is State.ACTIVE:
            # It ends the request, whose output it must not overtake: it is used by the next call of this.
            return Received(Event.STREAM, halves.rest())
        identity = (batch.end, batch.position)
        if received.event is Event.ARTIFACT and not self.protocol.has_received(identity):
            # Before the protocol moves on: rather twice than never.
            self._keep(received.message)
        elif received.event is Event.CONFIRM:
            self.confirmed_in = batch.end
        delivered = self.protocol.receive(received.event, identity)
        batch.position += 1
        return received if delivered else None

    def _interpret(self, item: Item) -> Optional[Received]:
        """Returns what a message means now; `None` if it decides nothing: malformed, empty or of an unknown type."""
        message_type = ""
        try:
            wire = codec.parse(item)
            message_type = wire["message_type"]
            message = codec.decode(wire, item, self._halves)
        except codec.MalformedMessage as problem:
            message_type = message_type or codec.unparsed_type(item)
            if message_type not in _TERMINALS:
                self._log_malformed(problem)
                return None
            message = ProtocolError(f"the runtime sent a malformed message: {problem}")
        if message is None:
            if message_type not in STREAMED:
                self._logger.debug("ignored a message of an unknown type from the runtime")
            return None
        if message_type in STREAMED:
            return Received(Event.STREAM, message)
        event = self.protocol.classify(
            message_type,
            empty=not getattr(message, "results", True),
            error=getattr(message, "error", ""),
        )
        return Received(event, message)

    def _log_malformed(self, problem: Exception) -> None:
        self._malformed += 1
        if self._malformed <= _MOST_MALFORMED_LOGGED:
            self._logger.warning("ignored a malformed message from the runtime: %s", problem)
        if self._malformed == _MOST_MALFORMED_LOGGED:
            self._logger.warning("more malformed messages on this connection are ignored without a word")

    def _keep(self, request: ArtifactUploadRequestMessageInterface) -> None:
        if self.uploads.keep(request):
            return
        limit = self.connection.inbox.max_bytes
        problem = f"the runtime announced more artifacts than may wait for answers (max_buffered: {limit} bytes)"
        self.connection.fail(ConnectionClosed(problem, protocol_error=True))
        if self.active is not None:
            self.check_connection(self.active)

    def _wait_until_settled(self, call: Call) -> None:
        """Brings the connection to rest: uses up what has come, and waits until the runtime owes nothing any more."""
        inbox = self.connection.inbox
        timer = self._probe_timer
        while True:
            self.use_all_queued()
            if self.protocol.state in (State.ENDING, State.ENDED):
                raise call.told(SessionStateError("the session has ended"))
            self._settle()
            self.check_connection(call)
            if inbox.first() is None and not self.protocol.stale:
                return
            timer.update(call.now(), refused=self.protocol.state is State.REFUSED)
            if call.now() >= timer.due_at:
                ask = not self.protocol.probing
                if ask:
                    self._probe()
                timer.passed(call.now(), sent=ask)
            else:
                call.wait(timer.due_at)

    def use_all_queued(self, *, as_far_as_there_is_room: bool = False) -> None:
        """Moves the protocol on by all that has come, for a caller that it cannot be for; keeps upload requests.

        Args:
            as_far_as_there_is_room: Stop where too many upload requests would be kept, which the caller answers then.
        """
        inbox, uploads = self.connection.inbox, self.uploads
        batch = inbox.first()
        while batch is not None:
            while batch.position < len(batch.items):
                if as_far_as_there_is_room and not uploads.has_room:
                    return
                self.use_next(batch)
            self.connection.used_up(batch)
            batch = inbox.first()

    def _settle(self) -> None:
        """Does what the protocol's state asks for, so that the connection comes to rest."""
        state = self.protocol.state
        if state is State.UNSURE:
            self._probe()
        elif self.protocol.probing and self._barrier is not None:
            # Again: an interrupt may have come before the first time.
            self.connection.submit_barrier(self._barrier)
        elif state is State.FREE:
            self.connection.settled()
        elif state is State.REFUSED:
            # The agent goes on although its caller has got its error: nobody waits for the rest.
            self.connection.barrier_refused()

    def _probe(self) -> None:
        barrier = self._barrier = Outgoing(codec.encode(codec.encode_barrier(self.protocol.secrets)))
        self.protocol.probe()
        self.connection.submit_barrier(barrier)

    # The connection's thread.

    def _settle_in_background(self) -> None:
        if self.protocol.state in (State.ENDING, State.ENDED) or not self.turn.try_take(self._own_ticket):
            return
        try:
            self.use_all_queued()
            self._settle()
        finally:
            self.turn.leave(self._own_ticket)

    # Errors.

    def _wait(self, call: Call, until: float = math.inf) -> None:
        try:
            call.wait(until)
        except RunTimeoutError as error:
            if self.connection.is_open or not self.connection.last_failure or not call.is_own(error):
                raise
            why = scrub(self.connection.last_failure, self.secrets)
            text = f"{error}: no connection to {self._origin} yet, the last attempt: {why}"
            raise call.told(RunTimeoutError(text)) from None

    def check_connection(self, call: Call) -> None:
        """Raises as `next_batch` if the connection is over, and all that it brought is used up."""
        inbox = self.connection.inbox
        if inbox.exhausted:
            raise call.told(connection_error(inbox.closed, self._origin, call.kind, call.secrets))
