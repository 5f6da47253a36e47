"""What all kinds of connection share: the thread that owns the connection, the outbox, and the order of cancellations.

Threads:
    the connection's thread   opens the connection, reads from it into the inbox, sends what is in the outbox, watches
                              the deadline of the call in flight, and closes the connection. Only it uses the transport.
    callers                   put messages into the outbox (`submit`), take messages from the inbox, and ask for the
                              close. They never use the transport, so no interrupt of a caller leaves a frame half sent.
    any thread                may `poke` the connection's thread, which never blocks.

A `cancel_message` names no request: the runtime cancels whatever it works on. So the order of what is sent decides, and
only the connection's thread sends cancellations. In each round it takes the messages of the outbox one by one, and
marks each request as sent. Once a message is there, and before it takes it, it cancels the call in flight, if that is
wanted and its request has been sent; after the last one it looks again. A caller makes its call the one in flight
before it puts the request into the outbox, and has a call cancelled before it submits what comes after the call. So a
cancellation follows the request that it is meant for, and never follows a later message. While a barrier awaits its
answer (`barrier_out`, set before the barrier goes into the outbox), no cancellation is sent: it might cancel the
barrier. Whoever reads the answer says so: `barrier_refused` or `settled`.

A request is either taken by the connection's thread, and then counts as sent, or withdrawn by its caller, and is then
never sent (`Outgoing`). So a caller that finds the connection closed can be certain that its request did not leave.

After a fork the child has the object, but not the thread: it must not touch the socket that it shares with its parent.
So every use there raises (`check_process`).

States: opening → open → closed, or opening → closed. `inbox.closed` says why it is closed. `close` may be called at any
time; the connection's thread does the closing.
"""

import itertools
import math
import os
import sys
import threading
from collections import deque
from typing import Callable, Deque, Dict, List, Optional

from .._call import Call, Clock, Wakeup, monotonic
from .._logs import Records, logger_for
from .._threads import Start, join_thread, new_thread
from .._wire import codec
from ..errors import RuntimeUseError, SessionStateError, said
from .closed import ConnectionClosed, Ending
from .inbox import Batch, Inbox

_numbers = itertools.count(1)

_FINALIZING = "the interpreter is shutting down"

_CANCEL = codec.encode(codec.CANCEL)


class Outgoing:
    """A message to send.

    Attributes:
        payload: The message, as JSON text in UTF-8.
        request_of: The call whose request this is; `None` for other messages.
    """

    __slots__ = ("_taken", "payload", "request_of")

    def __init__(self, payload: bytes, request_of: Optional[Call] = None) -> None:
        self.payload: bytes = payload
        self.request_of: Optional[Call] = request_of
        # Empty until it is decided. `setdefault` is atomic: of `take` and `withdraw`, the first decides.
        self._taken: Dict[str, bool] = {}

    @property
    def taken(self) -> bool:
        """Whether the connection's thread has taken it out of the outbox, to send it."""
        return self._taken.get("taken", False)

    def take(self) -> bool:
        """Takes it, unless it is withdrawn; returns whether it is taken."""
        return self._taken.setdefault("taken", True)

    def withdraw(self) -> bool:
        """Keeps it from being sent, unless it is taken; returns whether it is withdrawn. May be repeated."""
        return not self._taken.setdefault("taken", False)


