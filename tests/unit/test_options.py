"""Options: how options objects, keywords and the client's defaults are merged."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict

import pytest

from runtimeuse_sync import (
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseClient,
)
from runtimeuse_sync._wire.request import Defaults, commands_request, query_request

from ..support.doubles import MemoryTransports
from ..support.packages import needs


@dataclasses.dataclass
class Answer:
    number: int


def test_keywords_win_over_the_object() -> None:
    options = QueryOptions(model="from object", timeout=1, secrets_to_redact=["a"], source_id="kept")
    merged = Defaults({}).merged(QueryOptions, options, {"model": "from keyword", "timeout": None}, "query()")
    assert (merged.model, merged.timeout, merged.secrets_to_redact, merged.source_id) == (
        "from keyword",
        None,
        ["a"],
        "kept",
    )
    # The caller's object is unchanged.
    assert (options.model, options.timeout) == ("from object", 1)


def test_object_only_and_keywords_only() -> None:
    options = ExecuteCommandsOptions(check=False)
    assert Defaults({}).merged(ExecuteCommandsOptions, options, {}, "x") == options
    assert Defaults({}).merged(ExecuteCommandsOptions, None, {"check": False}, "x") == options
    assert Defaults({}).merged(QueryOptions, None, {}, "x") == QueryOptions()


def _sent(request: Any) -> Dict[str, Any]:
    message: Dict[str, Any] = json.loads(request.payload)
    return message


def test_the_clients_defaults_come_last() -> None:
    defaults = Defaults({"model": "default model", "system_prompt": "default prompt"})
    message = _sent(query_request("p", None, {}, defaults, "query()"))
    assert (message["model"], message["system_prompt"]) == ("default model", "default prompt")
    message = _sent(query_request("p", QueryOptions(model="m", system_prompt=""), {}, defaults, "query()"))
    assert (message["model"], message["system_prompt"]) == ("m", "")
    message = _sent(query_request("p", QueryOptions(model="m"), {"model": "k"}, defaults, "query()"))
    assert (message["model"], message["system_prompt"]) == ("k", "default prompt")
    # `None` in a keyword also means "not set".
    message = _sent(query_request("p", QueryOptions(model="m"), {"model": None}, defaults, "query()"))
    assert message["model"] == "default model"
    assert _sent(query_request("p", None, {}, Defaults({"model": "m"}), "query()"))["system_prompt"] == ""


@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
def test_every_option_is_checked(kind: Any) -> None:
    for field in dataclasses.fields(kind):
        with pytest.raises(TypeError, match=f"^{field.name} must be"):
            kind(**{field.name: object()})


def test_commands_may_be_strings() -> None:
    message = _sent(commands_request(["ls", CommandInterface("pwd", cwd="/x")], None, {}, Defaults({}), "x"))
    assert message["commands"] == [{"command": "ls"}, {"command": "pwd", "cwd": "/x"}]


def test_a_call_with_options_changes_nothing_for_those_without() -> None:
    """Calls without options share one object."""
    defaults = Defaults({"model": "m", "agent_env": {"A": "1"}})

    def message(**keywords: Any) -> Dict[str, Any]:
        return _sent(query_request("p", None, keywords, defaults, "query()"))

    plain = message()
    assert message(agent_env={"B": "2"})["agent_env"] == {"A": "1", "B": "2"}
    assert message() == plain
    own = ExecuteCommandsOptions(timeout=1)
    assert defaults.merged(ExecuteCommandsOptions, own, {}, "x") is not own


@needs("pydantic")
def test_a_call_with_an_output_type_changes_nothing_for_those_without() -> None:
    defaults = Defaults({"model": "m"})
    schema = "output_format_json_schema_str"
    assert schema in _sent(query_request("p", None, {}, defaults, "query()", Answer))
    assert schema not in _sent(query_request("p", None, {}, defaults, "query()"))


def test_the_secrets_of_a_request() -> None:
    command = CommandInterface("ls", env={"A": "env-of-command"})
    options: Dict[str, Any] = {
        "secrets_to_redact": ["listed"],
        "pre_execution_downloadables": [RuntimeEnvironmentDownloadableInterface("https://x.test/a?signature", "/d")],
    }
    secrets = commands_request([command], None, options, Defaults({}), "x").secrets
    assert {"listed", "env-of-command", "signature"} <= set(secrets)


def test_a_client_with_a_transport_keeps_its_defaults() -> None:
    client = RuntimeUseClient(transport=MemoryTransports(), model="m", system_prompt="s")
    assert client._defaults.merged(QueryOptions, None, {}, "x").model == "m"
