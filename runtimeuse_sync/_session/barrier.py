"""The barrier: an empty request that settles a connection whose runtime may owe something for an earlier request.

An idle runtime answers it, a busy one refuses it; `protocol.py` has the states. After an error it is sent at once. It
is sent only after some time without a terminal message, and then again and again, while a request is in flight that
nobody waits for, and after a refusal.

Threads: whoever has the session's turn uses it (`channel.py`).

Interrupts: each step may be repeated. The barrier is submitted again until it is in the outbox or was taken out of it.
"""

import math
from typing import Optional

from .._call import Call
from .._connection.base import Connection, Outgoing
from .._wire import codec
from .protocol import Protocol, State

#: Seconds without a terminal message after which the barrier is sent (again) to an unsettled connection.
PROBE_INTERVAL = 1.0

#: The same, right after the first refusal of the barrier.
FIRST_PROBE = 0.05


class Barrier:
    """The barriers after one request, and the clock that says when the next is due.

    The clock is stopped at first. Only a request that is sent makes a new one: calls that each end before the barrier
    is due must not postpone it forever.

    Args:
        connection: The connection.
        protocol: The state of the requests on it.
    """

    def __init__(self, connection: Connection, protocol: Protocol) -> None:
        self._connection = connection
        self._protocol = protocol
        self._latest: Optional[Outgoing] = None
        # On the clock of the calls.
        self._due_at = math.inf
        self._after_refusal = FIRST_PROBE
        self._refused = False

    def settle(self) -> None:
        """Does what the protocol's state requires so that the connection becomes settled. May be repeated."""
        state = self._protocol.state
        if state is State.UNSURE:
            self._send()
        elif self._protocol.probing and self._latest is not None:
            # An interrupt may have come before it was submitted.
            self._connection.submit_barrier(self._latest)
        elif state is State.FREE:
            self._connection.settled()
        elif state is State.REFUSED:
            # The agent goes on after its error. The caller has got that error and waits for nothing more.
            self._connection.barrier_refused()

    def wait(self, call: Call) -> None:
        """Waits until a message has come, or the barrier is due, and then sends it; raises as `Call.wait`."""
        now = call.now()
        if self._due_at == math.inf:
            self._due_at = now + PROBE_INTERVAL
        if self._protocol.state is State.REFUSED and not self._refused:
            # The barrier may have come just before the runtime became idle: ask again soon, then less and less often.
            self._refused = True
            self._due_at = now + self._after_refusal
            self._after_refusal = min(2 * self._after_refusal, PROBE_INTERVAL)
        if call.now() < self._due_at:
            call.held_up = "the runtime was still busy with an earlier request"
            call.wait(self._due_at)
            call.held_up = ""
            return
        if not self._protocol.probing:
            self._send()
            self._refused = False
        self._due_at = call.now() + PROBE_INTERVAL

    def _send(self) -> None:
        barrier = self._latest = Outgoing(codec.encode(codec.encode_barrier(self._protocol.secrets)))
        self._protocol.probe()
        self._connection.submit_barrier(barrier)
