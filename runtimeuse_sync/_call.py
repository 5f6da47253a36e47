"""One call of the user: its deadline, its flags, the wake-up of the thread that waits for it, and how it raises.

`Call` is what threads share of a call. Each flag goes from False to True once, and is set before the wake-up that
announces it; so no lock is needed. `Deadline` is the one deadline of a call. `Wakeup` is the one primitive that threads
wait on: a binary semaphore on a bare lock. `threading.Event` and `Condition` are unfit here: both hold a Python-level
lock for a moment in `set()` and `wait()`, so a signal handler or finalizer that interrupts `wait()` and calls `set()`
can deadlock on itself. Releasing a bare lock is one C call: it is safe in any thread, signal handler and finalizer, and
Ctrl-C ends a blocked acquire.

How to use a `Wakeup`: change the state first, then call `wake()`. The waiter looks at the state again after every
`wait()`: a wake-up is a hint, and carries no meaning of its own. Only one thread waits on a `Wakeup`.

No wait may be one long C call in a user's thread. Only between two bytecodes does CPython look for an exception that
another thread has set (`PyThreadState_SetAsyncExc`, which dramatiq and others use for time limits), and for a signal
that arrived just before the wait for the lock. So a user's thread waits in slices: here, and for the end of a thread in
`_threads.join_thread`; it waits nowhere else. The client's own threads, which nobody interrupts, wait without slices.

Threads: the calling thread waits, and checks the flags whenever it has control. It alone asks the user's `cancel_when`:
before it waits, and while it reads messages. Any thread, signal handler or finalizer may `abort`. The connection's
thread reads the flags to tell the runtime, and notes what it has sent.
"""

import contextvars
import functools
import inspect
import math
import threading
import time
from types import TracebackType
from typing import Any, Callable, List, Optional, Protocol, TypeVar

from .errors import CancelledException, RunTimeoutError, RuntimeUseError, carry

_Error = TypeVar("_Error", bound=BaseException)

Clock = Callable[[], float]

#: The clock of all deadlines, in seconds. Packages that move time for tests, such as freezegun and time-machine, do not
#: move it: `time.monotonic` is replaced by some of them, its source by none.
monotonic: Clock = (
    functools.partial(time.clock_gettime, getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC))
    if hasattr(time, "clock_gettime")
    else functools.partial(time.monotonic)
)

_PACKAGE = __name__.split(".", maxsplit=1)[0]

#: Built-in exceptions that the client raises on purpose, or lets through.
_MEANT = (TypeError, ValueError, ImportError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration)

#: The longest slice of a wait, in seconds: an interrupt of a waiting thread goes unnoticed for so long at most.
SLICE = 0.25


#: Told of each call that is made in its context, for whoever may have to abort all of them (`asgi.py`).
note_of_calls: "contextvars.ContextVar[Optional[Callable[[Call], None]]]" = contextvars.ContextVar(
    "runtimeuse_sync_note_of_calls", default=None
)


