"""How long calls take, and how many tokens they use."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from runtimeuse_sync import AgentRuntimeError, CommandFailedError
from runtimeuse_sync.runtime import LocalRuntime
from runtimeuse_sync.testing import command_results, error, text_result

from ...support.builders import Serve, Stopwatch, client_of, echo
from .recorded import AGENT_SECONDS, SECONDS, TOKENS, Recorded, fake

AGENT = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.provider.name": "runtimeuse",
    "gen_ai.request.model": "m",
}


def counts(recorded: Recorded, name: str) -> Dict[Any, Any]:
    """Returns how often a metric was recorded with each set of attributes."""
    return {tuple(sorted(dict(point.attributes).items())): point.count for point in recorded.points(name)}


def key(attributes: Dict[str, Any]) -> Any:
    return tuple(sorted(attributes.items()))


def test_queries(recorded: Recorded) -> None:
    client = fake(text_result("4"), text_result("5"), error("no"))
    client.query("p", source_id="1")
    client.query("p", source_id="2")
    with pytest.raises(AgentRuntimeError):
        client.query("p")
    assert counts(recorded, AGENT_SECONDS) == {key(AGENT): 2, key({**AGENT, "error.type": "AgentRuntimeError"}): 1}
    assert counts(recorded, SECONDS) == counts(recorded, TOKENS) == {}


def test_seconds(recorded: Recorded) -> None:
    client = fake(text_result("4"))
    watch = Stopwatch()
    client.query("p")
    most = watch.seconds
    (point,) = recorded.points(AGENT_SECONDS)
    assert 0 < point.sum <= most
    assert list(point.explicit_bounds)[:3] == [0.01, 0.02, 0.04]


def test_tokens(recorded: Recorded) -> None:
    fake(text_result("4", {"usage": {"inputTokens": 12, "outputTokens": 3}})).query("p")
    sums = {dict(point.attributes)["gen_ai.token.type"]: point.sum for point in recorded.points(TOKENS)}
    assert sums == {"input": 12, "output": 3}


def test_commands_and_files(recorded: Recorded, runtime: LocalRuntime) -> None:
    client = client_of(runtime)
    client.execute_commands(["true"])
    with pytest.raises(CommandFailedError):
        client.run("exit 3")
    client.files.exists("x")
    server = {"server.address": "127.0.0.1", "server.port": int(runtime.ws_url.rsplit(":", 1)[1])}
    commands = {"runtimeuse.operation.name": "execute_commands", **server}
    assert counts(recorded, SECONDS) == {
        key(commands): 1,
        key({**commands, "error.type": "CommandFailedError"}): 1,
        key({"runtimeuse.operation.name": "files.exists", **server}): 1,
    }
    assert counts(recorded, AGENT_SECONDS) == {}


def test_where_calls_go(recorded: Recorded, serve: Serve) -> None:
    client_of(serve(echo)).query("p")
    (point,) = recorded.points(AGENT_SECONDS)
    assert point.attributes["server.address"] == "127.0.0.1"


def test_a_run_that_is_left_twice_counts_once(recorded: Recorded) -> None:
    with fake(command_results(0)).stream_commands(["true"]) as run:
        list(run)
        run.close()
    run.close()
    assert list(counts(recorded, SECONDS).values()) == [1]
    assert len(recorded.spans()) == 1
