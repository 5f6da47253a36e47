"""The steps of a reply that are no messages: waits and faults.

A step is data. `_playing.py` reads the reply, in a thread of its own, and does what each step says.

Threads: none.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, Union


class Waitable(Protocol):
    """What a reply can wait for: a `threading.Event`, or another object with such a method `wait`."""

    def wait(self, timeout: float) -> Any:
        """Waits; returns whether it has happened.

        Args:
            timeout: The most seconds to wait.
        """


@dataclass(frozen=True)
class Delay:
    """Waits before the next item. A cancel ends the wait."""

    seconds: float


@dataclass(frozen=True)
class WaitFor:
    """Waits for an event before the next item. A cancel ends the wait."""

    event: Waitable


@dataclass(frozen=True)
class IgnoreCancel:
    """From here on, the request goes on in spite of a cancel."""


@dataclass(frozen=True)
class Silence:
    """From here on, nothing comes from the runtime on this connection."""


@dataclass(frozen=True)
class LostConnection:
    """The connection breaks."""


Step = Union[Delay, WaitFor, IgnoreCancel, Silence, LostConnection]
"""A step of a reply that is no message: a wait or a fault. `delay`, `lost_connection` and so on return one."""

STEPS = (Delay, WaitFor, IgnoreCancel, Silence, LostConnection)


def delay(seconds: float) -> Step:
    """Returns a step that waits. A cancel ends the wait, and packages that move the clock for tests do not.

    Args:
        seconds: How long to wait.

    Raises:
        TypeError: `seconds` is not a number.
        ValueError: `seconds` is negative or not finite.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds must be a number, not {type(seconds).__name__}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds must be finite and not negative, not {seconds!r}")
    return Delay(seconds)


def wait_for(event: Waitable) -> Step:
    """Returns a step that waits for an event that the test sets. A cancel ends the wait.

    Args:
        event: A `threading.Event`, or another object with such a method `wait`.

    Raises:
        TypeError: `event` has no method `wait`.
    """
    if not callable(getattr(event, "wait", None)):
        raise TypeError(f"event must have a method wait, as threading.Event has, and {type(event).__name__} has none")
    return WaitFor(event)


def ignore_cancel() -> Step:
    """Returns a step after which a cancel does not end the request, as an agent may ignore it, and a download does."""
    return IgnoreCancel()


def silence() -> Step:
    """Returns a step after which the runtime is silent, as a frozen sandbox is, or one behind a dropped network.

    The connection stays open, but nothing comes from it any more: no answer to a cancel, to the next request or to the
    end of the session; over a WebSocket, no answers to pings either.
    """
    return Silence()


def lost_connection() -> Step:
    """Returns a step that breaks the connection, without a close. The next connection works."""
    return LostConnection()
