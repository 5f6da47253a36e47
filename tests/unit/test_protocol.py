"""The state machine of requests on one connection: its table, and that no answer is ever mixed up (P5)."""

from __future__ import annotations

import functools
import json
import logging
import queue
import random
import re
from typing import Any, Dict, List, Optional, Tuple
from unittest import mock

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtimeuse_sync import RuntimeUseClient, RuntimeUseSession, _inbox, _probe_timer, _protocol
from runtimeuse_sync._call import Call
from runtimeuse_sync._codec import encode_barrier
from runtimeuse_sync._connection import Connection
from runtimeuse_sync._exchange import Exchange
from runtimeuse_sync._protocol import BUSY_ERROR, Disposition, Event, Protocol, State
from runtimeuse_sync._turn import Ticket
from runtimeuse_sync.errors import AgentRuntimeError, CancelledException, RunTimeoutError
from runtimeuse_sync.messages import ArtifactUploadRequestMessageInterface
from runtimeuse_sync.results import ArtifactUploadResult
from runtimeuse_sync.runtime.redaction import Redactor

from ..servers import PATIENCE
from ..threads import InThread
from .doubles import FakeClock, IdleConnection, Interrupt, MemoryTransport, MemoryTransports, at_every_step, interrupt
from .model_runtime import SECRETS, CallbackFailure, Ending, ModelRuntime, World

# The table.

_DISPOSITIONS = {"!": Disposition.DELIVER, "k": Disposition.KEEP, "": Disposition.DROP}


def _table() -> Dict[Tuple[State, Event], Tuple[State, Disposition]]:
    """Reads the table in the module's docstring."""
    lines = (_protocol.__doc__ or "").splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:2] == ["STREAM", "ARTIFACT"])
    columns = [(match.start(), Event[match.group()]) for match in re.finditer(r"\w+", lines[start])]
    cells = {}
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        before = State[line.split()[0]]
        for (begin, event), end in zip(columns, [begin for begin, _ in columns[1:]] + [None]):
            after, _, mark = line[begin:end].strip().partition(" ")
            cells[before, event] = (State[after], _DISPOSITIONS[mark])
    return cells


_TABLE = _table()


def _in_state(state: State) -> Protocol:
    protocol = Protocol()
    protocol.state = state
    return protocol


def test_the_table_has_every_cell() -> None:
    assert set(_TABLE) == {(state, event) for state in State for event in Event}


@pytest.mark.parametrize("before", State)
def test_each_cell_of_the_table(before: State) -> None:
    for event in Event:
        protocol = _in_state(before)
        disposition = protocol.receive(event)
        assert (protocol.state, disposition) == _TABLE[before, event], event


def _documented(name: str) -> str:
    """Returns what the docstring says besides the table about one of the other transitions."""
    text = (_protocol.__doc__ or "").split("Besides messages:")[1].split("\n\n")[0]
    found = re.search(rf"^ +{name} +((?:.*\n?)(?: {{10,}}.*\n?)*)", text, re.MULTILINE)
    assert found is not None, name
    return " ".join(found.group(1).split())


@pytest.mark.parametrize("state", State)
def test_begin_needs_a_free_connection(state: State) -> None:
    assert _documented("begin") == "FREE → ACTIVE"
    protocol = _in_state(state)
    if state is State.FREE:
        protocol.begin("result_message", [])
        assert protocol.state is State.ACTIVE
    else:
        with pytest.raises(AssertionError):
            protocol.begin("result_message", [])


@pytest.mark.parametrize("state", State)
def test_abandon(state: State) -> None:
    assert _documented("abandon").startswith("ACTIVE → ABANDONED, every other state stays")
    protocol = _in_state(state)
    protocol.abandon()
    assert protocol.state is (State.ABANDONED if state is State.ACTIVE else state)


@pytest.mark.parametrize("state", State)
def test_probe(state: State) -> None:
    assert _documented("probe").startswith("UNSURE, ABANDONED, REFUSED → PROBING;")
    protocol = _in_state(state)
    may = state in (State.UNSURE, State.ABANDONED, State.REFUSED)
    assert protocol.probe() is may
    assert protocol.state is (State.PROBING if may else state)
    # Taken as sent: there is one barrier outstanding at most.
    assert protocol.probe() is False


