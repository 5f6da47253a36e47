"""The state machine of requests on one connection: who is owed a terminal message, and what is stale.

Pure: no threads, clocks, sockets or JSON. Messages go in as `Event`s, decisions come out. Whoever has the session's
turn drives it (`_session/channel.py`).

The wire has no request ids, so everything hangs on order: a request may only be sent once it is *known* that the
runtime owes nothing for an earlier one. A result ends its request for sure. An error may not: the agent may have sent
it and go on (PROTOCOL.md, "Two terminals"). After an error the runtime is therefore asked, by the barrier (an empty
command request: answered if idle, refused if busy), and while the answer is awaited nothing else is sent.

States:
    FREE       the runtime owes nothing; a request may be sent
    ACTIVE     a request is in flight and its caller listens
    ABANDONED  a request is in flight, its caller has gone (cancelled, timed out, failed); what comes for it is stale
    UNSURE     an error came: perhaps the end of the request, perhaps not; the barrier is to be sent
    PROBING    the barrier has been sent, its answer has not come
    DOUBTFUL   the same, and meanwhile something came that may be the old request's end: a refusal may be outdated
    REFUSED    the barrier was refused: the old request still runs
    ENDING     the end of the session has been announced; only upload requests and the confirmation matter
    ENDED      the runtime has confirmed

Events (what a message means, which depends on the request it must belong to):
    STREAM   assistant message, command output, heartbeat       ARTIFACT  upload request
    RESULT   the result of the request's own kind               FOREIGN   a result of the other kind
    EMPTY    a command result that can only be the barrier's    REFUSAL   an error with the text of a busy runtime
    ERROR    any other error                                    CONFIRM   the end of the session, confirmed

Next state; `!` marks what is delivered to the caller. Everything else is dropped as stale, except upload requests: the
channel keeps those in every state until they are answered, because they belong to no request.
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
    withdraw  ACTIVE → FREE: the caller left before its request was handed over
    abandon   ACTIVE → ABANDONED, every other state stays (the caller left after the terminal had come)
    probe     UNSURE, ABANDONED, REFUSED → PROBING; the barrier is to be sent. From UNSURE at once; from the other two
              only after a while without any terminal, so that a terminal that never comes cannot hold the session
    end       any state but ENDED → ENDING

Why a session is never FREE too early: FREE is entered only by a RESULT with no barrier outstanding, by the barrier's
own answer, or by the withdrawal of a request that nobody was given to send. There is one barrier outstanding at most:
the next is sent only when the previous one is answered, and no cancellation is sent meanwhile, which might end the
barrier in the old request's place. A REFUSAL that comes after a possible end may have been decided before that end, so
it is asked again (DOUBTFUL → UNSURE).
The limit: an agent whose own error repeats the busy runtime's very words cannot be told from a refusal.
"""

import enum
from typing import AbstractSet, Any, Dict, Iterable, Set, Tuple

from .._wire.redaction import redacted_forms

#: What a busy runtime answers (PROTOCOL.md, "Busy"), before redaction.
BUSY_ERROR = "Received request while another is in flight!"


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
    """What a message means to the request it must belong to."""

    STREAM = "stream"
    ARTIFACT = "artifact"
    RESULT = "result"
    FOREIGN = "foreign"
    EMPTY = "empty"
    REFUSAL = "refusal"
    ERROR = "error"
    CONFIRM = "confirm"


#: The transitions that change the state; every other event leaves it as it is.
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

#: What is delivered to the caller; everything else is not.
_DELIVERED: Dict[State, AbstractSet[Event]] = {
    State.ACTIVE: set(Event) - {Event.CONFIRM},
    State.ENDING: {Event.ARTIFACT, Event.CONFIRM},
}

#: The types of messages that are streamed, whatever the state.
STREAMED = frozenset({"assistant_message", "command_output_message", "heartbeat_message"})

_BARRIER_ASKED: Set[State] = {State.PROBING, State.DOUBTFUL, State.REFUSED}
_STALE: Set[State] = {State.ABANDONED, State.UNSURE, State.PROBING, State.DOUBTFUL, State.REFUSED}


class Protocol:
    """The requests on one connection.

    Attributes:
        secrets: The `secrets_to_redact` of the current or last request, which the barrier must repeat.
    """

    def __init__(self) -> None:
        # The state, the last message received, and whether that was delivered: one attribute, so that an interrupt
        # cannot come between them, and a message that is received again after one is known for what it is.
        self._stand: Tuple[State, Any, bool] = (State.FREE, None, False)
        self.secrets: Tuple[str, ...] = ()
        self._result_type = ""
        self._busy_texts: Set[str] = {BUSY_ERROR}

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._stand[0]

    @state.setter
    def state(self, state: State) -> None:
        _, last, delivered = self._stand
        self._stand = (state, last, delivered)

    @property
    def stale(self) -> bool:
        """Whether the runtime may still owe something for a request that nobody waits for."""
        return self.state in _STALE

    @property
    def probing(self) -> bool:
        """Whether the answer to a barrier is awaited."""
        return self.state in (State.PROBING, State.DOUBTFUL)

    def begin(self, result_type: str, secrets: Iterable[str]) -> None:
        """A request is about to be sent.

        Args:
            result_type: The `message_type` of the result that ends it.
            secrets: Its `secrets_to_redact`; the runtime redacts its own error texts by them, too.
        """
        assert self.state is State.FREE, self.state
        self._result_type = result_type
        self.secrets = tuple(secrets)
        self._busy_texts = redacted_forms(BUSY_ERROR, self.secrets)
        self.state = State.ACTIVE

    def withdraw(self) -> None:
        """The request that was about to be sent never will be; without effect in any other state."""
        if self.state is State.ACTIVE:
            self.state = State.FREE

    def abandon(self) -> None:
        """The caller stops listening; without effect where its terminal has come already."""
        if self.state is State.ACTIVE:
            self.state = State.ABANDONED

    def probe(self) -> None:
        """The barrier is about to be sent; without effect where its answer is awaited, or nothing is owed."""
        if self.state in (State.UNSURE, State.ABANDONED, State.REFUSED):
            self.state = State.PROBING

    def end(self) -> None:
        """The end of the session is about to be announced."""
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
            # The old request's own command result lists what ran: at least one command.
            not_the_old = message_type == "command_execution_result_message" and (
                empty or self._result_type != message_type
            )
            if not_the_old and self.state in _BARRIER_ASKED:
                return Event.EMPTY
            return Event.RESULT if message_type == self._result_type else Event.FOREIGN
        if message_type == "artifact_upload_request_message":
            return Event.ARTIFACT
        assert message_type == "end_session_confirm_message", message_type
        return Event.CONFIRM

    def has_received(self, message: Any) -> bool:
        """Returns whether that message, by what identifies it, was the last one received."""
        return message is not None and bool(self._stand[1] == message)

    def receive(self, event: Event, message: Any = None) -> bool:
        """Moves on by a message; returns whether it is delivered to the caller.

        Args:
            event: What the message means.
            message: What identifies it: one that is received again moves nothing.
        """
        if self.has_received(message):
            return self._stand[2]
        before = self.state
        delivered = event in _DELIVERED.get(before, ())
        self._stand = (_NEXT.get((before, event), before), message, delivered)
        return delivered
