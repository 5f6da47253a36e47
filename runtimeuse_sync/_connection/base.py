"""A connection to a runtime and the thread that owns it: what all kinds of connection share.

Threads:
    the connection's thread   opens it, reads from it into the inbox, sends what is in the outbox, watches the clock for
                              the call in flight, and closes it. It alone touches the transport.
    callers                   put messages into the outbox (`submit`), take from the inbox, and ask for the close. They
                              never touch the transport, so an interrupt in a caller cannot leave a frame half sent.
    anybody                   `poke`: wakes the connection's thread; never blocks.

Which request a cancellation hits is decided by order alone, so only the connection's thread sends one. In each round it
looks whether the call in flight is to be cancelled, if its request has been sent; then takes the outbox, which marks a
request as sent; then looks again. A caller makes its call the one in flight before it puts the request into the outbox.
So a cancellation follows the request it is meant for, and never follows a later one. While the answer to a barrier is
awaited (`barrier_out`, set before the barrier is put into the outbox) no cancellation is sent, or it might end the
barrier instead. Whoever reads the answer says so: `barrier_refused` or `settled`.

States: opening → open → closed; or opening → closed. `inbox.closed` holds the reason of the last. Closing is asked for
by `close` at any time and done by the connection's thread.
"""

import itertools
import math
import os
import sys
import threading
import time
from collections import deque
from typing import Callable, Deque, List, Optional

from .._call import Call, Clock, Wakeup
from .._logs import Records, logger_for
from .._threads import Start, join_thread, new_thread
from .._wire import codec
from ..errors import RuntimeUseError, SessionStateError
from .closed import ConnectionClosed, Ending
from .inbox import Batch, Inbox

_numbers = itertools.count(1)

_FINALIZING = "the interpreter is shutting down"

_CANCEL = codec.encode(codec.CANCEL)


class Outgoing:
    """A message that is to be sent.

    Attributes:
        payload: JSON text in UTF-8.
        request_of: The call whose request it is; `None` for one that is no request.
        taken: Whether the connection's thread has taken it out of the outbox.
    """

    __slots__ = ("payload", "request_of", "taken")

    def __init__(self, payload: bytes, request_of: Optional[Call] = None) -> None:
        self.payload = payload
        self.request_of = request_of
        self.taken = False


