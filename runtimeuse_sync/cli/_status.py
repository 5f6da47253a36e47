"""What the status line says: the time so far, the last heartbeat, the current command.

Threads: the thread that performs the run writes; the one that paints the status line reads. Each value is replaced as a
whole.
"""

from typing import Callable, Optional

from .._call import monotonic
from ..messages import AssistantMessageInterface, CommandOutputMessageInterface, HeartbeatMessageInterface
from ._screen import Pieces

#: The most characters of a text that are looked at; a line shows far fewer.
_MOST = 500


class Status:
    """The state of one run, for people.

    Args:
        doing: What is going on before the runtime has said anything.
        clock: Returns the time in seconds.

    Attributes:
        doing: What is going on: the current command, or what the agent said last.
        note: What is said before that, such as that the run is being cancelled.
    """

    def __init__(self, doing: str = "", clock: Callable[[], float] = monotonic) -> None:
        self.doing = doing
        self.note = ""
        self._clock = clock
        self._begun = clock()
        self._heartbeat_at: Optional[float] = None

    @property
    def elapsed(self) -> float:
        """The seconds since the begin."""
        return self._clock() - self._begun

    def message(self, message: object) -> None:
        """Takes note of a message."""
        if isinstance(message, HeartbeatMessageInterface):
            self._heartbeat_at = self._clock()
        elif isinstance(message, CommandOutputMessageInterface):
            self.doing = message.command
        elif isinstance(message, AssistantMessageInterface) and message.text_blocks:
            self.doing = message.text_blocks[-1]

    def pieces(self) -> Pieces:
        """Returns the status line."""
        pieces: Pieces = [(duration(self.elapsed), "bold")]
        at = self._heartbeat_at
        if at is None:
            pieces.append(("no heartbeat yet", "dim"))
        else:
            pieces.append((f"heartbeat {duration(self._clock() - at)} ago", "green"))
        if self.note:
            pieces.append((self.note, "yellow"))
        doing = one_line(self.doing)
        if doing:
            pieces.append((doing, ""))
        return pieces


def duration(seconds: float) -> str:
    """Returns a time for people: `7s`, `2m05s`, `1h02m`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def one_line(text: str) -> str:
    """Returns the beginning of a text in one line, without control characters."""
    plain = "".join(character if character.isprintable() else " " for character in text[:_MOST])
    return " ".join(plain.split())