@pytest.mark.parametrize("state", State)
def test_end(state: State) -> None:
    protocol = _in_state(state)
    protocol.end()
    assert protocol.state is (State.ENDED if state is State.ENDED else State.ENDING)


@pytest.mark.parametrize("state", State)
def test_stale_says_whether_the_runtime_may_owe_something(state: State) -> None:
    free_of_debt = (State.FREE, State.ACTIVE, State.ENDING, State.ENDED)
    assert _in_state(state).stale is (state not in free_of_debt)


# What a message means.

_RESULTS = ("result_message", "command_execution_result_message")


@pytest.mark.parametrize("own", _RESULTS)
@pytest.mark.parametrize("came", _RESULTS)
@pytest.mark.parametrize("empty", [False, True])
def test_results_by_kind_and_state(own: str, came: str, empty: bool) -> None:
    for state in State:
        protocol = Protocol()
        protocol.begin(own, [])
        protocol.state = state
        barrier_asked = state in (State.PROBING, State.DOUBTFUL, State.REFUSED)
        # Only the barrier is answered by an empty command result, and only it by a command result where a query ran.
        if came == "command_execution_result_message" and (empty or own != came) and barrier_asked:
            wanted = Event.EMPTY
        else:
            wanted = Event.RESULT if own == came else Event.FOREIGN
        assert protocol.classify(came, empty=empty) is wanted, state


@pytest.mark.parametrize(
    ("message_type", "event"),
    [
        ("assistant_message", Event.STREAM),
        ("command_output_message", Event.STREAM),
        ("heartbeat_message", Event.STREAM),
        ("artifact_upload_request_message", Event.ARTIFACT),
        ("end_session_confirm_message", Event.CONFIRM),
    ],
)
def test_other_messages_mean_the_same_in_every_state(message_type: str, event: Event) -> None:
    for state in State:
        assert _in_state(state).classify(message_type) is event


def test_errors_are_refusals_only_by_the_busy_runtimes_words() -> None:
    protocol = Protocol()
    protocol.begin("result_message", ["hunter2"])
    assert protocol.classify("error_message", error=BUSY_ERROR) is Event.REFUSAL
    assert protocol.classify("error_message", error=BUSY_ERROR + " ") is Event.ERROR
    assert protocol.classify("error_message", error="Request cancelled") is Event.ERROR


def _by_the_reference(secrets: List[str]) -> str:
    text = BUSY_ERROR
    for secret in secrets:
        text = text.replace(secret, "[REDACTED]")
    return text


_PARTS_OF_THE_BUSY_TEXT = st.tuples(st.integers(0, len(BUSY_ERROR) - 1), st.integers(1, 12)).map(
    lambda part: BUSY_ERROR[part[0] : part[0] + part[1]]
)


@hypothesis.given(st.lists(_PARTS_OF_THE_BUSY_TEXT, max_size=3))
def test_refusals_are_known_however_the_reference_runtime_has_redacted_them(secrets: List[str]) -> None:
    protocol = Protocol()
    protocol.begin("result_message", secrets)
    assert protocol.classify("error_message", error=_by_the_reference(secrets)) is Event.REFUSAL


@hypothesis.given(st.lists(_PARTS_OF_THE_BUSY_TEXT, max_size=3))
@hypothesis.example(["Received request", "request while"])
@hypothesis.example(["request", "RED"])
def test_refusals_are_known_however_the_embedded_runtime_has_redacted_them(secrets: List[str]) -> None:
    protocol = Protocol()
    protocol.begin("result_message", secrets)
    assert protocol.classify("error_message", error=Redactor(secrets).text(BUSY_ERROR)) is Event.REFUSAL


def test_the_barrier_repeats_the_secrets_of_the_request_it_follows() -> None:
    protocol = Protocol()
    protocol.begin("result_message", ["one", "two"])
    assert encode_barrier(protocol.secrets) == {
        "message_type": "command_execution_message",
        "commands": [],
        "secrets_to_redact": ["one", "two"],
    }


