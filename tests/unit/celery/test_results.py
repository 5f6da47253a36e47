"""What goes through Celery's JSON: results and errors, and what comes of them at the other end."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Dict, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    CancelledException,
    CommandExecutionResult,
    CommandFailedError,
    CommandResultItem,
    ConnectionLostError,
    OutputValidationError,
    ProtocolError,
    QueryOptions,
    QueryResult,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseError,
    SessionStateError,
    StructuredOutputResult,
    TextResult,
    TypedQueryResult,
)
from runtimeuse_sync.batch import JobError
from runtimeuse_sync.celery import result_from_json
from runtimeuse_sync.files.errors import FileMissingError
from runtimeuse_sync.testing import command_results, error, structured_result

from ...support.processes import CHILD_LIMIT
from .bench import Bench, through_json

ITEMS = [CommandResultItem("ls", 0, "a\n"), CommandResultItem("false", 1, None, "é \ud800 \U0001f600")]

RESULTS = [
    QueryResult(TextResult("four \ud800 \U0001f600"), {"usage": {"tokens": 4}, "cost": 0.25, "list": [1, None]}),
    QueryResult(StructuredOutputResult({"a": [1, {"b": None}]})),
    QueryResult(StructuredOutputResult({})),
    CommandExecutionResult(ITEMS),
    CommandExecutionResult([]),
    *ITEMS,
]

SO_FAR: Dict[str, Any] = {"results": ITEMS, "assistant_texts": ["one", "two"], "source_id": "mine"}

ERRORS: List[RuntimeUseError] = [
    RuntimeUseError("any"),
    AgentRuntimeError("no", {"cause": {"message": "why"}}, **SO_FAR),
    CommandFailedError("failed", {"exit_code": 1}, ITEMS, "false", 1, ["one"], "mine"),
    OutputValidationError("no", None, [{"path": "a", "reason": "b"}], {"a": 1}, **SO_FAR),
    ProtocolError("garbage", {"text": "x"}, **SO_FAR),
    CancelledException("cancelled", **SO_FAR),
    RunTimeoutError("late", RESULTS[0], **SO_FAR),
    RuntimeConnectionError("refused", 503, "mine"),
    ConnectionLostError("gone", {"in_flight": "query", "sent": False}, RESULTS[3], **SO_FAR),
    ArtifactUploadError("lost", ["/a"], RESULTS[0], "mine"),
    SessionStateError("closed", "mine"),
    JobError("elsewhere", "requests.HTTPError", "mine"),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_result_is_json_and_comes_back(result: Any) -> None:
    fields = through_json(result)
    assert fields == result.to_dict()
    assert result_from_json(fields) == result
    assert result_from_json(result) is result
    assert type(result).from_dict(fields) == result


def test_a_result_inside_of_another_value() -> None:
    assert through_json({"a": [RESULTS[0]]}) == {"a": [RESULTS[0].to_dict()]}


def test_a_typed_result_is_the_result_without_its_instance() -> None:
    result = TypedQueryResult(StructuredOutputResult({"a": 1}), None, object())
    assert result_from_json(through_json(result)) == QueryResult(StructuredOutputResult({"a": 1}))


def test_options_are_json_without_their_callbacks() -> None:
    options = QueryOptions(model="m", timeout=3, on_heartbeat=print)
    assert QueryOptions.from_dict(through_json(options)) == QueryOptions(model="m", timeout=3)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("four", TypeError, "value must be the fields of a result, not str"),
        ({}, ValueError, "value has not the fields of a result, but none"),
        ({"answer": 1}, ValueError, "value has not the fields of a result, but 'answer'"),
    ],
)
def test_what_is_no_result(value: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=text):
        result_from_json(value)


def query(self: Any) -> Any:
    return self.client.query("hi", output_format_json_schema_str='{"type": "json_schema", "schema": {}}')


def commands(self: Any) -> Any:
    return self.client.execute_commands(["ls"])


def test_a_task_returns_what_a_query_returns(bench: Bench) -> None:
    bench.fake.expect(structured_result({"answer": 4}, {"usage": 1}))
    got = bench.execute(bench.task(query)).get()
    assert result_from_json(got) == QueryResult(StructuredOutputResult({"answer": 4}), {"usage": 1})


def test_a_task_returns_what_commands_return(bench: Bench) -> None:
    bench.fake.expect(command_results("out"))
    got = result_from_json(bench.execute(bench.task(commands)).get())
    assert isinstance(got, CommandExecutionResult)
    assert got.results[0].stdout == "out"


def test_a_task_raises_what_a_query_raises(bench: Bench) -> None:
    bench.fake.expect(error("no", {"error_name": "X"}))
    with pytest.raises(AgentRuntimeError) as caught:
        bench.execute(bench.task(query)).get()
    assert type(caught.value) is AgentRuntimeError
    assert (caught.value.error, caught.value.metadata) == ("no", {"error_name": "X"})


@pytest.mark.parametrize("failure", ERRORS, ids=lambda failure: type(failure).__name__)
def test_an_error_comes_back_as_it_was(bench: Bench, failure: RuntimeUseError) -> None:
    def fail(_: Any) -> None:
        raise failure

    got = bench.execute(bench.task(fail, autoretry_for=())).result
    assert (type(got), str(got)) == (type(failure), str(failure))
    assert vars(got) == vars(failure)


def test_an_error_of_a_file_comes_back(bench: Bench) -> None:
    def fail(_: Any) -> None:
        raise FileMissingError("no such file", "/a")

    got = bench.execute(bench.task(fail)).result
    assert (type(got), str(got)) == (FileMissingError, str(FileMissingError("no such file", "/a")))


def test_whoever_reads_errors_need_import_nothing_but_this() -> None:
    """Celery finds the class of an error only if its module has been imported."""
    code = (
        "import runtimeuse_sync.celery, sys\n"
        "print([name in sys.modules for name in ('runtimeuse_sync.errors', 'runtimeuse_sync.files.errors', "
        "'runtimeuse_sync.batch._outcomes')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=CHILD_LIMIT, check=True)
    assert ran.stdout == "[True, True, True]\n"
