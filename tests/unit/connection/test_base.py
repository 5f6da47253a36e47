"""What all connections share: the order of what is sent, cancelling, closing, and defects in the thread."""

from __future__ import annotations

import json
import math
import os
import threading
from typing import Callable, List, Optional

import pytest

from runtimeuse_sync._call import Call, Wakeup
from runtimeuse_sync._connection.base import Connection, Outgoing
from runtimeuse_sync._connection.closed import ConnectionClosed, Ending, connection_error
from runtimeuse_sync.errors import ConnectionLostError, RuntimeConnectionError, SessionStateError

from ...support.doubles import FakeClock, IdleConnection
from ...support.servers import PATIENCE
from ...support.threads import InThread

REQUEST, OTHER, CANCEL = b'{"n": 1}', b'{"n": 2}', {"message_type": "cancel_message"}


def taken(connection: IdleConnection) -> List[object]:
    return [json.loads(payload) for payload in connection.take_outgoing()]


def call_on(connection: IdleConnection, timeout: Optional[float] = None, clock: Optional[FakeClock] = None) -> Call:
    call = Call("query", timeout, clock or FakeClock())
    call.connection = connection
    return call


def test_messages_are_sent_in_order_and_once() -> None:
    connection = IdleConnection()
    for number in range(5):
        connection.submit(b"%d" % number)
    assert taken(connection) == [0, 1, 2, 3, 4]
    assert taken(connection) == []
    assert connection.pokes >= 5


def test_a_cancel_follows_its_request() -> None:
    connection = IdleConnection()
    call = call_on(connection)
    connection.submit(REQUEST, call)
    call.abort()
    connection.submit(OTHER)
    outgoing = taken(connection)
    assert outgoing.index(CANCEL) > outgoing.index({"n": 1})
    assert outgoing.count(CANCEL) == 1
    assert call.sent
    assert call.cancel_sent
    # Once only, however often it is asked for.
    call.abort()
    assert taken(connection) == []


