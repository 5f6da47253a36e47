"""P10: a failing command raises, unless `check=False`."""

from __future__ import annotations

from typing import Any, List

import pytest

from runtimeuse_sync import AgentRuntimeError, CommandFailedError, CommandResultItem, ExecuteCommandsOptions
from runtimeuse_sync.runtime import LocalRuntime

from .helpers import client_of

COMMANDS = ["echo one", "echo two; exit 3", "echo never"]
RAN = [CommandResultItem("echo one", 0, "one\n"), CommandResultItem("echo two; exit 3", 3, "two\n")]


@pytest.mark.parametrize("in_session", [False, True])
def test_it_names_the_command_and_its_exit_code(runtime: LocalRuntime, in_session: bool) -> None:
    client = client_of(runtime)
    with client.session() as session:
        caller: Any = session if in_session else client
        with pytest.raises(CommandFailedError, match=r"exit code 3.*echo two") as caught:
            caller.execute_commands(COMMANDS)
        assert isinstance(caught.value, AgentRuntimeError)
        assert caught.value.results == RAN
        assert (caught.value.command, caught.value.exit_code) == ("echo two; exit 3", 3)
        assert caught.value.metadata == {"command": "echo two; exit 3", "exit_code": 3}
        # Nothing is in flight any more, nor unsure.
        assert caller.execute_commands(["echo next"], timeout=10).results == [
            CommandResultItem("echo next", 0, "next\n")
        ]


@pytest.mark.parametrize("how", ["keyword", "option"])
def test_without_check_it_is_returned(runtime: LocalRuntime, how: str) -> None:
    client = client_of(runtime)
    if how == "keyword":
        result = client.execute_commands(COMMANDS, check=False)
    else:
        result = client.execute_commands(COMMANDS, ExecuteCommandsOptions(check=False))
    assert result.results == RAN


def test_a_command_that_a_signal_ends(runtime: LocalRuntime) -> None:
    with pytest.raises(CommandFailedError) as caught:
        client_of(runtime).execute_commands(["kill -9 $$"])
    assert caught.value.exit_code == -1


def test_streamed(runtime: LocalRuntime) -> None:
    with client_of(runtime).stream_commands(COMMANDS) as run:
        seen: List[str] = []
        with pytest.raises(CommandFailedError):
            seen.extend(message.message_type for message in run)
        assert set(seen) == {"command_output_message"}
        with pytest.raises(CommandFailedError):
            _ = run.result
