"""Options read from JSON: fields are checked before dataclasses-json coerces them."""

from __future__ import annotations

import json
from typing import Any, Dict, Type

import pytest

from runtimeuse_sync import (
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
)

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("secrets_to_redact", "abc", "secrets_to_redact must be a list of str, not str"),
        ("secrets_to_redact", [1], r"secrets_to_redact\[0\] must be a str, not int"),
        ("secrets_to_redact", None, "secrets_to_redact must be a list of str, not NoneType"),
        ("timeout", "5", "timeout must be a number"),
        ("timeout", True, "timeout must be a number"),
        ("source_id", 5, "source_id must be a str"),
        ("artifacts_dirs", "out", "artifacts_dirs must be a list"),
        ("on_heartbeat", "print", "on_heartbeat must be callable"),
        ("logger", "root", "logger must be a logging.Logger"),
    ],
)
def test_a_wrong_type_is_reported(kind: Type[Any], name: str, value: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        kind.from_dict({name: value})
    with pytest.raises(TypeError, match=named):
        kind.from_json(json.dumps({name: value}))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"agent_env": [SECRET]}, "agent_env must be a dict"),
        ({"agent_env": {"A": 1}}, r"agent_env\['A'\] must be a str, not int"),
        ({"pre_agent_invocation_commands": ["ls"]}, r"pre_agent_invocation_commands\[0\] must be .*, not str"),
        ({"pre_agent_invocation_commands": {"command": SECRET}}, "pre_agent_invocation_commands must be a list"),
        ({"post_agent_invocation_commands": [{"command": 5}]}, r"commands\[0\].command must be a str"),
        ({"post_agent_invocation_commands": [{"command": "ls", "env": {"A": 5}}]}, r"commands\[0\].env\['A'\]"),
        ({"pre_agent_downloadables": [5]}, r"pre_agent_downloadables\[0\] must be"),
        ({"pre_agent_downloadables": [{"download_url": 5, "working_dir": "."}]}, "download_url must be a str"),
    ],
)
def test_a_wrong_type_inside_a_list_is_reported(options: Dict[str, Any], named: str) -> None:
    with pytest.raises(TypeError, match=named) as caught:
        QueryOptions.from_json(json.dumps(options))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "5", '"timeout"', "null"])
def test_json_that_is_not_an_object_is_reported(text: str) -> None:
    with pytest.raises(TypeError, match="must be an object"):
        QueryOptions.from_json(text)


def test_whether_to_check_exit_codes_is_a_bool() -> None:
    for value in (None, 0, "no"):
        with pytest.raises(TypeError, match="check must be a bool"):
            ExecuteCommandsOptions.from_dict({"check": value})


def test_a_missing_field_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="command"):
        QueryOptions.from_dict({"pre_agent_invocation_commands": [{"cwd": "/app"}]})


def test_valid_options_are_read() -> None:
    command = CommandInterface("ls", cwd="/app", env={"A": "b"})
    download = RuntimeEnvironmentDownloadableInterface("https://store.test/a.zip", "/data")
    options = QueryOptions(
        timeout=5,
        agent_env={"A": "b"},
        secrets_to_redact=[SECRET],
        pre_agent_invocation_commands=[command],
        pre_agent_downloadables=[download],
        end_session_timeout=None,
    )
    assert QueryOptions.from_json(options.to_json()) == options
    # Newer versions may have more options, and more fields of a command.
    newer = {"unheard_of": 1, "pre_agent_invocation_commands": [{"command": "ls", "shell": "zsh"}, command]}
    assert QueryOptions.from_dict(newer).pre_agent_invocation_commands == [CommandInterface("ls"), command]
