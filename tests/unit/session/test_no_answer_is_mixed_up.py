"""No answers are mixed up: the real client against a model runtime, in all orders of events and in threads."""

from __future__ import annotations

import queue
import random
from typing import Any, Dict, List, Optional
from unittest import mock

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtimeuse_sync import RuntimeUseClient, RuntimeUseSession
from runtimeuse_sync._session import barrier
from runtimeuse_sync.errors import AgentRuntimeError, CancelledException, RunTimeoutError
from runtimeuse_sync.messages import ArtifactUploadRequestMessageInterface
from runtimeuse_sync.results import ArtifactUploadResult

from ...support.doubles import MemoryTransport, MemoryTransports
from ...support.model_runtime import SECRETS, CallbackFailure, Ending, ModelRuntime, World
from ...support.servers import PATIENCE
from ...support.threads import InThread

_SETTINGS = hypothesis.settings(
    max_examples=60,
    stateful_step_count=25,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)

# One seed for each example: a draw for each step would take most of the time. A failure reports the seed.
_SEEDS = st.integers(0, 2**32 - 1)


class RequestsAndRuntime(RuleBasedStateMachine):
    """Calls that end in every way, on a runtime that does everything that PROTOCOL.md allows."""

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
    """The barrier takes some time, and a cancellation ends whatever runs, even the barrier (PROTOCOL.md, "Cancel")."""

    cancel_ends_barriers = True


class InterruptsBetweenSteps(RequestsAndRuntime):
    """Ctrl-C may come after a message was used and before the position moves on, so that it is used twice."""

    interrupt_between = True


TestNoAnswerIsMixedUp = RequestsAndRuntime.TestCase
TestNoAnswerIsMixedUp.settings = _SETTINGS

TestNoAnswerIsMixedUpIfACancelMeetsTheBarrier = CancelEndsTheBarrier.TestCase
TestNoAnswerIsMixedUpIfACancelMeetsTheBarrier.settings = _SETTINGS

TestNoAnswerIsMixedUpByInterrupts = InterruptsBetweenSteps.TestCase
TestNoAnswerIsMixedUpByInterrupts.settings = _SETTINGS


# The same with real threads: fewer orders of events, but realistic ones.


class _RuntimeThread:
    """Runs the model runtime on an in-memory transport, in a thread, in an order that a seed determines."""

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
    # The barrier is repeated after a second if the runtime is still busy: too long for a test with many calls.
    with mock.patch.object(barrier, "PROBE_INTERVAL", 0.01):
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
