"""What a message that has come from the runtime means to the protocol. No threads run here."""

from typing import Any, NamedTuple, Optional

from .._connection.inbox import Item
from .._logs import Logger
from .._wire import codec
from .._wire.surrogates import Halves
from ..errors import ProtocolError
from .protocol import STREAMED, Event, Protocol

_TERMINALS = ("result_message", "command_execution_result_message", "error_message")


#: Of how many malformed messages of a connection it is said what is wrong: a runtime can send them without end.
_MOST_COMPLAINTS = 20


class Complaints:
    """What is said of a connection's malformed messages."""

    def __init__(self) -> None:
        self._made = 0

    def make(self, logger: Logger, problem: Exception) -> None:
        """Says what is wrong with a message; of many, only with the first ones."""
        self._made += 1
        if self._made <= _MOST_COMPLAINTS:
            logger.warning("ignored a malformed message from the runtime: %s", problem)
        if self._made == _MOST_COMPLAINTS:
            logger.warning("more malformed messages on this connection are ignored without a word")


class Received(NamedTuple):
    """What a message means, and the message, checked; an exception in its place where a terminal is malformed."""

    event: Event
    message: Any


def interpret(
    item: Item, protocol: Protocol, logger: Logger, halves: Halves, complaints: Complaints
) -> Optional[Received]:
    """Returns what a message means now; `None` for one that decides nothing: malformed, empty or of an unknown type.

    Args:
        item: The message.
        protocol: Where its connection's requests stand.
        logger: Where to log.
        halves: Half characters at the ends of the request's output so far.
        complaints: What logs that a message is malformed.
    """
    message_type = ""
    try:
        wire = codec.parse(item)
        message_type = wire["message_type"]
        message = codec.decode(wire, item, halves)
    except codec.MalformedMessage as problem:
        message_type = message_type or codec.unparsed_type(item)
        if message_type not in _TERMINALS:
            complaints.make(logger, problem)
            return None
        message = ProtocolError(f"the runtime sent a malformed message: {problem}")
    if message is None:
        if message_type not in STREAMED:
            logger.debug("ignored a message of an unknown type from the runtime")
        return None
    if message_type in STREAMED:
        return Received(Event.STREAM, message)
    event = protocol.classify(
        message_type,
        empty=not getattr(message, "results", True),
        error=getattr(message, "error", ""),
    )
    return Received(event, message)
