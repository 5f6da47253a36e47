"""The state machine of requests on one connection: whether the runtime owes a terminal message, and what is stale.

It is pure: no threads, clocks, sockets or JSON. It gets each message as an `Event`, and returns a decision.

Threads: whoever has the session's turn uses it (`channel.py`).

The wire has no request ids, so only the order of messages says what belongs to which request. A request may only be
sent once it is *known* that the runtime owes nothing for an earlier one. A result always ends its request. An error may
not: the agent may send it and go on (PROTOCOL.md, "Two terminals"). So after an error the client sends the barrier, an
empty command request: an idle runtime answers it, a busy one refuses it. Nothing else is sent before its answer.

States:
    FREE       the runtime owes nothing; a request may be sent
    ACTIVE     a request is in flight, and its caller waits for it
    ABANDONED  a request is in flight, but its caller has left (cancelled, timed out, failed); its messages are stale
    UNSURE     an error came, which may or may not have ended the request; the barrier must be sent
    PROBING    the barrier was sent and is not answered
    DOUBTFUL   the same, but a message came that may have ended the old request: a refusal may be outdated
    REFUSED    the barrier was refused: the old request still runs
    ENDING     the end of the session was announced; only upload requests and the confirmation matter
    ENDED      the runtime has confirmed the end of the session

Events (what a message means; this depends on the request in flight):
    STREAM   assistant message, command output, heartbeat       ARTIFACT  upload request
    RESULT   a result of the request's kind                     FOREIGN   a result of the other kind
    EMPTY    a command result that must be the barrier's     REFUSAL   an error with the text of a busy runtime
    ERROR    any other error                                    CONFIRM   confirms the end of the session

Next state; `!` marks a message that is delivered to the caller. All others are dropped as stale, except upload
requests: the channel keeps those in every state until they are answered, because they belong to no request.
                STREAM      ARTIFACT    RESULT      FOREIGN     EMPTY       REFUSAL     ERROR       CONFIRM
    FREE        FREE        FREE        FREE        FREE        FREE        FREE        FREE        FREE
    ACTIVE      ACTIVE !    ACTIVE !    FREE !      ACTIVE !    ACTIVE !    UNSURE !    UNSURE !    ACTIVE
    ABANDONED   ABANDONED   ABANDONED   FREE        ABANDONED   ABANDONED   UNSURE      UNSURE      ABANDONED
    UNSURE      UNSURE      UNSURE      FREE        UNSURE      UNSURE      UNSURE      UNSURE      UNSURE
    PROBING     PROBING     PROBING     DOUBTFUL    PROBING     FREE        REFUSED     DOUBTFUL    PROBING
    DOUBTFUL    DOUBTFUL    DOUBTFUL    DOUBTFUL    DOUBTFUL    FREE        UNSURE      DOUBTFUL    DOUBTFUL
    REFUSED     REFUSED     REFUSED     FREE        REFUSED     FREE        UNSURE      UNSURE      REFUSED
    ENDING      ENDING      ENDING !    ENDING      ENDING      ENDING      ENDING      ENDING      ENDED !
    ENDED       ENDED       ENDED       ENDED       ENDED       ENDED       ENDED       ENDED       ENDED

Besides messages:
    begin     FREE → ACTIVE
    withdraw  ACTIVE → FREE: the caller left before its request was submitted
    abandon   ACTIVE → ABANDONED, every other state stays (the caller left after the terminal message)
    probe     UNSURE, ABANDONED, REFUSED → PROBING; the barrier is sent. From UNSURE at once; from the other two only
              after some time without a terminal message, so that one that never comes cannot block the session
    end       any state but ENDED → ENDING

Why a session is never FREE too early: FREE is entered only by a RESULT with no barrier outstanding, by the barrier's
answer, or by the withdrawal of a request that was never submitted. At most one barrier is outstanding: the next one is
sent only after the answer to the previous one. No cancellation is sent meanwhile, because it might end the barrier
instead of the old request. The runtime may have decided on a REFUSAL before the old request's possible end, so after
that end the barrier is sent again (DOUBTFUL → UNSURE).

Known limit: an agent's own error with exactly the text of a busy runtime looks like a refusal.
"""

import enum
from typing import AbstractSet, Any, Dict, Iterable, Set, Tuple

from .._wire.fixed_texts import BUSY_ERROR
from .._wire.redaction import redacted_forms


class State(enum.Enum):
    """See the module's docstring."""

    FREE = "free"
    ACTIVE = "active"
    ABANDONED = "abandoned"
    UNSURE = "unsure"
    PROBING = "probing"
    DOUBTFUL = "doubtful"
    REFUSED = "refused"
    ENDING = "ending"
    ENDED = "ended"


class Event(enum.Enum):
    """What a message means. See the module's docstring."""

    STREAM = "stream"
    ARTIFACT = "artifact"
    RESULT = "result"
    FOREIGN = "foreign"
    EMPTY = "empty"
    REFUSAL = "refusal"
    ERROR = "error"
    CONFIRM = "confirm"


