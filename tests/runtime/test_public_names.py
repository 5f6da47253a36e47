"""What `runtimeuse_sync.runtime` exports, for agents that users write."""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest

from runtimeuse_sync import runtime
from runtimeuse_sync.runtime import Invocation, LocalRuntime, Sender, agent_environment
from runtimeuse_sync.runtime.settings import RuntimeSettings

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


def test_a_local_runtimes_parameters_are_the_settings() -> None:
    _, agent, *given = inspect.signature(LocalRuntime.__init__).parameters.values()
    assert agent.name == "agent"
    defaults = {parameter.name: parameter.default for parameter in given}
    settings = {setting.name: setting.default for setting in dataclasses.fields(RuntimeSettings)}
    assert list(defaults) == list(settings)
    assert defaults == {**settings, "root": None}
    assert LocalRuntime.__doc__ is not None
    for setting in dataclasses.fields(RuntimeSettings):
        assert f"    {setting.name}: {setting.metadata['help'][:40]}" in LocalRuntime.__doc__
