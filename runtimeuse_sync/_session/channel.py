"""The requests on one connection: it sends them one at a time and decides whom each received message is for.

A `Channel` joins a connection, the state machine (`protocol.py`), the queue of callers (`turns.py`) and the upload
requests (`uploads.py`). Between two requests it settles the connection (`barrier.py`): it makes sure that the runtime
owes nothing for an earlier request.

Threads: whoever has the turn owns the state machine and takes messages from the inbox.
    the caller's thread      has the turn from `enter` to `leave`. It settles the connection (`wait_until_settled`),
                             sends its request (`begin`) and reads until the request has ended.
    the connection's thread  takes the turn if there are messages and nobody has the turn or waits for it
                             (`_settle_in_background`). It drops stale messages, keeps upload requests and sends the
                             barrier. So a session settles after a call that was left early, and its inbox stays small.

Interrupts: an exception may hit the caller's thread between any two steps. Therefore
    - a message goes to the state machine before the position in the batch moves on, and the state machine recognizes a
      message that it receives again;
    - all queued messages are used before a request is sent, so no earlier message is read after it;
    - `leave` may be repeated.
"""

import math
import threading
from typing import Any, List, NamedTuple, Optional

from .._call import Call, Wakeup
from .._connection.base import Connection, Outgoing
from .._connection.closed import ConnectionClosed, Ending, connection_error
from .._connection.inbox import Batch, Item
from .._logs import Logger
from .._wire import codec
from .._wire.redaction import latest_secrets, scrub
from .._wire.surrogates import Halves
from ..errors import ProtocolError, RunTimeoutError, SessionStateError, said
from ..messages import ArtifactUploadRequestMessageInterface
from .barrier import Barrier
from .protocol import STREAMED, Event, Protocol, State
from .turns import Ticket, Turn
from .uploads import Uploads

#: The most malformed messages that are logged for a connection. A runtime can send any number of them.
_MAX_MALFORMED_LOGGED = 20

#: Seconds between two checks whether the peer has read what was sent: nothing wakes the caller for that.
_CHECK_INTERVAL = 0.05

_TERMINALS = ("result_message", "command_execution_result_message", "error_message")


class Received(NamedTuple):
    """What a message means, and the validated message; an exception in place of a malformed terminal message."""

    event: Event
    message: Any