class Connection:
    """Base of the connections; a subclass has `_run`, which does the work of the thread, and `poke`.

    Attributes:
        inbox: What has been received.
        is_open: Whether the connection has been opened.
        in_flight: The call whose request is in flight, as far as the runtime may have to be told of it.
        barrier_out: Whether the answer to a barrier is awaited.
        paused: Whether its thread waits for room in the inbox.
        last_failure: How the last attempt to connect failed, while it is tried again.
        held_up: Whether its thread is inside something that cannot be ended from outside, such as a custom transport.
        records: Where it says that it tries again to connect.
        on_unused: Called in the connection's thread, every now and then while there are messages in the inbox.
    """

    #: How long a caller waits for the thread to end, in seconds: it is on its way out then, and needs no more than a
    #: turn of the processor, which a busy machine may keep it waiting for.
    join_timeout = 10.0

    #: The same for a caller that has no time left.
    shortest_join = 10.0

    def __init__(self, max_buffered: int, clock: Clock = time.monotonic) -> None:
        self.inbox = Inbox(max_buffered)
        self.is_open = False
        self.in_flight: Optional[Call] = None
        self.barrier_out = False
        self.held_up = False
        self.paused = False
        self.last_failure = ""
        self.records = Records(logger_for(None))
        self.on_unused: Optional[Callable[[], None]] = None
        self._clock = clock
        self._closing = False
        self._tell_opening = True
        self._outbox: Deque[Outgoing] = deque()
        # Each written by one side only. The last: what was taken, and the transport has not sent.
        self._submitted_bytes = 0
        self._taken_bytes = 0
        self._unsent_bytes = 0
        self._pid = os.getpid()
        self._thread = new_thread(self._main, f"runtimeuse-connection-{next(_numbers)}")
        self._start_over = Wakeup()
        self._start = Start(self._thread, self._not_started, over=self._start_over.wake)

    # For callers.

    def start(self, listener: Wakeup, *, tell_opening: bool = True) -> None:
        """Starts the thread, which opens the connection; whoever calls this must `close`, also if it raises.

        That comes second: what else the thread must know, such as that a request is cancelled, it must know before.

        Args:
            listener: Woken when there is something in the inbox, and when the connection cannot be opened.
            tell_opening: Whether it is woken also when the connection is open.

        Raises:
            RuntimeConnectionError: the system cannot start another thread.
            SessionStateError: the interpreter is shutting down.
        """
        self.inbox.listener = listener
        self._tell_opening = tell_opening
        if sys.is_finalizing():
            # No thread runs any more, and waiting for one never ends.
            raise SessionStateError(_FINALIZING)
        self._start.begin()

    def submit(self, payload: bytes, request_of: Optional[Call] = None) -> None:
        """Has a message sent; never blocks.

        Args:
            payload: The message, as JSON text in UTF-8.
            request_of: The call whose request this is.
        """
        self.submit_once(Outgoing(payload, request_of))

    def submit_once(self, outgoing: "Outgoing") -> None:
        """Has a message sent, unless it is waiting to be, or has been; never blocks."""
        if outgoing.request_of is not None:
            self.in_flight = outgoing.request_of
        if not self.has_got(outgoing):
            self._submitted_bytes += len(outgoing.payload)
            self._outbox.append(outgoing)
        self.poke()

    def submit_barrier(self, barrier: "Outgoing") -> None:
        """Has the barrier sent, once; until it is answered, no cancellation is sent. Never blocks; may be repeated."""
        self.barrier_out = True
        self.submit_once(barrier)

    def barrier_refused(self) -> None:
        """Cancels the call in flight: the runtime has refused the barrier, so it still works for that call.

        Without effect if no barrier is awaited, as when this is repeated.
        """
        if self.barrier_out:
            self.barrier_out = False
            if self.in_flight is not None:
                self.in_flight.cancel_on_runtime()

    def settled(self) -> None:
        """Notes that the runtime owes nothing: no call is in flight, and no barrier is awaited. May be repeated."""
        self.in_flight = None
        self.barrier_out = False

    def has_got(self, outgoing: "Outgoing") -> bool:
        """Returns whether a message is waiting to be sent, or has been."""
        # In this order: it is marked as taken before it leaves the outbox.
        return outgoing in self._outbox or outgoing.taken

    @property
    def unsent(self) -> int:
        """How many bytes wait until the peer takes them, about."""
        return self._submitted_bytes - self._taken_bytes + self._unsent_bytes

    def used_up(self, batch: Batch) -> None:
        """Takes a used-up batch out of the inbox, and has reading go on if that made room."""
        if self.inbox.done(batch):
            self.poke()

    def poke(self) -> None:
        """Has the connection's thread look at what has changed; never blocks, safe from anywhere."""
        raise NotImplementedError

    def close(self) -> None:
        """Has the connection closed, after what is in the outbox has been sent as far as that is possible at once."""
        self._closing = True
        self.poke()

    def fail(self, reason: ConnectionClosed) -> None:
        """Has the connection closed; what it has brought, and is not used up, counts no more. For who takes from it."""
        self.inbox.fail(reason)
        self.close()

    def join(self, patience: float = math.inf) -> None:
        """Waits for the connection's thread to end, unless it is held up where nobody can reach it, or is this one.

        Args:
            patience: The seconds that the caller has for it; it waits for `join_timeout` at most, and for
                `shortest_join` in any case.
        """
        if self.runs_this:
            return
        until = time.monotonic() + min(self.join_timeout, max(patience, self.shortest_join))
        while self._may_run and self.belongs_to_this_process and not self.held_up:
            left = until - time.monotonic()
            # At the interpreter's end, daemons do not run any more.
            if left <= 0 or sys.is_finalizing():
                return
            if self._thread.is_alive():
                if join_thread(self._thread, min(left, 0.3)):
                    return
            else:
                self._start_over.wait(min(left, 0.1))

    @property
    def _may_run(self) -> bool:
        # In this order: it is alive before its start is over.
        return self._start.under_way or self._thread.is_alive()

    @property
    def runs_this(self) -> bool:
        """Whether the connection's own thread asks: one that collects garbage finalizes whatever it finds."""
        # Of a thread that has ended, another may have the number.
        return threading.get_ident() == self._thread.ident and self._thread.is_alive()

    @property
    def belongs_to_this_process(self) -> bool:
        """Whether this is the process that opened it: a child process must leave an inherited connection alone."""
        return os.getpid() == self._pid

    def check_process(self, call: Call) -> None:
        """Raises `SessionStateError`, as the call's own, where the connection's thread does not run.

        That is in a process that only inherited the connection by `fork`, and at the interpreter's end.
        """
        if sys.is_finalizing():
            raise call.told(SessionStateError(_FINALIZING))
        if not self.belongs_to_this_process:
            raise call.told(
                SessionStateError(
                    "this session was opened in another process and cannot be used after a fork; open a new one here"
                )
            )

    def _not_started(self, error: RuntimeUseError) -> None:
        self.inbox.close(ConnectionClosed(str(error), Ending.NEVER_OPENED, cause=error.__cause__))

    # For the connection's thread.

    def _main(self) -> None:
        reason = ConnectionClosed("its thread ended", Ending.LOST)
        try:
            reason = self._run()
        except BaseException as error:
            # A defect of ours or of a custom transport: the waiting caller gets it, so that nothing hangs.
            reason = ConnectionClosed(f"its thread failed: {type(error).__name__}", Ending.LOST, cause=error)
        finally:
            self.on_unused = None
            self.inbox.close(reason)

    def _run(self) -> ConnectionClosed:
        """Opens the connection, serves it until it is over, closes it; returns why it is over."""
        raise NotImplementedError

    def _opened(self) -> None:
        self.is_open = True
        listener = self.inbox.listener
        if listener is not None and self._tell_opening:
            listener.wake()

    def _offer_unused(self) -> None:
        """Has the inbox looked after, in case no caller is there to do it."""
        if self.on_unused is not None and self.inbox.first() is not None:
            self.on_unused()

    def _take_outgoing(self) -> List[bytes]:
        """Returns what is to be sent now, in order; what it returns must be sent, or the connection closed."""
        outgoing: List[bytes] = []
        self._add_cancellation(outgoing)
        while self._outbox:
            next_one = self._outbox[0]
            next_one.taken = True
            self._outbox.popleft()
            self._taken_bytes += len(next_one.payload)
            call = next_one.request_of
            if call is not None:
                if self._closing and call.cancel_wanted:
                    continue  # Nobody wants its answer any more, and the connection ends here.
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
        """Returns when the call in flight must be cancelled, on the clock; `math.inf` for never."""
        call = self._call_to_watch()
        return math.inf if call is None else call.deadline.at

    def _call_to_watch(self) -> Optional[Call]:
        """Returns the call in flight if the runtime can be told to cancel it."""
        call = self.in_flight
        if call is None or not call.sent or call.cancel_sent or self.barrier_out:
            return None
        return call
