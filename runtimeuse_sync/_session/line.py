"""The connection that a run goes over: a session's, or its own. No threads run here."""

from typing import Callable, NamedTuple, Optional

from .._call import Call
from .channel import Channel
from .turns import Ticket


class Line(NamedTuple):
    """The connection that a run goes over.

    Attributes:
        open: Returns the channel; for a one-shot, makes it, with a connection that is not yet started.
        one_shot: Whether the connection is the run's own, and ends with it.
        started: Told of the call when the run starts, so that `abort` finds it.
        ended: Told of it when the run is over.
    """

    open: Callable[[Call], Channel]
    one_shot: bool
    started: Callable[[Call], None]
    ended: Callable[[Call], None]


def leave(line: Line, channel: Optional[Channel], call: Call, ticket: Ticket) -> None:
    """Gives back what a run has taken; never blocks, and may be repeated."""
    if channel is not None:
        channel.leave(call, ticket)
    # An interrupt may have come between the making of a one-shot's connection and that of its channel.
    if line.one_shot and call.connection is not None:
        call.connection.close()
    line.ended(call)