# No answer is ever mixed up: the real client against a model runtime, every order of events.

_SETTINGS = hypothesis.settings(
    max_examples=60,
    stateful_step_count=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)


# Seeds, and not one draw for each step, which would take most of the time. A failure tells them.
_SEEDS = st.integers(0, 2**32 - 1)


class RequestsAndRuntime(RuleBasedStateMachine):
    """Calls that end in every way, over a runtime that does everything PROTOCOL.md lists."""

    cancel_ends_barriers = False
    interrupt_between = False

    @initialize()
    def make(self) -> None:
        self.world = World(
            self.choose, cancel_ends_barriers=self.cancel_ends_barriers, interrupt_between=self.interrupt_between
        )

    def choose(self, count: int) -> int:
        return self.random.randrange(count)

    @rule(seed=_SEEDS, is_query=st.booleans(), secrets=st.sampled_from(SECRETS), callback=st.booleans())
    def call_that_ends_by_itself(self, seed: int, is_query: bool, secrets: List[str], callback: bool) -> None:
        self.random = random.Random(seed)
        ended = self.world.call(is_query, secrets, Ending(), callback=callback)
        assert ended in (("result", "error", "interrupted") if self.interrupt_between else ("result", "error"))

    @rule(
        seed=_SEEDS,
        is_query=st.booleans(),
        secrets=st.sampled_from(SECRETS),
        ending=st.builds(
            Ending,
            timeout=st.sampled_from([None, 0.5, 3.0]),
            may_abort=st.booleans(),
            may_interrupt=st.booleans(),
            failing_callback=st.integers(0, 2),
        ),
    )
    def call_that_may_end_early(self, seed: int, is_query: bool, secrets: List[str], ending: Ending) -> None:
        self.random = random.Random(seed)
        self.world.call(is_query, secrets, ending)

    @rule(seed=_SEEDS, steps=st.integers(1, 6))
    def time_between_calls(self, seed: int, steps: int) -> None:
        self.random = random.Random(seed)
        for _ in range(steps):
            self.world.step()

    @rule(seconds=st.sampled_from([0.3, 1.5]))
    def the_clock_goes_on(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule()
    def more_files_are_written(self) -> None:
        self.world.runtime.artifacts_left = 3

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.random = random.Random(0)
            self.world.check_recovers()


class CancelEndsTheBarrier(RequestsAndRuntime):
    """The barrier takes its time, and a cancel ends what is in flight: also the barrier (PROTOCOL.md, "Cancel")."""

    cancel_ends_barriers = True


class InterruptsBetweenSteps(RequestsAndRuntime):
    """A Ctrl-C may come after a message has been used and before that is noted down, so that it is used twice."""

    interrupt_between = True


TestNoAnswerIsMixedUp = RequestsAndRuntime.TestCase
TestNoAnswerIsMixedUp.settings = _SETTINGS

TestNoAnswerIsMixedUpIfACancelMeetsTheBarrier = CancelEndsTheBarrier.TestCase
TestNoAnswerIsMixedUpIfACancelMeetsTheBarrier.settings = _SETTINGS

TestNoAnswerIsMixedUpByInterrupts = InterruptsBetweenSteps.TestCase
TestNoAnswerIsMixedUpByInterrupts.settings = _SETTINGS


# The two cases of these that matter most, step by step.


def _error(text: str) -> str:
    return json.dumps({"message_type": "error_message", "error": text})


def _types(payloads: List[bytes]) -> List[str]:
    return [json.loads(payload)["message_type"] for payload in payloads]


def _exchange() -> Tuple[IdleConnection, Exchange]:
    connection = IdleConnection()
    return connection, Exchange(connection, "ws://model", [], logging.getLogger("runtimeuse_sync"), persistent=True)


def _start_commands(connection: IdleConnection, exchange: Exchange) -> Tuple[Call, Ticket]:
    call = Call("command execution", None)
    ticket = Ticket(call.wakeup)
    exchange.enter(call, ticket)
    exchange.begin(call, b'{"message_type": "command_execution_message"}', "command_execution_result_message", [])
    assert _types(connection.take_outgoing()) == ["command_execution_message"]
    return call, ticket


def test_no_cancel_follows_the_barrier() -> None:
    # An error that arrives at the same time as the abort: a cancel behind the barrier would end that, and its answer
    # would never come.
    connection, exchange = _exchange()
    call, ticket = _start_commands(connection, exchange)
    exchange.leave(call, ticket)  # aborted, or its deadline has passed
    connection.hand_in([_error("it failed")])
    assert exchange.protocol.state is State.PROBING
    outgoing = _types(connection.take_outgoing())
    assert outgoing.count("command_execution_message") == 1
    assert outgoing[-1] == "command_execution_message"
    assert _types(connection.take_outgoing()) == []


def test_no_cancel_follows_the_barrier_when_the_deadline_of_a_failed_call_passes() -> None:
    clock = FakeClock()
    connection = IdleConnection(clock=clock)
    exchange = Exchange(connection, "ws://model", [], logging.getLogger("runtimeuse_sync"), persistent=True)
    call = Call("query", 5.0, clock)
    ticket = Ticket(call.wakeup)
    exchange.enter(call, ticket)
    exchange.begin(call, b'{"message_type": "invocation_message"}', "result_message", [])
    connection.take_outgoing()
    connection.hand_in([_error("it failed")])
    batch = connection.inbox.first()
    assert batch is not None
    exchange.use_next(batch)
    exchange.leave(call, ticket)
    assert _types(connection.take_outgoing()) == ["command_execution_message"]
    clock.advance(10)
    assert _types(connection.take_outgoing()) == []


@pytest.mark.parametrize("function", [Exchange.begin, Protocol.begin, Connection.submit_once, Connection.has_got])
def test_a_request_that_an_interrupt_kept_from_being_sent_is_owed_nothing(function: Any) -> None:
    for run in at_every_step(function, interrupt):
        connection, exchange = _exchange()
        call = Call("query", None)
        ticket = Ticket(call.wakeup)
        exchange.enter(call, ticket)
        try:
            run(functools.partial(exchange.begin, call, b"{}", "result_message", []))
        except Interrupt:
            pass
        exchange.leave(call, ticket)
        sent = b"{}" in connection.take_outgoing()
        assert exchange.protocol.state is (State.ABANDONED if sent else State.FREE)


def test_a_refusal_used_twice_does_not_make_the_session_free_too_early() -> None:
    connection, exchange = _exchange()
    call, ticket = _start_commands(connection, exchange)
    exchange.leave(call, ticket)
    connection.take_outgoing()
    connection.hand_in([_error("the agent's own")])
    assert _types(connection.take_outgoing())[0] == "command_execution_message"
    connection.hand_in([_error("the agent's own, again")])
    assert exchange.protocol.state is State.DOUBTFUL
    # The refusal of the first barrier is used by a next call, and a Ctrl-C comes before that is noted down.
    next_call = Call("query", None)
    next_ticket = Ticket(next_call.wakeup)
    exchange.take_turn(next_call, next_ticket)
    with mock.patch.object(_inbox, "Batch", _BatchInterruptedOnce):
        connection.hand_in([_error(BUSY_ERROR)])
    batch = connection.inbox.first()
    assert batch is not None
    with pytest.raises(KeyboardInterrupt):
        exchange.use_next(batch)
    exchange.leave(next_call, next_ticket)
    connection.look_after()
    # The old request, which was still running, ends; the second barrier is not answered yet.
    barriers = _types(connection.take_outgoing()).count("command_execution_message")
    result = {"message_type": "command_execution_result_message", "results": [{"command": "old", "exit_code": 0}]}
    connection.hand_in([json.dumps(result)])
    barriers += _types(connection.take_outgoing()).count("command_execution_message")
    assert barriers <= 1
    assert not (barriers and _is_free(exchange.protocol))


def _is_free(protocol: Protocol) -> bool:
    return protocol.state is State.FREE


class _BatchInterruptedOnce(_inbox.Batch):
    __slots__ = ("_interrupted", "_position")

    @property
    def position(self) -> int:
        return self._position

    @position.setter
    def position(self, value: int) -> None:
        if value and not hasattr(self, "_interrupted"):
            self._interrupted = True
            raise KeyboardInterrupt
        self._position = value


# The same with real threads, which find fewer orders of events but those of real life.


class _RuntimeThread:
    """Plays the model runtime on a transport in memory, in a thread, in an order that a seed decides."""

    def __init__(self, transport: MemoryTransport, seed: int) -> None:
        self.model = ModelRuntime(cancel_ends_barriers=False)
        self.model.artifacts_left = 4
        self._transport = transport
        self._random = random.Random(seed)
        self.thread = InThread(self._play)

    def _play(self) -> None:
        while True:
            idle = self.model.current is None and self.model.lagging is None
            try:
                message = self._transport.sent.get(timeout=PATIENCE if idle else self._random.choice((0.0005, 0.003)))
            except queue.Empty:
                assert not idle, "the client has left without ending the session"
            else:
                if message["message_type"] == "end_session_message":
                    self._transport.say({"message_type": "end_session_confirm_message"})
                    self._transport.hang_up()
                    return
                self.model.incoming.append(message)
                self.model.take()
            steps = self.model.steps()
            if steps:
                self._random.choice(steps)()
            while self.model.outgoing:
                self._transport.say(self.model.outgoing.popleft())


@hypothesis.settings(max_examples=8)
@hypothesis.given(seed=_SEEDS)
def test_no_answer_is_mixed_up_between_threads(seed: int) -> None:
    # A runtime that is still busy for a moment is asked again after a second: too long for a test of many calls.
    with mock.patch.object(_probe_timer, "PROBE_INTERVAL", 0.01):
        _calls_in_threads(seed)


def _calls_in_threads(seed: int) -> None:
    choose = random.Random(seed)
    transports = MemoryTransports()
    session = RuntimeUseClient(transport=transports, model="m").session(end_session_timeout=PATIENCE)
    served: List[str] = []
    with session:
        runtime = _RuntimeThread(transports.next_connected(), seed)
        for number in map(str, range(12)):
            how = choose.choice(("to the end", "timeout", "abort", "callback"))
            _call_in_thread(session, number, how, choose, served)
        for number in ("last query", "last commands"):
            runtime.model.artifacts_left = 0
            _call_in_thread(session, number, "to the end", choose, served)
    runtime.thread.result()
    assert runtime.model.refused_requests == []
    assert sorted(served) == sorted(runtime.model.artifacts)


def _call_in_thread(
    session: RuntimeUseSession, number: str, how: str, choose: random.Random, served: List[str]
) -> None:
    aborter: Optional[InThread] = None
    failed = f"it did not, #{number}"

    def on_message(message: Any) -> None:
        nonlocal aborter
        owner = getattr(message, "phase", None) or getattr(message, "text", None) or message.text_blocks[0]
        assert owner == number, f"request {number} got a message of request {owner}"
        if how == "callback":
            raise CallbackFailure
        if how == "abort" and aborter is None:
            aborter = InThread(session.abort)

    def on_artifact(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        served.append(request.filepath)
        return ArtifactUploadResult("https://store.test/x", "text/plain")

    options: Dict[str, Any] = {
        "on_heartbeat": on_message,
        "artifacts_dirs": ["/out"],
        "on_artifact_upload_request": on_artifact,
        "timeout": 0.004 if how == "timeout" else PATIENCE,
    }
    try:
        if choose.random() < 0.5:
            assert session.query(number, on_assistant_message=on_message, **options).text == number
        else:
            done = session.execute_commands([number], on_command_output=on_message, **options)
            assert [each.command for each in done.results] == [number]
    except CallbackFailure:
        assert how == "callback"
    except CancelledException:
        assert how == "abort"
    except RunTimeoutError:
        assert how == "timeout", "a session has not recovered"
    except AgentRuntimeError as error:
        failed = error.error
    finally:
        if aborter is not None:
            aborter.result()
    assert failed.endswith(f"#{number}"), f"request {number} got the error of another: {failed}"
