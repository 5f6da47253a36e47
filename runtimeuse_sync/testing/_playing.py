"""One reply that takes time: one with steps, or a generator.

Invariants: what a play does to its connection happens under the connection's lock, and not once it was stopped.
A play that was stopped ends as soon as it has control: waits of steps end at once, a generator at its next `yield`.

Threads: each play has a thread, `runtimeuse-fake-N`, which is started by the thread that sends for the connection and
ends with the reply. Any thread may call `stop`.
"""

import itertools
import threading
from typing import Any, Iterable, Optional, Protocol, Union

from .._threads import join_thread, new_thread, start_directly
from ._replies import TERMINAL_TYPES, Message
from ._steps import Delay, IgnoreCancel, LostConnection, Silence, Step, WaitFor

#: How often a wait for an event looks whether the play was stopped, in seconds. Nothing wakes it for both.
_LOOK = 0.02

_numbers = itertools.count(1)


class Stage(Protocol):
    """Where a reply is played: a connection."""

    def _say(self, play: "Play", message: Message, is_terminal: bool) -> None:
        """Sends a message, unless the play was stopped."""

    def _fall_silent(self, play: "Play") -> None:
        """Sends nothing from now on, unless the play was stopped."""

    def _break_down(self, error: BaseException) -> None:
        """Breaks the connection."""

    def _failed(self, play: "Play", error: BaseException) -> None:
        """Breaks the connection, as the reply has raised."""

    def _played(self, play: "Play") -> None:
        """Takes note that the play has ended."""


class Play:
    """A reply, played to one request.

    Args:
        request: The request that it answers.
        items: The messages and steps.
        stage: Where to play it.

    Attributes:
        request: As given.
        ignores_cancel: Whether the request goes on if it is cancelled.
    """

    def __init__(self, request: Message, items: "Iterable[Union[Message, Step]]", stage: Stage) -> None:
        self.request: Message = request
        self.ignores_cancel: bool = False
        self._items = items
        self._stage = stage
        self._stopped = threading.Event()
        # Of a list it is known which terminal message is the last one: the one that ends the request.
        self._last_terminal: Optional[int] = None
        if isinstance(items, (list, tuple)):
            ends = [number for number, item in enumerate(items) if is_terminal(item)]
            self._last_terminal = ends[-1] if ends else None
        self._thread = new_thread(self._run, f"runtimeuse-fake-{next(_numbers)}")

    @property
    def stopped(self) -> bool:
        """Whether the play was stopped."""
        return self._stopped.is_set()

    def start(self) -> None:
        """Starts the thread."""
        start_directly(self._thread)

    def stop(self) -> None:
        """Makes the play end; does not wait for that."""
        self._stopped.set()

    def join(self, seconds: float) -> bool:
        """Waits for the thread to end, so many seconds at most; returns whether it has ended."""
        return join_thread(self._thread, seconds)

    def _run(self) -> None:
        try:
            try:
                self._play()
            finally:
                close = getattr(self._items, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            # In the caller's call it is the cause of the lost connection.
            self._stage._failed(self, error)
        finally:
            self._stage._played(self)

    def _play(self) -> None:
        for number, item in enumerate(self._items):
            if self.stopped:
                break
            if isinstance(item, dict):
                ends = is_terminal(item) if self._last_terminal is None else number == self._last_terminal
                self._stage._say(self, checked(item), ends)
            else:
                self._take(item)

    def _take(self, step: Any) -> None:
        if isinstance(step, Delay):
            self._stopped.wait(step.seconds)
        elif isinstance(step, WaitFor):
            while not self.stopped and not step.event.wait(_LOOK):
                pass
        elif isinstance(step, IgnoreCancel):
            self.ignores_cancel = True
        elif isinstance(step, Silence):
            self._stage._fall_silent(self)
        elif isinstance(step, LostConnection):
            if not self.stopped:
                self._stage._break_down(ConnectionResetError("the fake runtime broke the connection"))
        else:
            checked(step)


def is_terminal(item: Any) -> bool:
    """Returns whether an item of a reply is a message that ends a request."""
    return isinstance(item, dict) and item.get("message_type") in TERMINAL_TYPES


def checked(item: Any) -> Message:
    """Returns an item of a reply that must be a message.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(item, dict) or not isinstance(item.get("message_type"), str):
        raise TypeError(
            f"a reply must be a list of messages (dicts with a message_type) and steps; it has a {type(item).__name__}"
            + (" without a message_type" if isinstance(item, dict) else "")
        )
    return item