class Channel:
    """The requests on one connection.

    A method that waits raises `CancelledException` if the call was aborted, `RunTimeoutError` if its deadline passed,
    `SessionStateError` if the session has ended or this process inherited it by `fork`, and what `check_connection`
    raises if the connection is closed.

    Args:
        connection: The connection, which need not be started.
        origin: Where it leads to, without secrets.
        secrets: Secrets of the way to the runtime, such as a token in the URL.
        logger: Where to log until a call sets its own.
        persistent: Whether more than one request may follow: settles the connection after each.

    Attributes:
        connection: As given, or what has replaced it (`reconnecting.py`).
        secrets, persistent: As given.
        protocol: The state of its requests, for whoever has the turn.
        turn: The queue of callers.
        active: The call that has the turn.
        uploads: The upload requests received, for whoever has the turn.
        confirmed_in: The `end` of the batch that confirmed the end of the session; `math.inf` before.
        closed: Whether `close` was called.
    """

    def __init__(
        self, connection: Connection, origin: str, secrets: List[str], logger: Logger, *, persistent: bool
    ) -> None:
        self.connection = connection
        self.turn = Turn()
        self.active: Optional[Call] = None
        self.confirmed_in = math.inf
        self.closed = False
        self.secrets = secrets
        self._earlier_secrets: List[str] = []
        self._origin = origin
        self._logger = logger
        self.persistent = persistent
        self._background_ticket = Ticket(Wakeup())
        self._set_up(connection)

    def _set_up(self, connection: Connection) -> None:
        """Makes anew what belongs to the requests on one connection."""
        if self.persistent:
            connection.on_unused = self._settle_in_background
        self.protocol = Protocol()
        self.uploads = Uploads(connection.submit, connection.inbox.max_bytes)
        self._barrier = Barrier(connection, self.protocol)
        self._request: Optional[Outgoing] = None
        self._malformed = 0
        self._halves = Halves()

    # The caller's thread.

    def enter(self, call: Call, ticket: Ticket) -> None:
        """Waits for the turn, until the connection is open, and until it is settled."""
        self.take_turn(call, ticket)
        self.wait_until_settled(call)

    def take_turn(self, call: Call, ticket: Ticket) -> None:
        """Waits for the turn."""
        self.connection.check_process(call)
        call.connection = self.connection
        self.turn.join(ticket)
        call.ask()  # Not before: in the queue, a call of the same session by `cancel_when` is refused.
        self.turn.wait(ticket, call)
        self.active = call
        # Whoever had the turn before may have replaced the connection.
        call.connection = self.connection
        call.secrets = [*self.secrets, *self._earlier_secrets, *call.secrets]
        self.connection.inbox.listener = call.wakeup

    def wait_until_open(self, call: Call) -> None:
        """Waits until the connection is open."""
        while not self.connection.is_open:
            self.check_connection(call)
            self._wait(call)

    def begin(self, call: Call, payload: bytes, result_type: str, secrets: List[str], logger: Logger) -> None:
        """Sends the request of the call that has the turn. The connection must be settled; it need not be open yet.

        A result of type `result_type` ends the request; `secrets` are its `secrets_to_redact`. The channel uses
        `logger` until the next request.
        """
        call.check()
        self._logger = logger
        self._barrier = Barrier(self.connection, self.protocol)
        self._halves.kept.clear()
        # In this order: after an interrupt in between, `leave` checks whether the request is in the outbox.
        request = self._request = Outgoing(payload, call)
        self._made(request)
        self.protocol.begin(result_type, secrets)
        self.connection.submit_once(request)

    def _made(self, request: Outgoing) -> None:
        """Notes a request before it can be sent."""

    def next_batch(self, call: Call, idle_until: float) -> Optional[Batch]:
        """Returns the first batch that has unused messages; waits for one, and returns `None` at `idle_until`."""
        inbox = self.connection.inbox
        self.connection.check_process(call)
        while True:
            call.check()
            batch = inbox.first()
            if batch is None:
                self.check_connection(call)
                if call.now() >= idle_until:
                    return None
                self._wait(call, idle_until)
            elif batch.position < len(batch.items):
                return batch
            else:
                self.connection.used_up(batch)

    def wait_until_answers_are_taken(self, call: Call, until: float = math.inf) -> bool:
        """Waits until at most `max_buffered` bytes are still to be sent, or it is closed; returns `False` at `until`.

        Otherwise a runtime that announces files and does not read the answers would fill the memory.
        """
        inbox, request = self.connection.inbox, self._request
        limit = inbox.max_bytes + (0 if request is None else len(request.payload))  # It may be larger by itself.
        while self.connection.unsent > limit and inbox.closed is None and call.now() < until:
            call.wait(min(until, call.now() + _CHECK_INTERVAL))
        return self.connection.unsent <= limit or inbox.closed is not None

    def leave(self, call: Call, ticket: Ticket) -> None:
        """Gives up the turn; cancels a request that has not ended. Never blocks; may be repeated."""
        if self.turn.has(ticket):
            request = self._request
            if request is not None and request.request_of is call and not self.connection.has_got(request):
                self.protocol.withdraw()
            self.protocol.abandon()
            if self.protocol.state is State.ABANDONED:
                call.cancel_on_runtime()
            if self.persistent:
                # The runtime knows them, and may repeat them in later calls.
                self._earlier_secrets = latest_secrets(self._earlier_secrets + call.secrets)
                self._barrier.settle()
            self.connection.inbox.listener = None
            self.active = None
        self.turn.leave(ticket)
        if self.persistent and (self.connection.paused or self.connection.inbox.first() is not None):
            self.connection.poke()

    def close(self) -> None:
        """Cancels a request that has not ended, then closes the connection. Never blocks; may be repeated."""
        # First: whoever replaces the connection either sees this, or has done so before the close below.
        self.closed = True
        call = self.active
        if call is not None and self.protocol.state is State.ACTIVE:
            # Another thread's, say, for which the end of the session waited in vain. After the close nothing is sent.
            call.cancel_on_runtime()
        self.connection.close()

    def abandon_run_of_this_thread(self) -> None:
        """Abandons the run that this thread started but did not close, so that it does not block the session's end."""
        call, ticket = self.active, self.turn.first
        if call is None or ticket is None or not ticket.is_of_this_thread:
            return
        ticket.readers.left = True
        call.abort()
        if ticket.readers.elsewhere:
            # The other thread closes the run. This one no longer acts for it.
            ticket.threads.discard(threading.get_ident())
        else:
            self.leave(call, ticket)

    # Whoever has the turn.

    def use_next(self, batch: Batch) -> Optional[Received]:
        """Uses the batch's next message; returns it if it is delivered to the caller.

        A malformed, unknown or stale message is dropped. An upload request is always kept in `uploads`, which answers
        it; `ProtocolError` is raised if there is no room.
        """
        halves = self._halves
        received = self._interpret(batch.items[batch.position])
        if received is None:
            batch.position += 1
            return None
        if received.event is Event.STREAM and self.protocol.state is State.ACTIVE:
            # Nearly all messages are of this kind: delivered, without a change of state.
            batch.position += 1
            return received
        if halves.kept and received.event not in (Event.STREAM, Event.ARTIFACT) and self.protocol.state is State.ACTIVE:
            # This message ends the request, so the rest of the output comes first. The next `use_next` handles it.
            return Received(Event.STREAM, halves.rest())
        identity = (batch.end, batch.position)
        if received.event is Event.ARTIFACT and not self.protocol.has_received(identity):
            # Before the state machine gets it: after an interrupt it is served twice rather than never.
            self._keep(received.message)
        elif received.event is Event.CONFIRM:
            self.confirmed_in = batch.end
        delivered = self.protocol.receive(received.event, identity)
        batch.position += 1
        return received if delivered else None

    def use_all_queued(self, *, as_far_as_there_is_room: bool = False) -> None:
        """Uses all received messages, none of which is delivered; raises as `use_next`.

        With `as_far_as_there_is_room` it stops when half of the room for upload requests is taken, to answer those.
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

    def _interpret(self, item: Item) -> Optional[Received]:
        """Returns what a message means now; `None` if it is malformed, empty or of an unknown type."""
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
        if message_type in STREAMED:
            return None if message is None else Received(Event.STREAM, message)
        if message is None:
            self._logger.debug("ignored a message of an unknown type from the runtime")
            return None
        empty, error = not getattr(message, "results", True), getattr(message, "error", "")
        return Received(self.protocol.classify(message_type, empty=empty, error=error), message)

    def _log_malformed(self, problem: Exception) -> None:
        self._malformed += 1
        if self._malformed <= _MAX_MALFORMED_LOGGED:
            self._logger.warning("ignored a malformed message from the runtime: %s", problem)
        if self._malformed == _MAX_MALFORMED_LOGGED:
            self._logger.warning("further malformed messages on this connection are not logged")

    def _keep(self, request: ArtifactUploadRequestMessageInterface) -> None:
        if self.uploads.keep(request):
            return
        limit = self.connection.inbox.max_bytes
        problem = f"the runtime announced more artifacts than may wait for answers (max_buffered: {limit} bytes)"
        self.connection.fail(ConnectionClosed(problem, Ending.PROTOCOL_ERROR))
        if self.active is not None:
            self.check_connection(self.active)

    def wait_until_settled(self, call: Call) -> None:
        """Waits until the connection is open, uses all received messages, and waits until the runtime owes nothing."""
        self.wait_until_open(call)
        while True:
            self.use_all_queued()
            if self.protocol.state in (State.ENDING, State.ENDED):
                raise call.prepared(SessionStateError("the session has ended"))
            self._barrier.settle()
            self.check_connection(call)
            if self.connection.inbox.first() is None and not self.protocol.stale:
                return
            self._barrier.wait(call)

    def check_connection(self, call: Call) -> None:
        """Raises the public error for a connection that is closed once all its messages are used."""
        closed = self.connection.inbox.closed
        if closed is not None and self.gone:
            unsent = not self.ending and self.nothing_sent(call)
            note = "" if self.ending else self._note(unsent=unsent)
            error = connection_error(closed, self._origin, call.kind, call.secrets, unsent=unsent, note=note)
            raise call.prepared(error)

    def _note(self, *, unsent: bool) -> str:  # noqa: ARG002  # the channel of a session that reconnects has notes
        """Returns what the error for a connection that is gone says at its end."""
        return ""

    @property
    def gone(self) -> bool:
        """Whether the connection is closed, and all of its messages are used."""
        return self.connection.inbox.exhausted

    @property
    def unusable(self) -> bool:
        """Whether no call can succeed any more, as far as is known."""
        return self.connection.inbox.closed is not None or not self.connection.belongs_to_this_process

    @property
    def ending(self) -> bool:
        """Whether the session ends, or has ended."""
        return self.closed or self.protocol.state in (State.ENDING, State.ENDED)

    def nothing_sent(self, call: Call) -> bool:
        """Returns whether nothing of the call's request was sent, and keeps it from being sent from now on."""
        request = self._request
        return request is None or request.request_of is not call or request.withdraw()

    def _wait(self, call: Call, until: float = math.inf) -> None:
        """Waits as `call.wait`; a timeout before the connection is open says why the last attempt failed."""
        try:
            call.wait(until)
        except RunTimeoutError as error:
            if self.connection.is_open or not self.connection.last_failure or not call.is_own(error):
                raise
            why = scrub(self.connection.last_failure, self.secrets)
            text = f"{said(error)}: no connection to {self._origin} yet, the last attempt: {why}"
            raise call.prepared(RunTimeoutError(text)) from None

    # The connection's thread.

    def _settle_in_background(self) -> None:
        if self.protocol.state in (State.ENDING, State.ENDED) or not self.turn.try_take(self._background_ticket):
            return
        try:
            self.use_all_queued()
            self._barrier.settle()
        finally:
            self.turn.leave(self._background_ticket)
