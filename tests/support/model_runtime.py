"""A world without threads and time for the tests of the protocol: a model runtime, delayed messages, and real `Run`s.

The client's side is the real one (`Run`, `Channel`, `Protocol`, the base `Connection`); only waiting is replaced.
Where a call would wait, the world takes steps instead, each chosen by the test. So every order of events can be tried,
and each is the same again when it is tried again.

The model runtime does all that PROTOCOL.md ("What makes a client go wrong") lists. Every message carries the number of
the request that it truly belongs to, where a test looks for it and no client does.
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Set, Tuple
from unittest import mock

from runtimeuse_sync import run as run_module
from runtimeuse_sync._call import Call
from runtimeuse_sync._connection import inbox
from runtimeuse_sync._session.channel import Channel
from runtimeuse_sync._session.protocol import State
from runtimeuse_sync._wire.fixed_texts import BUSY_ERROR
from runtimeuse_sync._wire.request import Defaults, commands_request, query_request
from runtimeuse_sync.errors import AgentRuntimeError, CancelledException, RunTimeoutError
from runtimeuse_sync.messages import ArtifactUploadRequestMessageInterface
from runtimeuse_sync.results import ArtifactUploadResult, CommandExecutionResult, QueryResult
from runtimeuse_sync.run import Run, complete

from .doubles import FakeClock, IdleConnection

#: Chooses one of so many possibilities.
Choose = Callable[[int], int]

#: Secrets that occur in a busy runtime's words, or do not.
SECRETS: List[List[str]] = [[], ["hunter2"], ["request"], ["flight!", "hunter2"]]

_RUN_LOGGER = logging.getLogger("runtimeuse_sync")


class Quiet(Exception):
    """Nothing can happen any more, and somebody still waits: in real life that is a call which never ends."""


class Request:
    """A request that the runtime has taken on."""

    def __init__(self, message: Dict[str, Any]) -> None:
        self.is_query = message["message_type"] == "invocation_message"
        self.is_barrier = message.get("commands") == []
        self.secrets: List[str] = message["secrets_to_redact"]
        self.cancelled = False
        self.errors_left = 2
        self.streams_left = 3
        if self.is_query:
            self.number = message["user_prompt"]
        else:
            self.number = "" if self.is_barrier else message["commands"][0]["command"]


class ModelRuntime:
    """What the runtime does, one step at a time.

    Args:
        cancel_ends_barriers: Whether a cancel that finds the barrier in flight ends that, as it ends any request. If
            not, the barrier is answered as soon as it has come.
    """

    def __init__(self, *, cancel_ends_barriers: bool) -> None:
        self.outgoing: Deque[Dict[str, Any]] = deque()
        self.incoming: Deque[Dict[str, Any]] = deque()
        self.current: Optional[Request] = None
        # Set from the terminal's sending until the runtime counts as idle.
        self.lagging: Optional[Request] = None
        self.artifacts: List[str] = []
        self.artifacts_left = 3
        self.refused_requests: List[str] = []
        self._cancel_ends_barriers = cancel_ends_barriers

    def steps(self) -> List[Callable[[], None]]:
        """Returns what it may do next."""
        steps: List[Callable[[], None]] = []
        if self.incoming:
            steps.append(self.take)
        if self.lagging is not None:
            steps.append(self.be_idle)
        request = self.current
        if request is not None:
            steps.append(lambda: self.end("result", False))
            if not request.is_barrier:
                steps += [lambda: self.end("error", False), lambda: self.end("error", True)]
                if request.streams_left:
                    steps += [self.stream, self.heartbeat]
                if request.errors_left:
                    steps.append(self.own_error)
        if self.artifacts_left:
            steps.append(self.announce)
        return steps

    def take(self) -> None:
        message = self.incoming.popleft()
        kind = message["message_type"]
        if kind == "cancel_message":
            request = self.current
            if request is not None:
                request.cancelled = True
                if request.is_barrier:
                    self.end("error", False)
            return
        if kind == "artifact_upload_response_message":
            return
        assert kind in ("invocation_message", "command_execution_message"), kind
        busy = self.current or self.lagging
        request = Request(message)
        if busy is not None:
            if not request.is_barrier:
                self.refused_requests.append(request.number)
            text = BUSY_ERROR
            for secret in busy.secrets:
                text = text.replace(secret, "[REDACTED]")
            self._say("error_message", error=text, metadata={})
            return
        self.current = request
        if request.is_barrier and not self._cancel_ends_barriers:
            self.end("result", False)

    def end(self, how: str, lag: bool) -> None:
        """Ends the request in flight; an agent that ignores the cancel may end it by a result all the same."""
        request = self.current
        assert request is not None
        self.current = None
        if how == "error":
            # The lag is for errors: after a result the client may send at once, and the runtime is ready by then.
            self.lagging = request if lag else None
            text = "Request cancelled" if request.cancelled else "it failed"
            self._say("error_message", error=f"{text} #{request.number}")
        elif request.is_query:
            self._say("result_message", data={"type": "text", "text": request.number})
        else:
            results = [] if request.is_barrier else [{"command": request.number, "exit_code": 0}]
            self._say("command_execution_result_message", results=results)

    def be_idle(self) -> None:
        self.lagging = None

    def stream(self) -> None:
        request = self.current
        assert request is not None
        request.streams_left -= 1
        if request.is_query:
            self._say("assistant_message", text_blocks=[request.number])
        else:
            self._say("command_output_message", stream="stdout", text=request.number, command=request.number)

    def heartbeat(self) -> None:
        request = self.current
        assert request is not None
        request.streams_left -= 1
        self._say("heartbeat_message", phase=request.number, elapsed_ms=1)

    def own_error(self) -> None:
        request = self.current
        assert request is not None
        request.errors_left -= 1
        self._say("error_message", error=f"the agent's own #{request.number}")

    def announce(self) -> None:
        self.artifacts_left -= 1
        path = f"/out/{len(self.artifacts)}"
        self.artifacts.append(path)
        self._say("artifact_upload_request_message", filename=path[5:], filepath=path)

    def _say(self, message_type: str, **fields: Any) -> None:
        self.outgoing.append({"message_type": message_type, **fields})


class InterruptedBatch(inbox.Batch):
    """A batch on which an interrupt may come after a message was used and before that is noted down."""

    __slots__ = ("_position",)

    world: Optional[World] = None

    @property
    def position(self) -> int:
        return self._position

    @position.setter
    def position(self, value: int) -> None:
        if value > 0 and self.world is not None:
            self.world.perhaps_interrupt()
        self._position = value


class Ending(NamedTuple):
    """How a call may end besides by its terminal.

    Attributes:
        timeout: Its deadline.
        may_abort: Whether somebody may abort it.
        may_interrupt: Whether a Ctrl-C may come while it waits.
        failing_callback: Which of its callbacks' calls fails.
    """

    timeout: Optional[float] = None
    may_abort: bool = False
    may_interrupt: bool = False
    failing_callback: int = 0


class CallbackFailure(Exception):
    """What a failing callback raises."""


class _SteppingCall(Call):
    """A call that does not wait but lets the world go on."""

    def __init__(self, world: World, kind: str, timeout: Optional[float]) -> None:
        super().__init__(kind, timeout, world.clock)
        self._world = world

    def wait(self, until: float = math.inf) -> None:
        self.check()
        self._world.go_on(min(until, self.deadline.at), self)
        self.check()


class World:
    """A session's channel and a model runtime, with queues of messages between them.

    Args:
        choose: Decides what happens next.
        cancel_ends_barriers: See `ModelRuntime`.
        interrupt_between: Whether Ctrl-C may also come between the use of a message and the note that it is used.
    """

    def __init__(self, choose: Choose, *, cancel_ends_barriers: bool = False, interrupt_between: bool = False) -> None:
        self.choose = choose
        self.clock = FakeClock()
        self.runtime = ModelRuntime(cancel_ends_barriers=cancel_ends_barriers)
        self.connection = IdleConnection(2**20, self.clock)
        self.channel = Channel(self.connection, "ws://model", [], _RUN_LOGGER, persistent=True)
        self.to_runtime: Deque[Dict[str, Any]] = deque()
        self.to_client: Deque[Dict[str, Any]] = deque()
        self.served: Set[str] = set()
        self.barrier_secrets: List[Tuple[str, ...]] = []
        self._calls = 0
        self._ending = Ending()
        self._quiet_steps = 0
        self._in_caller = False
        self._interrupt_between = interrupt_between

    # What happens.

    def step(self) -> bool:
        """Takes one step of the connection, the wires or the runtime; returns whether there was any to take."""
        steps = self._wire_steps() + self.runtime.steps()
        if not steps:
            return False
        in_caller, self._in_caller = self._in_caller, False
        try:
            steps[self.choose(len(steps))]()
        finally:
            self._in_caller = in_caller
        return True

    def settle_down(self) -> None:
        """Lets everything that is under way arrive, without anything new from the runtime but the ends it owes."""
        for _ in range(1000):
            runtime = self.runtime
            if runtime.lagging is not None:
                runtime.be_idle()
            elif runtime.incoming:
                runtime.take()
            elif runtime.current is not None:
                runtime.end("result", False)
            elif self._wire_steps():
                self._wire_steps()[0]()
            else:
                return
        raise AssertionError("the connection never comes to rest")

    def _wire_steps(self) -> List[Callable[[], None]]:
        steps: List[Callable[[], None]] = []
        if self._outgoing_waits() or self.connection.pokes:
            steps.append(self._connection_round)
        if self.to_runtime:
            steps.append(lambda: self.runtime.incoming.append(self.to_runtime.popleft()))
        if self.runtime.outgoing:
            steps.append(lambda: self.to_client.append(self.runtime.outgoing.popleft()))
        if self.to_client:
            steps.append(self._arrive)
        return steps

    def _outgoing_waits(self) -> bool:
        return bool(self.connection._outbox) or self.connection._next_alarm() <= self.clock.now

    def _connection_round(self) -> None:
        self.connection.pokes = 0
        for payload in self.connection.take_outgoing():
            self.to_runtime.append(json.loads(payload))
        self.connection.look_after()

    def _arrive(self) -> None:
        """The connection's thread receives what has come so far, or only the first of it."""
        count = 1 + self.choose(len(self.to_client))
        items = [json.dumps(self.to_client.popleft()) for _ in range(count)]
        self.connection.hand_in(list(items))

    # The caller.

    def go_on(self, until: float, call: Call) -> None:
        """Takes the place of waiting: something happens, or else the time passes."""
        ending = self._ending
        events: List[Callable[[], None]] = []
        if ending.may_abort:
            events.append(call.abort)
        if ending.may_interrupt:
            events.append(self._interrupt)
        if until != math.inf and (ending.timeout is not None or until > self.clock.now):
            events.append(lambda: self._let_time_pass(until))
        which = self.choose(len(events) + 4)
        if which < len(events):
            events[which]()
            return
        if self.step():
            self._quiet_steps = 0
            return
        self._quiet_steps += 1
        if until == math.inf or self._quiet_steps > 20:
            raise Quiet(f"{call.kind} waits, in state {self.channel.protocol.state}, and nothing can come any more")
        self._let_time_pass(until)

    def _let_time_pass(self, until: float) -> None:
        self.clock.now = max(self.clock.now, until)

    def _interrupt(self) -> None:
        self._ending = self._ending._replace(may_interrupt=False)
        raise KeyboardInterrupt

    def perhaps_interrupt(self) -> None:
        """Is called where a message has been used by the caller, and that is not yet noted down."""
        if self._interrupt_between and self._in_caller and self.choose(4) == 0:
            raise KeyboardInterrupt

    def call(self, is_query: bool, secrets: List[str], ending: Ending, *, callback: bool = True) -> str:
        """Makes a call on the session, checks what it gets, and returns how it ended."""
        self._calls += 1
        number = str(self._calls)
        failed = ""
        result: Any = None
        self._ending = ending
        seen = 0

        def on_message(message: Any) -> None:
            nonlocal seen
            seen += 1
            owner = getattr(message, "phase", None) or getattr(message, "text", None) or message.text_blocks[0]
            assert owner == number, f"request {number} got a message of request {owner}: {message}"
            if seen == ending.failing_callback:
                raise CallbackFailure
            for _ in range(self.choose(3)):
                self.step()

        def on_artifact(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
            self.served.add(request.filepath)
            return ArtifactUploadResult("https://store.test/x", "text/plain")

        options: Dict[str, Any] = {
            "secrets_to_redact": secrets,
            "timeout": ending.timeout,
            "on_assistant_message": on_message,
            "on_command_output": on_message,
            "on_heartbeat": on_message,
        }
        if callback:
            options.update(artifacts_dirs=["/out"], on_artifact_upload_request=on_artifact)
        if is_query:
            request = query_request(number, None, options, Defaults({"model": "m"}), "query()")
        else:
            request = commands_request([number], None, options, Defaults({}), "execute_commands()")
        InterruptedBatch.world = self
        self._in_caller = True
        self._quiet_steps = 0
        try:
            with mock.patch.object(
                run_module, "Call", lambda kind, timeout: _SteppingCall(self, kind, timeout)
            ), mock.patch.object(inbox, "Batch", InterruptedBatch):
                run: Run[Any] = Run(request, lambda _: self.channel)
                result = complete(run)
        except CallbackFailure:
            assert ending.failing_callback
            return "callback"
        except CancelledException:
            assert ending.may_abort
            return "aborted"
        except RunTimeoutError:
            assert ending.timeout is not None
            return "timeout"
        except KeyboardInterrupt:
            return "interrupted"
        except AgentRuntimeError as error:
            failed = error.error
        finally:
            self._in_caller = False
            InterruptedBatch.world = None
        if failed:
            # A refusal of a real request, or a protocol error, would not carry the number.
            assert failed.endswith(f"#{number}"), f"request {number} got the error of another: {failed}"
            return "error"
        owner = result.text if isinstance(result, QueryResult) else _command_of(result)
        assert owner == number, f"request {number} got the result of request {owner}"
        return "result"

    # What must hold.

    def check(self) -> None:
        """Checks what must hold at any time between calls."""
        assert self.runtime.refused_requests == [], "a request was sent while another was in flight"
        assert len(self.channel.turn._queue) == 0, "a call has kept the turn"
        assert self.channel.active is None
        assert self.connection.inbox.listener is None
        queued = [json.loads(item) for item in self._queued_items()]
        announced = [*self.runtime.outgoing, *self.to_client, *queued]
        there = self.served | {request.filepath for request in self.channel.uploads.kept}
        there |= {request.filepath for request in self.channel.uploads.failed}
        there |= {message["filepath"] for message in announced if "filepath" in message}
        assert set(self.runtime.artifacts) == there, "an upload request was lost"

    def check_recovers(self) -> None:
        """Lets the runtime become quiet; then the next calls of both kinds must just work."""
        self.runtime.artifacts_left = 0
        self._interrupt_between = False
        self.settle_down()
        assert self.call(True, [], Ending(), callback=False) in ("result", "error")
        self.settle_down()
        assert self.call(False, [], Ending(), callback=False) in ("result", "error")
        self.settle_down()
        self.check()
        assert self.channel.protocol.state is State.FREE
        assert self.connection.in_flight is None

    def _queued_items(self) -> List[Any]:
        return [item for batch in self.connection.inbox._batches for item in batch.items[batch.position :]]


def _command_of(result: Any) -> str:
    assert isinstance(result, CommandExecutionResult)
    assert result.results, "it got the barrier's answer"
    return result.results[0].command