class Connection:
    """Base class of connections. A subclass implements `_run`, the work of the thread, and `poke`.

    Attributes:
        inbox: The received messages.
        is_open: Whether the connection has been opened.
        in_flight: The call whose request is in flight, while the runtime may have to be told to cancel it.
        barrier_out: Whether a barrier awaits its answer.
        paused: Whether the thread waits for room in the inbox.
        last_failure: How the last attempt to connect failed; the thread tries again.
        in_user_code: Whether the thread is inside a custom transport's `connect`, which nobody can interrupt.
        records: Where the thread logs that it tries again to connect.
        on_unused: Called in the connection's thread, from time to time while messages are in the inbox.
        closes_after: The `message_type` of the last message that anyone waits for: after it the thread may close the
            connection by itself. `""` if more may follow, or the caller may want to see the connection open.
        replaces: How the session's connection before this one ended; the thread logs it when this one is open.
    """

    #: For how many seconds at most a caller waits for the thread to end. The thread is about to end then, and needs no
    #: more than to be scheduled, which may take long on a busy machine.
    join_timeout: float = 10.0

    #: The same for a caller that has no time left.
    shortest_join: float = 10.0

    def __init__(self, max_buffered: int, clock: Clock = monotonic) -> None:
        self.inbox: Inbox = Inbox(max_buffered)
        self.is_open: bool = False
        self.in_flight: Optional[Call] = None
        self.barrier_out: bool = False
        self.in_user_code: bool = False
        self.paused: bool = False
        self.last_failure: str = ""
        self.records: Records = Records(logger_for(None))
        self.on_unused: Optional[Callable[[], None]] = None
        self.closes_after: str = ""
        self.replaces: str = ""
        self._clock = clock
        self._closing = False
        self._wake_on_open = True
        self._outbox: Deque[Outgoing] = deque()
        # Bytes that were put into the outbox, taken out of it, and not sent after that. One thread writes each of them.
        self._submitted_bytes = 0
        self._taken_bytes = 0
        self._unsent_bytes = 0
        self._pid = os.getpid()
        self._thread = new_thread(self._main, f"runtimeuse-connection-{next(_numbers)}")
        self._start_ended = Wakeup()
        self._start = Start(self._thread, self._not_started, over=self._start_ended.wake)

    # For callers.

    def start(self, listener: Wakeup, *, wake_on_open: bool = True, records: Optional[Records] = None) -> None:
        """Starts the thread, which opens the connection. The caller must `close` afterwards, also if this raises.

        The caller must set whatever else the thread has to know, such as that a request is cancelled, before that.

        Args:
            listener: Woken when messages have come, and when the connection is closed or could not be opened.
            wake_on_open: Whether to wake it also when the connection is open.
            records: Writes the warnings about attempts to connect that failed; default: to the package's logger.

        Raises:
            RuntimeConnectionError: the system cannot start another thread.
            SessionStateError: the interpreter is shutting down.
        """
        self.inbox.listener = listener
        self._wake_on_open = wake_on_open
        if records is not None:
            self.records = records
        if sys.is_finalizing():
            # No other thread runs any more, so waiting for one would never end.
            raise SessionStateError(_FINALIZING)
        self._start.begin()

    def submit(self, payload: bytes, request_of: Optional[Call] = None) -> None:
        """Puts a message into the outbox; never blocks.

        Args:
            payload: The message, as JSON text in UTF-8.
            request_of: The call whose request this is; `None` (default) for other messages.
        """
        self.submit_once(Outgoing(payload, request_of))

    def submit_once(self, outgoing: Outgoing) -> None:
        """Puts a message into the outbox unless it is there, or was; never blocks, and may be repeated."""
        if outgoing.request_of is not None:
            self.in_flight = outgoing.request_of
        if not self.has_got(outgoing):
            self._submitted_bytes += len(outgoing.payload)
            self._outbox.append(outgoing)
        self.poke()

    def submit_barrier(self, barrier: Outgoing) -> None:
        """Submits the barrier once; no cancellation is sent until its answer. Never blocks; may be repeated."""
        self.barrier_out = True
        self.submit_once(barrier)

    def barrier_refused(self) -> None:
        """Cancels the call in flight: the runtime has refused the barrier, so it still works for that call.

        Has no effect if no barrier awaits its answer, so it may be repeated.
        """
        if self.barrier_out:
            self.barrier_out = False
            if self.in_flight is not None:
                self.in_flight.cancel_on_runtime()

    def settled(self) -> None:
        """Notes that the runtime owes nothing: no call is in flight, no barrier awaits its answer. May be repeated."""
        self.in_flight = None
        self.barrier_out = False

    def has_got(self, outgoing: Outgoing) -> bool:
        """Returns whether a message is in the outbox, or was."""
        # In this order, because the thread marks it as taken before it removes it.
        return outgoing in self._outbox or outgoing.taken

    @property
    def unsent(self) -> int:
        """About how many bytes have been submitted that the transport has not sent."""
        return self._submitted_bytes - self._taken_bytes + self._unsent_bytes

    def used_up(self, batch: Batch) -> None:
        """Takes a used-up batch out of the inbox; if that made room, the thread reads on."""
        if self.inbox.done(batch):
            self.poke()

    def poke(self) -> None:
        """Wakes the connection's thread, which then looks at what has changed. Never blocks; safe from anywhere."""
        raise NotImplementedError

    def close(self) -> None:
        """Asks the thread to close the connection, after it has sent what the transport takes at once of the outbox.

        Never blocks; may be repeated.
        """
        self._closing = True
        self.poke()

    def fail(self, reason: ConnectionClosed) -> None:
        """Closes the connection and discards what is left in the inbox; only for the thread that takes from it."""
        self.inbox.fail(reason)
        self.close()

    def join(self, patience: float = math.inf) -> None:
        """Waits for the connection's thread to end, unless it is the current thread, or is inside of user code.

        Args:
            patience: For how many seconds to wait; at most `join_timeout`, and at least `shortest_join` seconds.
        """
        if self.is_current_thread:
            return
        until = monotonic() + min(self.join_timeout, max(patience, self.shortest_join))
        while self._may_run and self.belongs_to_this_process and not self.in_user_code:
            left = until - monotonic()
            # Daemon threads stop when the interpreter shuts down.
            if left <= 0 or sys.is_finalizing():
                return
            if self._thread.is_alive():
                if join_thread(self._thread, min(left, 0.3)):
                    return
            else:
                self._start_ended.wait(min(left, 0.1))

    @property
    def _may_run(self) -> bool:
        # In this order: the thread is alive before its start is over.
        return self._start.under_way or self._thread.is_alive()

    @property
    def is_current_thread(self) -> bool:
        """Whether the connection's thread asks, as it may in a finalizer that the garbage collector runs there."""
        # A thread that has ended leaves its number to others.
        return threading.get_ident() == self._thread.ident and self._thread.is_alive()

    @property
    def seems_open(self) -> bool:
        """Whether the connection is open as far as this process knows, and nobody has asked for its close."""
        usable = self.belongs_to_this_process and not sys.is_finalizing()
        return usable and self.is_open and not self._closing and self.inbox.closed is None

    def is_alive(self, seconds: float) -> bool:  # noqa: ARG002  # connections that have pings need it
        """Returns whether the peer shows that it is there, within a time in seconds; never raises but an interrupt.

        Here, for connections that have no pings: whether the connection seems to be open.
        """
        return self.seems_open

    @property
    def belongs_to_this_process(self) -> bool:
        """Whether this process opened the connection. A forked child must not use the one that it inherited."""
        return os.getpid() == self._pid

    def check_process(self, call: Call) -> None:
        """Checks that the connection's thread can run.

        Args:
            call: The call that asks; the error carries its `source_id`.

        Raises:
            SessionStateError: this process inherited the connection by `fork`, or the interpreter is shutting down.
        """
        if sys.is_finalizing():
            raise call.prepared(SessionStateError(_FINALIZING))
        if not self.belongs_to_this_process:
            raise call.prepared(
                SessionStateError(
                    "this session was opened in another process and cannot be used after a fork; open a new one here"
                )
            )

    def _not_started(self, error: RuntimeUseError) -> None:
        self.inbox.close(ConnectionClosed(said(error), Ending.NEVER_OPENED, cause=error.__cause__))

    # For the connection's thread.

    def _main(self) -> None:
        reason = ConnectionClosed("its thread ended", Ending.LOST)
        try:
            reason = self._run()
        except BaseException as error:
            # A defect, of this package or a custom transport. The waiting caller gets it, so that it does not hang.
            reason = ConnectionClosed(f"its thread failed: {type(error).__name__}", Ending.LOST, cause=error)
        finally:
            self.on_unused = None
            self.inbox.close(reason)
            self._wake_others()

    def _wake_others(self) -> None:
        """Wakes those who wait for the connection, but for the inbox's listener, after it has been closed."""

    def _run(self) -> ConnectionClosed:
        """Opens the connection, serves it until it ends, closes it, and returns why it ended."""
        raise NotImplementedError

    def _opened(self) -> None:
        self.is_open = True
        if self.replaces:
            self.records.write(self.records.logger.warning, "%s; connected again", self.replaces)
        listener = self.inbox.listener
        if listener is not None and self._wake_on_open:
            listener.wake()

    def _offer_unused(self) -> None:
        """Calls `on_unused` if there are messages in the inbox, in case no caller is there to take them."""
        if self.on_unused is not None and self.inbox.first() is not None:
            self.on_unused()

    def _take_outgoing(self, *, requests: bool = True) -> List[bytes]:
        """Returns the payloads to send now, in order. The thread must send them all, or close the connection.

        Args:
            requests: Whether to take requests, too. If not, the first one stays in the outbox, and all that follows.
        """
        outgoing: List[bytes] = []
        while self._outbox:
            # For each message: its caller may have cancelled the call in flight just before it submitted the message.
            self._add_cancellation(outgoing)
            next_one = self._outbox[0]
            if next_one.request_of is not None and not requests:
                break
            taken = next_one.take()
            self._outbox.popleft()
            self._taken_bytes += len(next_one.payload)
            if not taken:
                continue
            call = next_one.request_of
            if call is not None:
                if self._closing and call.cancel_wanted:
                    continue  # Nobody waits for its answer, and the connection ends.
                call.sent = True
                if call.on_sent is not None:
                    call.on_sent()
            outgoing.append(next_one.payload)
        self._add_cancellation(outgoing)
        return outgoing

    def _add_cancellation(self, outgoing: List[bytes]) -> None:
        call = self._call_to_watch()
        if call is None:
            return
        if call.deadline.passed():
            call.cancel_wanted = True
        if call.cancel_wanted:
            call.cancel_sent = True
            outgoing.append(_CANCEL)

    def _next_alarm(self) -> float:
        """Returns the deadline of the call in flight, on the clock in seconds; `math.inf` if there is none."""
        call = self._call_to_watch()
        return math.inf if call is None else call.deadline.at

    def _call_to_watch(self) -> Optional[Call]:
        """Returns the call in flight if a cancellation for it may be sent; else `None`."""
        call = self.in_flight
        if call is None or not call.sent or call.cancel_sent or self.barrier_out:
            return None
        return call
