"""Environments may be any mapping, such as `os.environ`: a call copies its values at that moment."""

from __future__ import annotations

import copy
import os
import pickle
import types
from typing import Any, Iterator, Mapping

import pytest

from runtimeuse_sync import CommandInterface, InvocationMessage, QueryOptions, RuntimeUseClient
from runtimeuse_sync.testing import FakeRuntime, command_results, text_result

VARIABLE = "RUNTIMEUSE_TEST_VARIABLE"


class Counting(Mapping[str, str]):
    """Returns another value on each access."""

    def __init__(self) -> None:
        self.looked = 0

    def __getitem__(self, name: str) -> str:
        self.looked += 1
        return f"look {self.looked}"

    def __iter__(self) -> Iterator[str]:
        return iter(["N"])

    def __len__(self) -> int:
        return 1


def make(*replies: Any) -> Any:
    fake = FakeRuntime(list(replies))
    return fake, RuntimeUseClient(transport=fake, model="m")


def test_a_query_takes_the_environment_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, client = make(text_result("1"), text_result("2"))
    options = QueryOptions(
        agent_env=os.environ,
        pre_agent_invocation_commands=[CommandInterface("ls", env=os.environ)],
        post_agent_invocation_commands=[CommandInterface("ls", env=types.MappingProxyType({"A": "b"}))],
    )
    for value in ("one", "two"):
        monkeypatch.setenv(VARIABLE, value)
        client.query("p", options)
        request = fake.requests[-1]
        assert request["agent_env"] == dict(os.environ)
        assert request["agent_env"][VARIABLE] == value
        assert request["pre_agent_invocation_commands"][0]["env"] == dict(os.environ)
        assert request["post_agent_invocation_commands"][0]["env"] == {"A": "b"}
    assert options.agent_env is os.environ


def test_commands_take_the_environment_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "one")
    fake, client = make(command_results())
    client.execute_commands([CommandInterface("ls", env=os.environ)])
    assert fake.requests[0]["commands"] == [{"command": "ls", "env": dict(os.environ)}]


def test_the_checked_values_are_those_sent() -> None:
    fake, client = make(text_result("1"), command_results())
    client.query("p", agent_env=Counting(), pre_agent_invocation_commands=[CommandInterface("ls", env=Counting())])
    assert fake.requests[0]["agent_env"] == {"N": "look 1"}
    client.execute_commands([CommandInterface("ls", env=Counting())])
    assert fake.requests[1]["commands"][0]["env"] == {"N": "look 1"}


@pytest.mark.parametrize("bad", [{"A": 1}, {"": "x"}, {"A=B": "x"}, {"A": "x\0"}])
def test_any_mapping_is_checked(bad: Mapping[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="agent_env"):
        QueryOptions(agent_env=types.MappingProxyType(dict(bad)))


@pytest.mark.parametrize(
    "env", [os.environ, types.MappingProxyType({"A": "b"}), {"A": "b"}], ids=["os", "proxy", "dict"]
)
def test_json_pickles_and_copies(env: Mapping[str, str]) -> None:
    options = QueryOptions(agent_env=env, pre_agent_invocation_commands=[CommandInterface("ls", env=env)])
    command = CommandInterface("ls", env=env)
    message = InvocationMessage("invocation_message", "s", "p", "m", agent_env=env)
    for each in (options, command, message):
        kind: Any = type(each)
        for again in (
            kind.from_json(each.to_json()),
            kind.from_dict(each.to_dict()),
            pickle.loads(pickle.dumps(each)),
            copy.deepcopy(each),
            copy.copy(each),
        ):
            assert again == each


def test_values_are_secret() -> None:
    env = types.MappingProxyType({"A": "hunter2-hunter2"})
    for each in (
        QueryOptions(agent_env=env, pre_agent_invocation_commands=[CommandInterface("echo hunter2-hunter2", env=env)]),
        CommandInterface("echo hunter2-hunter2", env=env),
    ):
        assert each.secret_values()
        assert "hunter2" not in repr(each)
