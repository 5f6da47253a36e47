"""Turning it on and off: twice, from many threads, while calls are in progress; and what it costs when it is off."""

from __future__ import annotations

import configparser
import json
import logging
import subprocess
import sys
import textwrap
import threading
from importlib import metadata
from pathlib import Path
from typing import Any, List

import pytest
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

import runtimeuse_sync
from runtimeuse_sync import AgentRuntimeError, Run, RuntimeUseClient
from runtimeuse_sync._call_methods.base import RunsRequests
from runtimeuse_sync._call_methods.commands import ShellCommands
from runtimeuse_sync.files._operation import Operation
from runtimeuse_sync.opentelemetry import RuntimeUseInstrumentor
from runtimeuse_sync.testing import assistant_message, error, text_result

from ...support.processes import CHILD_LIMIT
from ...support.threads import InThread
from .recorded import AGENT_SECONDS, Recorded, fake

ROOT = Path(runtimeuse_sync.__file__).resolve().parents[1]


def replaced() -> List[Any]:
    return [RunsRequests._new_run, Operation.perform, ShellCommands._run_after_writing]


ORIGINAL = replaced()


def test_it_is_an_instrumentor() -> None:
    assert isinstance(RuntimeUseInstrumentor(), BaseInstrumentor)
    assert RuntimeUseInstrumentor() is RuntimeUseInstrumentor()
    assert list(RuntimeUseInstrumentor().instrumentation_dependencies()) == []


def test_off_the_client_is_as_it_was() -> None:
    recorded = Recorded()
    with recorded.on():
        assert all(now is not before for now, before in zip(replaced(), ORIGINAL))
        fake(text_result("4")).query("p")
        assert len(recorded.spans()) == 1
        RuntimeUseInstrumentor().uninstrument()
        assert replaced() == ORIGINAL
        assert RunsRequests._new_run is Run
        fake(text_result("4")).query("p")
        assert type(fake().stream("p")) is Run
        assert len(recorded.spans()) == 1


def test_on_off_and_on_again() -> None:
    for _ in range(3):
        recorded = Recorded()
        with recorded.on():
            fake(text_result("4")).query("p")
        assert len(recorded.spans()) == 1
    assert replaced() == ORIGINAL


def test_twice_is_once(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Recorded(), Recorded()
    with first.on(), caplog.at_level(logging.WARNING):
        RuntimeUseInstrumentor().instrument(tracer_provider=second.tracers, meter_provider=second.meters)
        assert "already instrumented" in caplog.text
        fake(text_result("4")).query("p")
        assert (len(first.spans()), len(second.spans())) == (1, 0)
        assert len(first.points(AGENT_SECONDS)) == 1
        RuntimeUseInstrumentor().uninstrument()
        RuntimeUseInstrumentor().uninstrument()
        assert "already uninstrumented" in caplog.text
    assert replaced() == ORIGINAL


def test_clients_and_sessions_that_there_are_already() -> None:
    recorded = Recorded()
    client = fake(text_result("4"), text_result("5"), error("no"), text_result("6"))
    with client.session() as session:
        files = session.files
        with recorded.on():
            session.query("p")
            client.query("p")
            with pytest.raises(AgentRuntimeError):
                files.exists("x")
            RuntimeUseInstrumentor().uninstrument()
            client.query("p")
    assert [span.name for span in recorded.spans()] == ["invoke_agent", "invoke_agent", "files.exists"]


def test_a_stream_that_has_begun_ends_its_span_when_it_is_off() -> None:
    recorded = Recorded()
    with recorded.on(), fake([assistant_message("a"), *text_result("4")]).stream("p") as run:
        next(run)
        RuntimeUseInstrumentor().uninstrument()
        assert run.result.text == "4"
        assert [span.name for span in recorded.spans()] == ["invoke_agent"]


def test_a_stream_that_has_begun_has_no_span_when_it_is_turned_on() -> None:
    recorded = Recorded()
    with fake([assistant_message("a"), *text_result("4")]).stream("p") as run:
        next(run)
        with recorded.on():
            assert run.result.text == "4"
            assert recorded.spans() == []


def test_many_threads_turn_it_on_and_off_while_others_call() -> None:
    recorded = Recorded()
    instrumentor = RuntimeUseInstrumentor()
    logging.getLogger("opentelemetry.instrumentation.instrumentor").disabled = True
    try:
        start = threading.Barrier(6)

        def turn() -> None:
            start.wait()
            for _ in range(50):
                instrumentor.instrument(tracer_provider=recorded.tracers, meter_provider=recorded.meters)
                instrumentor.uninstrument()

        def call() -> None:
            start.wait()
            for _ in range(20):
                assert fake(text_result("4")).query("p").text == "4"

        threads = [InThread(work) for work in (turn, turn, turn, call, call, call)]
        for thread in threads:
            thread.result()
    finally:
        logging.getLogger("opentelemetry.instrumentation.instrumentor").disabled = False
    assert not instrumentor.is_instrumented_by_opentelemetry
    assert replaced() == ORIGINAL
    recorded.tracers.shutdown()
    recorded.meters.shutdown()


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider"])
def test_what_is_no_provider(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a provider, which has get_.*, not str"):
        RuntimeUseInstrumentor().instrument(**{name: "console"})
    assert not RuntimeUseInstrumentor().is_instrumented_by_opentelemetry
    assert replaced() == ORIGINAL


def test_the_entry_point() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    (line,) = config["options.entry_points"]["opentelemetry_instrumentor"].strip().splitlines()
    name, _, value = line.partition(" = ")
    assert (name, value) == ("runtimeuse_sync", "runtimeuse_sync.opentelemetry:RuntimeUseInstrumentor")
    entry = metadata.EntryPoint(name, value, "opentelemetry_instrumentor")
    assert entry.load() is RuntimeUseInstrumentor


def run_python(script: str, *options: str) -> str:
    command = [sys.executable, *options, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, timeout=CHILD_LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_off_nothing_is_imported() -> None:
    script = """
        import json, sys
        from runtimeuse_sync import RuntimeUseClient
        from runtimeuse_sync.testing import FakeRuntime, text_result
        client = RuntimeUseClient(transport=FakeRuntime([text_result("4")]), model="m")
        client.query("p")
        print(json.dumps([name for name in sys.modules if "telemetry" in name or name == "wrapt"]))
    """
    assert json.loads(run_python(script)) == []


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.instrumentation", "wrapt"])
def test_a_missing_package_names_the_extra(missing: str) -> None:
    script = f"""
        import sys
        sys.modules[{missing!r}] = None
        try:
            import runtimeuse_sync.opentelemetry
        except ImportError as error:
            print(error)
    """
    said = run_python(script)
    assert 'pip install "runtimeuse-sync[otel]"' in said
    assert missing in said


def test_it_does_not_stand_in_the_way_of_the_package_of_its_name() -> None:
    script = """
        import opentelemetry.trace, runtimeuse_sync.opentelemetry
        print(opentelemetry.trace.__name__, runtimeuse_sync.opentelemetry.__name__)
    """
    assert run_python(script).split() == ["opentelemetry.trace", "runtimeuse_sync.opentelemetry"]


def test_without_an_sdk_calls_go_on() -> None:
    instrumentor = RuntimeUseInstrumentor()
    instrumentor.instrument()
    try:
        client = fake(text_result("4"))
        assert client.query("p").text == "4"
        assert isinstance(client, RuntimeUseClient)
    finally:
        instrumentor.uninstrument()