class Wakeup:
    """Wakes one waiting thread; a wake-up that comes before the wait is not lost.

    Args:
        sliced: Whether long waits are split into slices. Only the client's own threads can do without.
    """

    __slots__ = ("_lock", "_sliced")

    def __init__(self, *, sliced: bool = True) -> None:
        self._sliced = sliced
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Lets the current or the next `wait` return; never blocks."""
        try:
            self._lock.release()
        except RuntimeError as error:
            # Already released: one pending wake-up is enough. An interrupt may be a `RuntimeError`, too.
            if "release" not in str(error):
                raise

    def wait(self, seconds: float) -> None:
        """Blocks until woken, for `seconds` at most (`math.inf`: no limit); it may return earlier."""
        if seconds > 0:
            self._lock.acquire(timeout=min(seconds, SLICE if self._sliced else threading.TIMEOUT_MAX))
        else:
            self._lock.acquire(blocking=False)


class Deadline:
    """A point on the monotonic clock; made once, when a call begins, and passed down.

    Args:
        seconds: The time until the deadline; `None` for no limit.
        clock: Returns the time in seconds.

    Attributes:
        at: The deadline on the clock, in seconds; `math.inf` for no limit.
        seconds: As given.
    """

    __slots__ = ("_clock", "at", "seconds")

    def __init__(self, seconds: Optional[float], clock: Clock = monotonic) -> None:
        self._clock = clock
        self.seconds: Optional[float] = seconds
        self.at: float = math.inf if seconds is None else clock() + seconds

    def remaining(self) -> float:
        """Returns the seconds left: 0 once the deadline has passed, `math.inf` if there is no limit."""
        return max(0.0, self.at - self._clock())

    def passed(self) -> bool:
        """Returns whether the deadline has passed."""
        return self._clock() >= self.at


class Pokable(Protocol):
    """What a call needs of its connection."""

    def poke(self) -> None:
        """Makes the connection's thread look at the call's flags; never blocks, safe from anywhere."""


class Call:
    """The state of one call.

    Attributes:
        kind: What the call does, for messages: "query", "command execution", and so on.
        deadline: When the call must have ended.
        now: Returns the time on the call's clock.
        wakeup: Wakes the calling thread, whatever it waits for.
        aborted: Whether `abort` was called.
        ask_at: When to ask `cancel_when` next, on the call's clock; `math.inf` if there is none.
        asking: Whether `cancel_when` is being asked. An interrupt of that, which ends the call, may leave it `True`.
        given_back: Whether the call's turn and connection have been given back, so that it must not continue.
        cancel_wanted: Whether to send a cancel message, if the request has been sent.
        sent: Whether the request has been passed to the socket (written only by the connection's thread).
        cancel_sent: Whether the cancel message has been passed to the socket (written only by the connection's thread).
        connection: The connection whose thread is poked when a flag changes.
        secrets: Texts that whoever makes an exception for the call must mask.
        own_error: The last exception that `noted` got.
        held_up: What keeps the request from being sent, for the text of a timeout; `""` if nothing does.
        source_id: The user's name for the call, secrets masked.
        add_output: Adds what the call has received to an exception; `None` if the call receives nothing.
        on_sent: Called in the connection's thread when it sends the request.
    """

    __slots__ = (
        "__weakref__",
        "_ask_interval",
        "_cancel_when",
        "aborted",
        "add_output",
        "ask_at",
        "asking",
        "cancel_sent",
        "cancel_wanted",
        "connection",
        "deadline",
        "given_back",
        "held_up",
        "kind",
        "now",
        "on_sent",
        "own_error",
        "secrets",
        "sent",
        "source_id",
        "wakeup",
    )

    def __init__(self, kind: str, timeout: Optional[float], clock: Clock = monotonic) -> None:
        self.kind: str = kind
        self.deadline: Deadline = Deadline(timeout, clock)
        self.wakeup: Wakeup = Wakeup()
        self.aborted: bool = False
        self.ask_at: float = math.inf
        self.asking: bool = False
        self.given_back: bool = False
        self.cancel_wanted: bool = False
        self.sent: bool = False
        self.cancel_sent: bool = False
        self.connection: Optional[Pokable] = None
        self.secrets: List[str] = []
        self.source_id: Optional[str] = None
        self.add_output: Optional[Callable[[RuntimeUseError, Call], None]] = None
        self.on_sent: Optional[Callable[[], None]] = None
        self.own_error: Optional[BaseException] = None
        self.held_up: str = ""
        self.now: Clock = clock
        self._cancel_when: Optional[Callable[[], Any]] = None
        self._ask_interval: float = math.inf
        note = note_of_calls.get()
        if note is not None:
            note(self)

    def ask_every(self, seconds: float, cancel_when: Callable[[], Any]) -> None:
        """Has `cancel_when` asked, at once and then every so many seconds, by `ask` and `wait`."""
        self._cancel_when = cancel_when
        self._ask_interval = seconds
        self.ask_at = -math.inf

    def start(self) -> None:
        """Starts the clock of the deadline. The call exists before, so that it can be aborted before it starts."""
        self.deadline = Deadline(self.deadline.seconds, self.now)

    def abort(self) -> None:
        """Makes the call raise `CancelledException`. Never blocks; safe from anywhere, at any time."""
        self.aborted = True
        self.cancel_on_runtime()
        self.wakeup.wake()

    def cancel_on_runtime(self) -> None:
        """Makes the connection's thread send a cancel message, whatever the calling thread is doing."""
        self.cancel_wanted = True
        connection = self.connection
        if connection is not None:
            connection.poke()

    def prepared(self, error: _Error) -> _Error:
        """Completes an error that this call is about to raise, and returns it.

        Notes it as the call's own, and adds `source_id` and what was received if it is a `RuntimeUseError`. Masks
        nothing: whoever makes the error has masked its text.
        """
        if isinstance(error, RuntimeUseError):
            carry(error, source_id=self.source_id)
            if self.add_output is not None:
                self.add_output(error, self)
        return self.noted(error)

    def check(self) -> None:
        """Raises if the call must not continue.

        Raises:
            CancelledException: The call was aborted.
            RunTimeoutError: The call's deadline passed.
        """
        if self.aborted:
            raise self.prepared(CancelledException(f"{self.kind.capitalize()} was cancelled"))
        if self.deadline.passed():
            why = f": {self.held_up}" if self.held_up else ""
            text = f"{self.kind.capitalize()} did not end within {self.deadline.seconds:g} s{why}"
            raise self.prepared(RunTimeoutError(text))

    def ask(self) -> None:
        """Asks `cancel_when` if it is time to; aborts the call if the answer is true.

        What `cancel_when` raises is not noted as the call's own, so nothing holds it back. The next time is counted
        from the answer: however slow the answers are, the call goes on between them.

        Raises:
            CancelledException: The answer is true, or the call was aborted or left meanwhile.
            RunTimeoutError: The call's deadline passed meanwhile.
            TypeError: The answer is something to await.
            Exception: Whatever `cancel_when` raises.
        """
        if self._cancel_when is None or self.now() < self.ask_at:
            return
        self.asking = True
        try:
            wanted = _truth(self._cancel_when())
        finally:
            self.asking = False
        self.ask_at = self.now() + self._ask_interval
        self.check()
        if self.given_back:
            raise self.prepared(CancelledException(f"{self.kind.capitalize()} was left before it ended"))
        if wanted:
            self.abort()
            raise self.prepared(CancelledException(f"{self.kind.capitalize()} was cancelled by cancel_when"))

    def wait(self, until: float = math.inf) -> None:
        """Waits for a wake-up, no longer than until `until` (on the call's clock), the deadline or the next `ask`.

        Asks only before it blocks: what has arrived meanwhile, such as the result, comes first.

        Raises:
            CancelledException: The call was aborted, or the answer of `cancel_when` is true.
            RunTimeoutError: The call's deadline passed.
            Exception: Whatever `cancel_when` raises.
        """
        self.check()
        self.ask()
        self.wakeup.wait(min(until, self.deadline.at, self.ask_at) - self.now())
        self.check()

    def noted(self, error: _Error) -> _Error:
        """Notes an exception that the call itself is about to raise, and returns it.

        A signal handler or another thread may raise an exception of any class, also of ours; only the object's identity
        tells them apart. Code that holds back an exception therefore asks `is_own`, and lets all others through.
        """
        self.own_error = error
        return error

    def is_own(self, error: BaseException) -> bool:
        """Returns whether the call itself, or one of its callbacks, raised the exception."""
        return error is self.own_error


def _truth(answer: Any) -> bool:
    """Returns whether an answer of `cancel_when` is true. Something to await always would be."""
    if answer is False or answer is True:
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    elif not inspect.isawaitable(answer):
        return bool(answer)
    raise TypeError(f"cancel_when returned something to await ({type(answer).__name__}); it must be a plain function")


class AskedByMany:
    """The `cancel_when` of a call that makes several runs: together, they ask no more often than one would.

    Args:
        cancel_when: The caller's function.
        interval: How many seconds are between two calls of it, at least.

    Attributes:
        interval: As given.
        wanted: Whether its last answer was true.
    """

    def __init__(self, cancel_when: Callable[[], Any], interval: float) -> None:
        self.interval = interval
        self.wanted: bool = False
        self._cancel_when = cancel_when
        self._ask_at = -math.inf

    def __call__(self) -> Any:
        if monotonic() < self._ask_at:
            return False
        answer = self._cancel_when()
        self.wanted = bool(answer)
        self._ask_at = monotonic() + self.interval
        return answer


def shortened(error: _Error) -> _Error:
    """Removes this package's frames from an exception's traceback, and returns the exception.

    A public method raises what this returns: so the traceback leads from the user's code to that method, and on into
    the user's callback if that is where the exception comes from. The same goes for the exception's causes. If the
    exception looks like a fault of this package, its traceback stays as it is.
    """
    seen = set()
    link: Optional[BaseException] = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if not _looks_like_a_fault(link):
            link.__traceback__ = _without_our_frames(link.__traceback__)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return error


def _looks_like_a_fault(error: BaseException) -> bool:
    """Returns whether a built-in exception that the client does not raise on purpose was raised by its own code."""
    if isinstance(error, _MEANT) or type(error).__module__ != "builtins":
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and _is_ours(trace)


def _without_our_frames(trace: Optional[TracebackType]) -> Optional[TracebackType]:
    kept = []
    while trace is not None:
        if not _is_ours(trace):
            kept.append(trace)
        trace = trace.tb_next
    rest: Optional[TracebackType] = None
    for entry in reversed(kept):
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest


def _is_ours(trace: TracebackType) -> bool:
    module = trace.tb_frame.f_globals.get("__name__")
    return isinstance(module, str) and module.split(".", maxsplit=1)[0] == _PACKAGE
