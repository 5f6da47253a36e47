"""Outcomes, and their JSON: results and errors come back as they were."""

from __future__ import annotations

import json
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    CancelledException,
    CommandExecutionResult,
    CommandFailedError,
    CommandResultItem,
    ConnectionLostError,
    QueryOptions,
    QueryResult,
    RunTimeoutError,
    StructuredOutputResult,
    TextResult,
)
from runtimeuse_sync.batch import Job, JobError, Outcome
from runtimeuse_sync.batch._outcomes import done_to_dict

ITEMS = [CommandResultItem("ls", 0, "out", None), CommandResultItem("exit 3", 3, None, "err")]


class OwnError(Exception):
    """Of a user's callback."""


class Particular(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} of {two}")


@pytest.mark.parametrize(
    "result",
    [
        QueryResult(TextResult("té😀xt"), {"tokens": 3}),
        QueryResult(StructuredOutputResult({"a": [1, {"b": None}]})),
        CommandExecutionResult(ITEMS),
    ],
)
def test_results(result: Any) -> None:
    outcome = Outcome(Job("p", id="x"), result, None, 1.5, from_journal=True)
    assert Outcome.from_json(outcome.to_json()) == outcome
    assert outcome.ok


@pytest.mark.parametrize(
    "error",
    [
        AgentRuntimeError("no", {"error_name": "E"}),
        CommandFailedError("no", {"exit_code": 3}, ITEMS, "exit 3", 3, ["text"], "source"),
        CancelledException("Query was cancelled"),
        RunTimeoutError("late"),
        ConnectionLostError("lost", {"in_flight": "query"}),
        JobError("text", "some.Kind"),
        ValueError("bad", 3),
        TimeoutError(),
        OwnError("mine", [1]),
        BrokenProcessPool("died"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors(error: BaseException) -> None:
    outcome = Outcome(Job("p"), None, error, 0.5)
    assert not outcome.ok
    made = Outcome.from_json(outcome.to_json()).error
    assert type(made) is type(error)
    assert made.args == error.args
    assert str(made) == str(error)
    assert {**vars(made)} == {**vars(error)}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Particular(1, 2), f"{__name__}.Particular"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "builtins.UnicodeDecodeError"),
        (KeyboardInterrupt("stop"), "builtins.KeyboardInterrupt"),
    ],
)
def test_errors_that_cannot_be_made_again(error: BaseException, kind: str) -> None:
    made = Outcome.from_json(Outcome(Job("p"), None, error, 0.5).to_json()).error
    assert isinstance(made, JobError)
    assert (made.kind, str(made)) == (kind, str(error))


def test_nothing_is_imported_or_called_by_a_name_in_json() -> None:
    fields = json.loads(Outcome(Job("p"), None, ValueError("x"), 0.5).to_json())
    for module, name in [("builtins", "eval"), ("os", "system"), ("antigravity", "X"), ("builtins", "int")]:
        fields["error"] = {"module": module, "type": name, "args": ["1 + 1"], "text": "said"}
        made = Outcome.from_json(json.dumps(fields)).error
        assert isinstance(made, JobError)
        assert (made.kind, str(made)) == (f"{module}.{name}", "said")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"result": None, "error": None}, ValueError),
        ({"result": {"type": "x"}}, ValueError),
        ({"result": 3}, TypeError),
        ({"seconds": "3"}, TypeError),
        ({"job": None}, TypeError),
        ({"result": None, "error": {"module": "builtins", "type": "ValueError", "args": 3}}, TypeError),
        ({"result": None, "error": {}}, KeyError),
    ],
)
def test_json_of_no_outcome(changed: Any, error: Any) -> None:
    fields = json.loads(Outcome(Job("p"), QueryResult(TextResult("x")), None, 0.5).to_json())
    with pytest.raises(error):
        Outcome.from_json(json.dumps({**fields, **changed}))


def test_secrets_are_masked_in_errors_where_they_are_told() -> None:
    job = Job("p", options=QueryOptions(agent_env={"TOKEN": "hunter-2"}))
    error = LookupError("no such token: hunter-2", {"hunter-2": ["hunter-2"]})
    assert "hunter-2" not in json.dumps(done_to_dict(None, error, 0.5, job.secret_values()))
