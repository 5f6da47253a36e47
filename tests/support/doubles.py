"""Stand-ins: a clock moved by hand, a connection without a thread, transports in memory, interrupts at each step."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from types import CodeType, FrameType
from typing import Any, Callable, Dict, Iterator, List, Optional

from runtimeuse_sync._connection.base import Connection

from .servers import PATIENCE
from .threads import InThread

Message = Dict[str, Any]


class FakeClock:
    """A monotonic clock that moves only when a test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class IdleConnection(Connection):
    """A connection without a thread: the test takes what would be sent, and hands in what would be received."""

    def __init__(self, max_buffered: int = 2**20, clock: Optional[FakeClock] = None) -> None:
        self.pokes = 0
        super().__init__(max_buffered, clock or FakeClock())
        self.is_open = True

    def poke(self) -> None:
        self.pokes += 1

    def take_outgoing(self) -> List[bytes]:
        return self._take_outgoing()

    def hand_in(self, items: List[Any]) -> None:
        """Does what a connection's thread does with what it has received."""
        self.inbox.put(items)
        self.look_after()

    def look_after(self) -> None:
        """Does what a connection's thread does in each of its rounds."""
        self._offer_unused()


class MemoryTransport:
    """A `ConnectedTransport` whose other end the test plays."""

    def __init__(self) -> None:
        self.sent: queue.Queue[Message] = queue.Queue()
        self.closed = threading.Event()
        self._incoming: queue.Queue[Optional[Message]] = queue.Queue()

    # For the client.

    def send(self, message: Message) -> None:
        self.sent.put(message)

    def receive(self) -> Optional[Message]:
        return self._incoming.get()

    def close(self) -> None:
        self.closed.set()
        self._incoming.put(None)

    # For the test.

    def say(self, message: Message) -> None:
        self._incoming.put(message)

    def hang_up(self) -> None:
        self._incoming.put(None)

    def next_sent(self) -> Message:
        return self.sent.get(timeout=PATIENCE)


class BlockingTransport(MemoryTransport):
    """Blocks in one of its methods until the test lets it go on, whatever happens.

    Attributes:
        where: The method's name.
        blocked: Set once it blocks.
        go_on: Lets it go on.
    """

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.blocked = threading.Event()
        self.go_on = threading.Event()

    def send(self, message: Message) -> None:
        self.perhaps_block("send")
        super().send(message)

    def receive(self) -> Optional[Message]:
        self.perhaps_block("receive")
        return super().receive()

    def perhaps_block(self, where: str) -> None:
        if where == self.where:
            self.blocked.set()
            self._block()

    def _block(self) -> None:
        self.go_on.wait(10 * PATIENCE)


class MemoryTransports:
    """A `PersistentTransport`: each `connect` makes a `MemoryTransport` and hands it to the test as well."""

    def __init__(self) -> None:
        self.made: queue.Queue[MemoryTransport] = queue.Queue()

    def connect(self) -> MemoryTransport:
        transport = MemoryTransport()
        self.made.put(transport)
        return transport

    def next_connected(self) -> MemoryTransport:
        return self.made.get(timeout=PATIENCE)


class NeverOpened:
    """A transport that fails the test if anything is sent by it, or even connected."""

    def __init__(self) -> None:
        self.opened = False

    def connect(self) -> MemoryTransport:
        self.opened = True
        raise AssertionError("a transport was opened for a call whose arguments cannot be")


class Interrupt(BaseException):
    """What `at_every_step` raises, in place of a `KeyboardInterrupt`."""


def interrupt() -> None:
    """What to hand to `at_every_step`."""
    raise Interrupt


class Runner:
    """Calls a function, and acts before one bytecode of another; see `at_every_step`."""

    def __init__(self, code: CodeType, step: int, act: Callable[[], None]) -> None:
        self.reached = False
        self._code = code
        self._left = step
        self._act = act

    def __call__(self, body: Callable[[], Any]) -> None:
        # In a thread of its own: an exception at a step where no signal could come may leave the interpreter believing
        # that it is still being handled, for as long as the thread lives.
        InThread(lambda: self._run(body)).result()

    def _run(self, body: Callable[[], Any]) -> None:
        with instructions_of(self._code, self._before_instruction):
            body()

    def _before_instruction(self) -> None:
        if self._left == 0 and not self.reached:
            self.reached = True
            self._act()
        self._left -= 1


if sys.version_info >= (3, 12):
    # Tracing by opcode, the way of older versions, misses steps from 3.12 on, depending on what ran before.
    @contextlib.contextmanager
    def instructions_of(code: CodeType, before_each: Callable[[], None]) -> Iterator[None]:
        """Calls `before_each` before each instruction that this thread runs of `code`, though not within itself."""
        monitoring, thread = sys.monitoring, threading.get_ident()
        events = monitoring.events

        def handle(code: CodeType, offset: int) -> None:
            if threading.get_ident() == thread:
                before_each()

        tool = next(number for number in range(6) if monitoring.get_tool(number) is None)
        monitoring.use_tool_id(tool, "at_every_step")
        monitoring.register_callback(tool, events.INSTRUCTION, handle)
        monitoring.set_local_events(tool, code, events.INSTRUCTION)
        try:
            yield
        finally:
            monitoring.set_local_events(tool, code, events.NO_EVENTS)
            monitoring.register_callback(tool, events.INSTRUCTION, None)
            monitoring.free_tool_id(tool)

else:

    @contextlib.contextmanager
    def instructions_of(code: CodeType, before_each: Callable[[], None]) -> Iterator[None]:
        """Calls `before_each` before each instruction that this thread runs of `code`, though not within itself."""

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if frame.f_code is not code:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                before_each()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


def at_every_step(function: Any, act: Callable[[], None]) -> Iterator[Runner]:
    """Yields one runner for each bytecode of `function`; it calls what it is given, and acts before that bytecode.

    It stands for whatever may come between two steps: a signal handler that raises, or another thread. The last runner
    is the first for whose bytecode the function did not come so far.
    """
    step = 0
    while True:
        runner = Runner(function.__code__, step, act)
        yield runner
        if not runner.reached:
            assert step, "not even the first step was reached"
            return
        step += 1
