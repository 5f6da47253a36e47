"""One deadline, also for tests of users that stop the clock, or move it: by freezegun or time-machine."""

from __future__ import annotations

import contextlib
import datetime
import subprocess
import sys
import textwrap
import time
from typing import Any, Callable, ContextManager, Iterator, List

import freezegun
import pytest
import time_machine

from runtimeuse_sync import AssistantMessageInterface, HeartbeatMessageInterface, RunTimeoutError, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime
from runtimeuse_sync.testing import HANG, FakeRuntime, assistant_message, delay, text_result

from ..support.builders import SOON
from ..support.processes import CHILD_LIMIT

THEN = datetime.datetime(2020, 2, 29, tzinfo=datetime.timezone.utc)
DAY = 86400.0

#: Stops the clock at `THEN`, and yields a function that moves it.
Stop = Callable[[], ContextManager[Callable[[float], Any]]]


@contextlib.contextmanager
def by_freezegun() -> Iterator[Callable[[float], Any]]:
    with freezegun.freeze_time(THEN) as frozen:
        yield frozen.tick


@contextlib.contextmanager
def by_time_machine() -> Iterator[Callable[[float], Any]]:
    with time_machine.travel(THEN, tick=False) as traveller:
        yield traveller.shift


@pytest.fixture(params=[by_freezegun, by_time_machine])
def stop(request: pytest.FixtureRequest) -> Stop:
    how: Stop = request.param
    return how


@contextlib.contextmanager
def fake() -> Iterator[RuntimeUseClient]:
    def reply(request: Any) -> Any:
        return (
            HANG
            if request["user_prompt"] == "sleep 60"
            else [assistant_message("x"), delay(0.01), *text_result("done")]
        )

    yield RuntimeUseClient(transport=FakeRuntime([reply] * 3), model="m")


@contextlib.contextmanager
def local() -> Iterator[RuntimeUseClient]:
    with LocalRuntime(agent="shell") as runtime:
        yield RuntimeUseClient(runtime.ws_url, model="m")


@pytest.mark.parametrize("runtime", [fake, local])
def test_deadlines_pass_while_the_clock_stands_still(
    runtime: Callable[[], ContextManager[RuntimeUseClient]], stop: Stop
) -> None:
    with stop(), runtime() as client:
        assert time.time() == THEN.timestamp()
        with client.session() as session:
            with pytest.raises(RunTimeoutError):
                session.query("sleep 60", timeout=SOON)
            # The runtime has ended the command, by its own clock.
            assert session.query("echo done", timeout=60).text.strip() == "done"
        assert time.time() == THEN.timestamp()


@pytest.mark.parametrize("runtime", [fake, local])
def test_deadlines_stay_where_they_are_when_the_clock_jumps(
    runtime: Callable[[], ContextManager[RuntimeUseClient]], stop: Stop
) -> None:
    with stop() as move, runtime() as client:
        seen: List[float] = []

        def jump(_: AssistantMessageInterface) -> None:
            move(DAY)
            seen.append(time.time())

        assert client.query("echo done", timeout=60, on_assistant_message=jump).text.strip() == "done"
        # What users' callbacks see is the clock that they have set.
        assert seen == [THEN.timestamp() + DAY]


def test_the_embedded_runtimes_clock_goes_on(stop: Stop) -> None:
    with stop(), LocalRuntime(agent="shell", heartbeat_interval=0.05, kill_grace=0.1) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m")
        # A heartbeat ends the command, which ignores the first signal, so that its grace has to end.
        with client.stream_commands(["trap '' TERM; while :; do sleep 0.1; done"]) as run:
            assert isinstance(run.next(timeout=60), HeartbeatMessageInterface)


def test_the_package_may_be_imported_while_the_clock_stands_still() -> None:
    script = """
        import freezegun

        with freezegun.freeze_time("2020-02-29"):
            from runtimeuse_sync import RunTimeoutError, RuntimeUseClient
            from runtimeuse_sync.testing import HANG, FakeRuntime

            try:
                RuntimeUseClient(transport=FakeRuntime([HANG]), model="m").query("p", timeout=0.1)
            except RunTimeoutError as error:
                print(error)
        """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=CHILD_LIMIT
    )
    assert (ran.stdout, ran.stderr) == ("Query did not end within 0.1 s\n", "")
