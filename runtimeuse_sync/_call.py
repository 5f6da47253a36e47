"""One call of the user: its deadline, its cancel flag, and the wake-up of the thread that waits for it.

A `Call` is what threads share. Any thread, signal handler or finalizer sets flags on it (`abort`); the connection's
thread reads them to tell the runtime, and notes what it has sent; the calling thread looks at them whenever it has
control. No locks: every flag goes from False to True once, and is set before the wake-up that announces it.
"""

import math
import time
from typing import TYPE_CHECKING, Callable, List, Optional, TypeVar

from ._session.printed import so_far
from ._wakeup import Clock, Deadline, Wakeup
from .errors import CancelledException, RunTimeoutError, RuntimeUseError, carry

if TYPE_CHECKING:
    from ._connection.base import Connection
    from ._session.output import Output

_Error = TypeVar("_Error", bound=BaseException)


class Call:
    """The state of one call.

    Attributes:
        kind: What it is, for messages: "query", "command execution", and so on.
        deadline: When it must be over.
        wakeup: Wakes the calling thread, whatever it waits for.
        aborted: Whether `abort` was called.
        cancel_wanted: Whether the runtime shall be told to cancel, if the request has been sent.
        sent: Whether the request has been handed to the socket (written by the connection's thread only).
        cancel_sent: Whether the cancellation has (written by the connection's thread only).
        connection: What to poke when a flag changes.
        secrets: What must not appear in the text of its exceptions.
        own_error: The last exception that was `owned`.
        source_id: What the user calls it, without secrets.
        output: What has come, which its exceptions take along.
        on_sent: Called by the connection's thread when it sends the request.
    """

    __slots__ = (
        "_clock",
        "aborted",
        "cancel_sent",
        "cancel_wanted",
        "connection",
        "deadline",
        "kind",
        "on_sent",
        "output",
        "own_error",
        "secrets",
        "sent",
        "source_id",
        "wakeup",
    )

    def __init__(self, kind: str, timeout: Optional[float], clock: Clock = time.monotonic) -> None:
        self.kind = kind
        self.deadline = Deadline(timeout, clock)
        self.wakeup = Wakeup()
        self.aborted = False
        self.cancel_wanted = False
        self.sent = False
        self.cancel_sent = False
        self.connection: Optional[Connection] = None
        self.secrets: List[str] = []
        self.source_id: Optional[str] = None
        self.output: Optional[Output] = None
        self.on_sent: Optional[Callable[[], None]] = None
        self.own_error: Optional[BaseException] = None
        self._clock = clock

    def start(self) -> None:
        """Starts the time that the deadline leaves; it is made by then, so that the call can be aborted before."""
        self.deadline = Deadline(self.deadline.seconds, self._clock)

    def abort(self) -> None:
        """Ends the call: it raises `CancelledException`. Never blocks; safe from anywhere, at any time."""
        self.aborted = True
        self.cancel_on_runtime()
        self.wakeup.wake()

    def cancel_on_runtime(self) -> None:
        """Has the connection's thread tell the runtime to cancel, whatever the calling thread is doing."""
        self.cancel_wanted = True
        connection = self.connection
        if connection is not None:
            connection.poke()

    def told(self, error: _Error) -> _Error:
        """Returns an error, `owned`; one of ours tells of the call: its `source_id`, and what had come."""
        output = self.output
        if isinstance(error, RuntimeUseError):
            carry(error, source_id=self.source_id)
        if isinstance(error, RuntimeUseError) and output is not None:
            results = getattr(error, "results", None) or so_far(output, self.secrets, sent=self.sent)
            carry(error, results=results, assistant_texts=output.texts(self.secrets))
        return self.owned(error)

    def check(self) -> None:
        """Raises if the call must not go on.

        Raises:
            CancelledException: it was aborted.
            RunTimeoutError: its deadline has passed.
        """
        if self.aborted:
            raise self.told(CancelledException(f"{self.kind.capitalize()} was cancelled"))
        if self.deadline.passed():
            text = f"{self.kind.capitalize()} did not end within {self.deadline.seconds:g} s"
            raise self.told(RunTimeoutError(text))

    def wait(self, until: float = math.inf) -> None:
        """Waits for a wake-up, until `until` (on the call's clock) or the deadline at most; then `check`s."""
        self.check()
        self.wakeup.wait(min(until, self.deadline.at) - self._clock())
        self.check()

    def owned(self, error: _Error) -> _Error:
        """Returns an exception that the call is about to raise by itself, after noting it.

        A signal handler and another thread may raise one of any class, of ours too; only the very object tells them
        apart. So whoever holds an exception back asks for that (`is_own`), and lets all others out.
        """
        self.own_error = error
        return error

    def is_own(self, error: BaseException) -> bool:
        """Returns whether the call has raised it by itself, or a callback has; nobody else."""
        return error is self.own_error

    def now(self) -> float:
        """Returns the time on the call's clock."""
        return self._clock()