def test_a_cancel_precedes_what_its_caller_submits_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the caller and the connection's thread interleave: here in the middle of the thread's round."""
    connection = IdleConnection()
    call = call_on(connection)
    connection.submit(REQUEST, call)
    assert taken(connection) == [{"n": 1}]
    look = connection._add_cancellation
    rounds: List[object] = []

    def looked_too_early(outgoing: List[bytes]) -> None:
        look(outgoing)
        if not rounds:
            call.abort()
            connection.submit(OTHER)
        rounds.append(None)

    monkeypatch.setattr(connection, "_add_cancellation", looked_too_early)
    assert [*taken(connection), *taken(connection)] == [CANCEL, {"n": 2}]


def test_a_withdrawn_request_is_never_sent() -> None:
    connection = IdleConnection()
    call = call_on(connection)
    request = Outgoing(REQUEST, call)
    connection.submit_once(request)
    connection.submit(OTHER)
    assert request.withdraw()
    assert taken(connection) == [{"n": 2}]
    assert not call.sent
    assert not request.taken
    assert connection.unsent == 0


def test_a_request_that_is_taken_cannot_be_withdrawn() -> None:
    connection = IdleConnection()
    request = Outgoing(REQUEST, call_on(connection))
    connection.submit_once(request)
    assert taken(connection) == [{"n": 1}]
    assert not request.withdraw()
    assert request.taken
    assert connection.has_got(request)


def test_requests_stay_where_the_thread_must_read_first() -> None:
    connection = IdleConnection()
    connection.submit(OTHER)
    connection.submit(REQUEST, call_on(connection))
    connection.submit(OTHER)
    assert connection._take_outgoing(requests=False) == [OTHER]
    assert connection._take_outgoing(requests=False) == []
    assert connection.take_outgoing() == [REQUEST, OTHER]


def test_a_cancel_that_comes_later() -> None:
    connection = IdleConnection()
    call = call_on(connection)
    connection.submit(REQUEST, call)
    assert taken(connection) == [{"n": 1}]
    pokes = connection.pokes
    call.abort()
    assert connection.pokes > pokes
    assert taken(connection) == [CANCEL]


def test_a_cancel_never_follows_a_later_request() -> None:
    connection = IdleConnection()
    first, second = call_on(connection), call_on(connection)
    connection.submit(REQUEST, first)
    taken(connection)
    # The first has ended, the second is in flight: an abort of the first comes too late.
    connection.submit(OTHER, second)
    first.abort()
    assert taken(connection) == [{"n": 2}]
    first.abort()
    assert taken(connection) == []


def test_nothing_in_flight_nothing_to_cancel() -> None:
    connection = IdleConnection()
    call = call_on(connection)
    call.abort()
    assert taken(connection) == []
    # An aborted call whose request never left is not cancelled either.
    connection.in_flight = call
    assert taken(connection) == []


def test_the_deadline_sends_one_cancel() -> None:
    clock = FakeClock()
    connection = IdleConnection(clock=clock)
    call = call_on(connection, 5.0, clock)
    assert connection._next_alarm() == math.inf
    connection.submit(REQUEST, call)
    assert connection._next_alarm() == math.inf  # not sent yet
    taken(connection)
    assert connection._next_alarm() == clock.now + 5
    clock.advance(4.9)
    assert taken(connection) == []
    clock.advance(0.1)
    assert taken(connection) == [CANCEL]
    assert connection._next_alarm() == math.inf
    clock.advance(100)
    assert taken(connection) == []


def test_a_request_that_was_sent_after_its_deadline_is_cancelled_at_once() -> None:
    clock = FakeClock()
    connection = IdleConnection(clock=clock)
    call = call_on(connection, 5.0, clock)
    connection.submit(REQUEST, call)
    clock.advance(6)
    assert taken(connection) == [{"n": 1}, CANCEL]


def test_a_request_that_was_withdrawn_is_not_sent_when_the_connection_closes() -> None:
    connection = IdleConnection()
    call = call_on(connection)
    connection.submit(REQUEST, call)
    call.abort()
    connection.close()
    assert taken(connection) == []
    assert not call.sent


def test_what_is_wanted_is_still_sent_when_the_connection_closes() -> None:
    connection = IdleConnection()
    call = call_on(connection)
    connection.submit(OTHER)
    connection.submit(REQUEST, call)
    connection.close()
    assert taken(connection) == [{"n": 2}, {"n": 1}]


def test_room_in_the_inbox_wakes_the_thread() -> None:
    connection = IdleConnection(max_buffered=10)
    connection.inbox.put(["x" * 100])
    batch = connection.inbox.first()
    assert batch is not None
    pokes = connection.pokes
    connection.used_up(batch)
    assert connection.pokes > pokes


class ThreadedConnection(Connection):
    """A connection whose thread does what the test says."""

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.release = threading.Event()
        self.result: BaseException = ConnectionClosed("the end", Ending.CLOSED)
        super().__init__(1000)

    def poke(self) -> None:
        self.wakeup.wake()

    def _run(self) -> ConnectionClosed:
        self._opened()
        assert self.release.wait(PATIENCE)
        if isinstance(self.result, ConnectionClosed):
            return self.result
        raise self.result


def wait_until(condition: Callable[[], bool], listener: Wakeup) -> None:
    """Waits in another thread than the main one, whose waits end by themselves after a while."""

    def wait() -> None:
        while not condition():
            # If nobody wakes it, this takes longer than the test has patience.
            listener.wait(10 * PATIENCE)

    InThread(wait).result()


def wait_until_closed(connection: Connection, listener: Wakeup) -> ConnectionClosed:
    wait_until(lambda: connection.inbox.closed is not None, listener)
    assert connection.inbox.closed is not None
    return connection.inbox.closed


def test_the_listener_is_woken_when_the_connection_opens_and_closes() -> None:
    connection, listener = ThreadedConnection(), Wakeup()
    connection.start(listener)
    wait_until(lambda: connection.is_open, listener)
    assert connection.inbox.closed is None
    connection.release.set()
    assert wait_until_closed(connection, listener) is connection.result
    connection.join()


@pytest.mark.parametrize("defect", [ValueError("ours"), SystemExit(), RecursionError(), MemoryError()])
def test_a_defect_in_the_thread_reaches_the_caller(defect: BaseException) -> None:
    connection, listener = ThreadedConnection(), Wakeup()
    connection.result = defect
    connection.start(listener)
    connection.release.set()
    closed = wait_until_closed(connection, listener)
    connection.join()
    assert closed.cause is defect
    error = connection_error(closed, "ws://h", "query", [])
    assert isinstance(error, ConnectionLostError)
    assert error.__cause__ is defect
    assert type(defect).__name__ in str(error)
    assert error.metadata == {"in_flight": "query"}


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    connection = ThreadedConnection()
    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeConnectionError, match="can't start new thread; make fewer calls"):
        connection.start(Wakeup())
    connection.close()
    connection.join()


def test_a_forked_process_cannot_use_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = IdleConnection()
    connection.check_process(Call("query", None))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert not connection.belongs_to_this_process
    with pytest.raises(SessionStateError, match="fork"):
        connection.check_process(Call("query", None))
    connection.join()
