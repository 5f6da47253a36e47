"""`output_type` and `parsed`: what is sent, what comes back, and what is refused. The runtime is one in memory."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import traceback
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Optional
from unittest import mock

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    OutputValidationError,
    ProtocolError,
    QueryOptions,
    QueryResult,
    RunTimeoutError,
    RuntimeUseClient,
    StructuredOutputResult,
    TextResult,
    TypedQueryResult,
)
from runtimeuse_sync.errors import without_traceback
from runtimeuse_sync.results import WrongKindOfResult
from runtimeuse_sync.testing import FakeRuntime, assistant_message, structured_result, text_result

from ..support.builders import BOTH, caller_of
from ..support.duplicates import duplicates
from ..support.packages import needs

pytestmark = needs("pydantic")

SCHEMA = '{"type":"json_schema","schema":{}}'


@dataclasses.dataclass
class Stats:
    file_count: int
    char_count: int


@dataclasses.dataclass
class Note:
    line: int
    text: str


FITS = {"file_count": 2, "char_count": 12}


def client_of(fake: FakeRuntime) -> RuntimeUseClient:
    return RuntimeUseClient(transport=fake, model="m")


def answering(*outputs: Dict[str, Any]) -> FakeRuntime:
    return FakeRuntime([structured_result(output, {"tokens": 3}) for output in outputs])


def sent_schema(fake: FakeRuntime) -> Any:
    return json.loads(fake.requests[-1]["output_format_json_schema_str"])


# --- What comes back.


@BOTH
def test_an_answer_is_made_into_the_type(in_session: bool) -> None:
    fake = answering(FITS, FITS, {"value": [{"line": 1, "text": "x"}]})
    with caller_of(client_of(fake), in_session) as caller:
        result = caller.query("p", output_type=Stats)
        assert result.parsed == Stats(2, 12)
        assert (result.structured_output, result.metadata) == (FITS, {"tokens": 3})
        assert isinstance(result, QueryResult)
        assert sent_schema(fake)["schema"]["required"] == ["file_count", "char_count"]
        with caller.stream("p", output_type=Stats) as run:
            assert list(run) == []
            assert run.result.parsed == Stats(2, 12)
        notes = caller.query("p", output_type=List[Note])
        assert notes.parsed == [Note(1, "x")]
        assert notes.structured_output == {"value": [{"line": 1, "text": "x"}]}
        assert sent_schema(fake)["schema"]["required"] == ["value"]


def test_the_options_stay_as_they_are() -> None:
    options = QueryOptions(timeout=5)
    fake = answering(FITS)
    client_of(fake).query("p", options, output_type=Stats)
    assert options == QueryOptions(timeout=5)


def test_without_an_output_type_nothing_changes() -> None:
    fake = answering(FITS, FITS)
    client = client_of(fake)
    for result in (client.query("p"), client.query("p", output_type=None)):
        assert type(result) is QueryResult
        assert "output_format_json_schema_str" not in fake.requests[-1]


def test_a_result_without_a_parsed_value() -> None:
    fake = FakeRuntime([text_result("4"), structured_result(FITS)])
    client = client_of(fake)
    read: Any = TypedQueryResult.from_json(client_of(answering(FITS)).query("p", output_type=Stats).to_json())
    results: List[Any] = [client.query("p"), client.query("p"), read]
    for result in results:
        assert not hasattr(result, "parsed")
        assert getattr(result, "parsed", None) is None
        assert "parsed" not in dict(inspect.getmembers(result))
        assert mock.create_autospec(result).metadata is not None
        for kind in (TypeError, AttributeError, WrongKindOfResult):
            with pytest.raises(kind, match="parsed"):
                _ = result.parsed
    assert read.structured_output == FITS


# --- Copies, pickles and JSON of a result.


class Odd(Mapping[str, int]):
    """A mapping that is no dict."""

    def __init__(self, numbers: Dict[str, int]) -> None:
        self.numbers = numbers

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    def __iter__(self) -> Any:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


@pytest.mark.parametrize(
    "parsed",
    [Stats(2, 12), None, [Note(1, "x")], OrderedDict(a=1), Odd({"a": 1})],
    ids=lambda each: type(each).__name__,
)
def test_results_pickle_and_copy(parsed: Any) -> None:
    result = TypedQueryResult(StructuredOutputResult({"a": 1}), {"tokens": 3}, parsed=parsed)
    for again in duplicates(result):
        assert type(again) is TypedQueryResult
        assert again == result
        assert again.parsed == parsed
        assert type(again.parsed) is type(parsed)


def test_a_result_in_json() -> None:
    result = client_of(answering(FITS)).query("p", output_type=Stats)
    plain = QueryResult(result.data, result.metadata)
    assert result.to_json() == plain.to_json()
    assert result.to_dict() == plain.to_dict()
    assert dataclasses.asdict(result) == dataclasses.asdict(plain)
    assert str(result) == str(plain)
    assert QueryResult.from_json(result.to_json()) == result


def test_which_results_are_equal() -> None:
    data = StructuredOutputResult(FITS)
    result = TypedQueryResult(data, {}, Stats(2, 12))
    assert result == QueryResult(data, {})
    assert QueryResult(data, {}) == result
    assert result != QueryResult(data, {"tokens": 3})
    assert QueryResult(StructuredOutputResult({}), {}) != result
    assert result != Stats(2, 12)
    with pytest.raises(TypeError, match="unhashable"):
        hash(result)


def test_a_result_is_shown_with_its_parsed_value() -> None:
    data = StructuredOutputResult({"a": 1})
    assert repr(TypedQueryResult(data, None, Stats(2, 12))) == (
        "TypedQueryResult(data=StructuredOutputResult(structured_output={'a': 1}, type='structured_output'), "
        "metadata=None, parsed=Stats(file_count=2, char_count=12))"
    )
    assert repr(TypedQueryResult(data)).endswith("metadata=None)")


def test_an_error_that_carries_a_result() -> None:
    result = client_of(answering(FITS)).query("p", output_type=Stats)
    error = RunTimeoutError("late", result)
    copied: Any = without_traceback(error)
    for again in (*duplicates(error), copied):
        assert again.result.parsed == Stats(2, 12)
    made_again = RunTimeoutError(*json.loads(json.dumps(error.args)))
    assert made_again.result == result
    assert made_again.args == error.args


# --- What does not fit.


@BOTH
def test_an_answer_that_does_not_fit(in_session: bool) -> None:
    answer = {"value": [{"line": "x"}, {"line": 1, "text": "x"}, {"line": None, "text": 3}]}
    fake = FakeRuntime([[assistant_message("thinking"), *structured_result(answer)], structured_result(FITS)])
    with caller_of(client_of(fake), in_session) as caller:
        with pytest.raises(OutputValidationError, match=r"does not fit List\[Note\] \(4 problems\)") as caught:
            caller.query("p", output_type=List[Note], source_id="job-1")
        # The session goes on.
        assert caller.query("p", output_type=Stats).parsed == Stats(2, 12)
    error = caught.value
    assert isinstance(error, AgentRuntimeError)
    assert [problem.path for problem in error.errors] == ["[0].line", "[0].text", "[2].line", "[2].text"]
    assert error.errors[1]["reason"] == "Field required"
    assert error.structured_output == answer
    assert (error.source_id, error.assistant_texts, error.metadata) == ("job-1", ["thinking"], None)
    lines = str(error).split("\n")
    assert [line.split(":")[0] for line in lines[1:]] == ["  [0].line", "  [0].text", "  [2].line", "  … and 1 more"]
    again: Any = OutputValidationError(*json.loads(json.dumps(error.args)))
    assert (again.args, str(again), vars(again)) == (error.args, str(error), vars(error))


def test_a_stream_whose_answer_does_not_fit() -> None:
    with client_of(answering({})).stream("p", output_type=Stats) as run:
        for _ in range(2):
            with pytest.raises(OutputValidationError):
                _ = run.result
    with pytest.raises(OutputValidationError):
        _ = run.result


def test_no_secret_is_in_an_error(caplog: pytest.LogCaptureFixture) -> None:
    pydantic: Any = pytest.importorskip("pydantic")

    class Picky(pydantic.BaseModel):
        names: Dict[str, int]

        @pydantic.field_validator("names", mode="before")
        @classmethod
        def check(cls, names: Any) -> Any:
            if "repeat" in names:
                raise ValueError(f"unexpected: {names}")
            return names

    secret = "hunter" + "2"  # So that it is in no line of this file, which a traceback shows.
    answers: List[Dict[str, Any]] = [{"names": {secret: secret}}, {"names": {"repeat": secret}}]
    client = client_of(answering(*answers))
    for _ in answers:
        with caplog.at_level(logging.DEBUG), pytest.raises(OutputValidationError) as caught:
            client.query("p", output_type=Picky, secrets_to_redact=[secret])
        error = caught.value
        assert "[REDACTED]" in str(error)
        shown = [str(error), repr(error), str(error.args), str(vars(error)), caplog.text]
        shown += traceback.format_exception(type(error), error, error.__traceback__)
        assert not [text for text in shown if secret in text]
        assert error.__cause__ is error.__context__ is None


def test_text_where_a_type_was_asked_for() -> None:
    with pytest.raises(ProtocolError, match="I could not") as caught:
        client_of(FakeRuntime([text_result("I could not.")])).query("p", output_type=Stats)
    assert caught.value.metadata == {"text": "I could not."}


def test_what_a_validator_raises_comes_out() -> None:
    pydantic: Any = pytest.importorskip("pydantic")

    class Picky(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            if n:
                raise ZeroDivisionError("not pydantic's")
            return n

    with client_of(answering({"n": 1}, {"n": 0})).session() as session:
        with pytest.raises(ZeroDivisionError):
            session.query("p", output_type=Picky)
        assert session.query("p", output_type=Picky).parsed.n == 0


# --- What is refused, before anything is sent.


@pytest.mark.parametrize(
    "given",
    [
        {"output_format_json_schema_str": SCHEMA},
        {"options": QueryOptions(output_format_json_schema_str=SCHEMA)},
        {"options": QueryOptions(), "output_format_json_schema_str": SCHEMA},
    ],
)
def test_a_type_and_a_schema(given: Any) -> None:
    fake = answering(FITS)
    for call in (client_of(fake).query, client_of(fake).stream):
        with pytest.raises(ValueError, match=r"output_type and output_format_json_schema_str cannot both be set"):
            call("p", output_type=Stats, **given)
    assert fake.requests == []


def test_a_keyword_takes_the_schema_of_the_options_away() -> None:
    options = QueryOptions(output_format_json_schema_str=SCHEMA)
    result = client_of(answering(FITS)).query("p", options, output_type=Stats, output_format_json_schema_str=None)
    assert result.parsed == Stats(2, 12)


@pytest.mark.parametrize("kind", [Stats(1, 2), "Stats", {"type": "object"}, len, object()], ids=lambda each: "")
def test_what_is_no_type(kind: Any) -> None:
    fake = answering(FITS)
    for call in (client_of(fake).query, client_of(fake).stream):
        with pytest.raises(TypeError, match=r"^output_type"):
            call("p", output_type=kind)
    assert fake.requests == []


def test_commands_have_no_output_type() -> None:
    given: Any = {"output_type": Stats}
    with pytest.raises(TypeError, match="output_type"):
        client_of(FakeRuntime()).execute_commands(["ls"], **given)
    with pytest.raises(TypeError, match="output_type"):
        QueryOptions(**given)


def test_names_in_annotations_are_looked_up_where_the_call_is() -> None:
    @dataclasses.dataclass
    class Local:
        n: int
        next: Optional[Local] = None

    client = client_of(answering({"value": [{"n": 1, "next": {"n": 2}}]}, {"value": [{"n": 1}]}))
    assert client.query("p", output_type=List["Local"]).parsed == [Local(1, Local(2))]
    with client.stream("p", output_type=List["Local"]) as run:
        assert run.result.parsed == [Local(1)]


def test_a_text_result_can_be_made_by_hand() -> None:
    # As a double in a user's tests.
    assert TypedQueryResult(TextResult("x"), parsed=3).parsed == 3


def test_a_future_of_an_instance() -> None:
    future = client_of(answering(FITS)).submit("p", output_type=Stats)
    assert future.result().parsed == Stats(2, 12)
    with pytest.raises(TypeError, match=r"^output_type"):
        client_of(answering()).submit("p", output_type=Stats(1, 2))  # type: ignore[call-overload]