#: The events that change the state.
_NEXT: Dict[Tuple[State, Event], State] = {
    (State.ACTIVE, Event.RESULT): State.FREE,
    (State.ACTIVE, Event.REFUSAL): State.UNSURE,
    (State.ACTIVE, Event.ERROR): State.UNSURE,
    (State.ABANDONED, Event.RESULT): State.FREE,
    (State.ABANDONED, Event.REFUSAL): State.UNSURE,
    (State.ABANDONED, Event.ERROR): State.UNSURE,
    (State.UNSURE, Event.RESULT): State.FREE,
    (State.PROBING, Event.RESULT): State.DOUBTFUL,
    (State.PROBING, Event.ERROR): State.DOUBTFUL,
    (State.PROBING, Event.EMPTY): State.FREE,
    (State.PROBING, Event.REFUSAL): State.REFUSED,
    (State.DOUBTFUL, Event.EMPTY): State.FREE,
    (State.DOUBTFUL, Event.REFUSAL): State.UNSURE,
    (State.REFUSED, Event.RESULT): State.FREE,
    (State.REFUSED, Event.EMPTY): State.FREE,
    (State.REFUSED, Event.REFUSAL): State.UNSURE,
    (State.REFUSED, Event.ERROR): State.UNSURE,
    (State.ENDING, Event.CONFIRM): State.ENDED,
}

#: The events that are delivered to the caller.
_DELIVERED: Dict[State, AbstractSet[Event]] = {
    State.ACTIVE: set(Event) - {Event.CONFIRM},
    State.ENDING: {Event.ARTIFACT, Event.CONFIRM},
}

#: The types of messages that are a STREAM event in every state.
STREAMED = frozenset({"assistant_message", "command_output_message", "heartbeat_message"})

_BARRIER_SENT: Set[State] = {State.PROBING, State.DOUBTFUL, State.REFUSED}
_STALE: Set[State] = {State.ABANDONED, State.UNSURE, State.PROBING, State.DOUBTFUL, State.REFUSED}


class Protocol:
    """The requests on one connection.

    Attributes:
        secrets: The `secrets_to_redact` of the current or last request. The barrier must repeat them.
    """

    def __init__(self) -> None:
        # The state, the last message, and whether it was delivered. One attribute, so that an interrupt cannot come in
        # between, and a message that is received again afterwards is recognized.
        self._current: Tuple[State, Any, bool] = (State.FREE, None, False)
        self.secrets: Tuple[str, ...] = ()
        self._result_type = ""
        self._busy_texts: Set[str] = {BUSY_ERROR}

    @property
    def state(self) -> State:
        """The current state."""
        return self._current[0]

    @state.setter
    def state(self, state: State) -> None:
        _, last, delivered = self._current
        self._current = (state, last, delivered)

    @property
    def stale(self) -> bool:
        """Whether the runtime may still owe messages for a request that nobody waits for."""
        return self.state in _STALE

    @property
    def probing(self) -> bool:
        """Whether a barrier is outstanding."""
        return self.state in (State.PROBING, State.DOUBTFUL)

    def begin(self, result_type: str, secrets: Iterable[str]) -> None:
        """Notes that a request is about to be submitted.

        Args:
            result_type: The `message_type` of the result that ends it.
            secrets: Its `secrets_to_redact`. The runtime also redacts them in its own error texts.
        """
        assert self.state is State.FREE, self.state
        self._result_type = result_type
        self.secrets = tuple(secrets)
        self._busy_texts = redacted_forms(BUSY_ERROR, self.secrets)
        self.state = State.ACTIVE

    def withdraw(self) -> None:
        """Notes that the request was not submitted and never will be. No effect in any other state than ACTIVE."""
        if self.state is State.ACTIVE:
            self.state = State.FREE

    def abandon(self) -> None:
        """Notes that the caller has left. No effect in any other state than ACTIVE."""
        if self.state is State.ACTIVE:
            self.state = State.ABANDONED

    def probe(self) -> None:
        """Notes that the barrier is about to be submitted. No effect if one is outstanding, or nothing is owed."""
        if self.state in (State.UNSURE, State.ABANDONED, State.REFUSED):
            self.state = State.PROBING

    def end(self) -> None:
        """Notes that the end of the session is about to be announced."""
        if self.state is not State.ENDED:
            self.state = State.ENDING

    def classify(self, message_type: str, *, empty: bool = False, error: str = "") -> Event:
        """Returns what a message of a known type means.

        Args:
            message_type: Its `message_type`.
            empty: Whether it is a command result without any results.
            error: The text of an error message.
        """
        if message_type in STREAMED:
            return Event.STREAM
        if message_type == "error_message":
            return Event.REFUSAL if error in self._busy_texts else Event.ERROR
        if message_type in ("result_message", "command_execution_result_message"):
            # The old request's own command result would list at least one command.
            from_barrier = message_type == "command_execution_result_message" and (
                empty or self._result_type != message_type
            )
            if from_barrier and self.state in _BARRIER_SENT:
                return Event.EMPTY
            return Event.RESULT if message_type == self._result_type else Event.FOREIGN
        if message_type == "artifact_upload_request_message":
            return Event.ARTIFACT
        assert message_type == "end_session_confirm_message", message_type
        return Event.CONFIRM

    def has_received(self, message: Any) -> bool:
        """Returns whether the message with this identity was the last one received."""
        return message is not None and bool(self._current[1] == message)

    def receive(self, event: Event, message: Any = None) -> bool:
        """Changes the state by a message; returns whether the message is delivered to the caller.

        Args:
            event: What the message means.
            message: Its identity. A message that is received again changes nothing.
        """
        if self.has_received(message):
            return self._current[2]
        before = self.state
        delivered = event in _DELIVERED.get(before, ())
        self._current = (_NEXT.get((before, event), before), message, delivered)
        return delivered
