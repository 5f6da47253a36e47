"""What a message that has come from the runtime means to the protocol. Pure functions; no threads run here."""

from typing import Any, NamedTuple, Optional

from . import _codec
from ._inbox import Item
from ._logs import Logger
from ._protocol import STREAMED, Event, Protocol
from ._surrogates import Halves
from .errors import ProtocolError

_TERMINALS = ("result_message", "command_execution_result_message", "error_message")


class Received(NamedTuple):
    """What a message means, and the message, checked; an exception in its place where a terminal is malformed."""

    event: Event
    message: Any


def interpret(item: Item, protocol: Protocol, logger: Logger, halves: Halves) -> Optional[Received]:
    """Returns what a message means now; `None` for one that decides nothing: malformed, empty or of an unknown type.

    Args:
        item: The message.
        protocol: Where its connection's requests stand.
        logger: Where to log.
        halves: Half characters at the ends of the request's output so far.
    """
    message_type = ""
    try:
        wire = _codec.parse(item)
        message_type = wire["message_type"]
        message = _codec.decode(wire, item, halves)
    except _codec.MalformedMessage as problem:
        message_type = message_type or _codec.unparsed_type(item)
        if message_type not in _TERMINALS:
            logger.warning("ignored a malformed message from the runtime: %s", problem)
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
