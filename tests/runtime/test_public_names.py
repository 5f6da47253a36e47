"""What `runtimeuse_sync.runtime` exports, for agents that users write."""

from __future__ import annotations

import inspect
import typing

import pytest

from runtimeuse_sync import runtime
from runtimeuse_sync.runtime import Invocation, Sender, agent_environment

from .conftest import Connect


@pytest.mark.parametrize("name", runtime.__all__)
def test_the_types_of_all_that_is_exported_can_be_asked_for(name: str) -> None:
    exported = getattr(runtime, name)
    typing.get_type_hints(exported)
    if inspect.isclass(exported):
        for member, function in inspect.getmembers(exported, inspect.isfunction):
            if member == "__init__" or not member.startswith("_"):
                typing.get_type_hints(function)


def test_an_agents_environment_is_the_runtimes_with_the_clients_over_it(
    talk: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "ours")
    monkeypatch.setenv("BOTH", "ours")

    def agent(invocation: Invocation, sender: Sender) -> str:
        environment = agent_environment(invocation)
        return " ".join(environment[name] for name in ("OURS", "BOTH", "THEIRS"))

    [answer] = talk(agent).query(agent_env={"BOTH": "theirs", "THEIRS": "theirs"})
    assert answer["data"]["text"] == "ours theirs theirs"
