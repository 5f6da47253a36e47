"""The errors: their tree, texts, pickles and copies."""

from __future__ import annotations

import concurrent.futures
import copy
import copyreg
import functools
import importlib
import inspect
import json
import multiprocessing
import pickle
from typing import Any, Callable, Dict, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    CancelledException,
    CommandExecutionResult,
    CommandFailedError,
    CommandResultItem,
    ConnectionLostError,
    OutputProblem,
    OutputValidationError,
    ProtocolError,
    QueryResult,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseError,
    SessionStateError,
    StructuredOutputResult,
    TextResult,
    errors,
)
from runtimeuse_sync.errors import carry, without_traceback

from ..support.duplicates import duplicates
from ..support.packages import needs

RESULTS = [CommandResultItem("true", 0), CommandResultItem("false", 3, "x", "why\n")]

#: A value other than the default for each parameter of the errors.
VALUES: Dict[str, Any] = {
    "error": "it failed",
    "message": "it failed",
    "metadata": {"error_details": "no such table", "stack": "s", "code": 2, "list": [1.5, True, None, {}]},
    "results": RESULTS,
    "assistant_texts": ["I", "said"],
    "source_id": "job-1",
    "command": "false",
    "exit_code": 3,
    "result": QueryResult(StructuredOutputResult({"a": [1]}), {"tokens": 3}),
    "status": 503,
    "filepaths": ["/out/a"],
    "errors": [OutputProblem("a[1].b", "no number")],
    "structured_output": {"a": [{}, {"b": "x"}]},
}

ERRORS: List[Any] = [
    RuntimeUseError("x"),
    AgentRuntimeError("it failed", {"stack": "s"}),
    AgentRuntimeError("it failed"),
    CommandFailedError("failed", {"exit_code": 3}, results=RESULTS, command="false", exit_code=3),
    OutputValidationError("does not fit", errors=[OutputProblem("a", "no")], structured_output={"a": 1}),
    ProtocolError("broken", {"in_flight": "query"}),
    CancelledException("cancelled"),
    RunTimeoutError("late", result=QueryResult(TextResult("4"))),
    RuntimeConnectionError("refused", status=403),
    ConnectionLostError("lost", {"in_flight": "query"}, result=CommandExecutionResult(RESULTS)),
    ArtifactUploadError("not uploaded", ["/out/a"]),
    SessionStateError("closed"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: type(each).__name__)
def test_errors_pickle_and_copy(error: Any) -> None:
    error.extra = ["kept, too"]
    for again in duplicates(error):
        assert type(again) is type(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        assert str(again) == str(error)
        assert repr(again) == repr(error)
        again.another = 1
        assert not hasattr(error, "another")


def _public_errors() -> List[Any]:
    return [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, RuntimeUseError)]


def _with_everything(kind: Any) -> Any:
    """Creates an error with a value other than the default for each parameter."""
    if kind is RuntimeUseError:  # It accepts anything, like `Exception`.
        return kind("it failed", 2)
    parameters = list(inspect.signature(kind).parameters.values())
    for each in parameters:
        assert each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, "it could not be made again by its args"
        assert each.default != VALUES[each.name]
    return kind(**{each.name: VALUES[each.name] for each in parameters})


def _raise(error: BaseException) -> None:
    raise error


def _by_base_exception(error: Any) -> Any:
    reduced: Any = BaseException.__reduce__(error)
    make, arguments, *state = reduced
    again = make(*arguments)
    assert vars(again) == vars(error), "without the state"
    for each in state:
        again.__setstate__(each)
    return again


def _by_tblib(error: Any) -> Any:
    pickling: Any = importlib.import_module("tblib.pickling_support")
    make, arguments, *state = pickling.pickle_exception(error)
    again = make(*arguments)
    for each in state:
        again.__dict__.update(each)
    return again


AGAIN: Dict[str, Callable[[Any], Any]] = {
    "args": lambda error: type(error)(*error.args),
    "args in JSON": lambda error: type(error)(*json.loads(json.dumps(error.args, allow_nan=False))),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "BaseException": _by_base_exception,
}


def assert_the_same(again: Any, error: Any) -> None:
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert again.args == error.args
    assert str(again) == str(error)
    assert repr(again) == repr(error)


@pytest.mark.parametrize("way", list(AGAIN))
@pytest.mark.parametrize("kind", _public_errors(), ids=lambda each: str(each.__name__))
def test_errors_can_be_recreated(kind: Any, way: str) -> None:
    error = _with_everything(kind)
    assert_the_same(AGAIN[way](error), error)
    if kind is not RuntimeUseError:
        assert {name: vars(error)[name] for name in kind._carried} == {name: VALUES[name] for name in kind._carried}
        assert set(inspect.signature(kind).parameters) - {"error", "message"} == set(kind._carried)


@needs("tblib")
@pytest.mark.parametrize("kind", _public_errors(), ids=lambda each: str(each.__name__))
def test_tblib_recreates_errors(kind: Any) -> None:
    error = _with_everything(kind)
    assert_the_same(_by_tblib(error), error)


def test_errors_of_other_processes_are_raised_unchanged() -> None:
    every = [_with_everything(kind) for kind in _public_errors()]
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for error, future in [(error, pool.submit(functools.partial(_raise, error))) for error in every]:
            assert_the_same(future.exception(), error)


@pytest.mark.parametrize("kind", _public_errors(), ids=lambda each: str(each.__name__))
def test_attributes_set_later_are_in_args(kind: Any) -> None:
    error = _with_everything(kind)
    carry(error, source_id="another", results=[CommandResultItem("later", None)])
    again = type(error)(*json.loads(json.dumps(error.args)))
    assert_the_same(again, error)
    assert again.source_id == ("another" if "source_id" in kind._carried else None)


def test_defaults_are_left_out_of_args() -> None:
    # As in the async client.
    assert AgentRuntimeError("x").args == ("x",)
    assert AgentRuntimeError("x", {"a": 1}).args == ("x", {"a": 1})
    assert CommandFailedError("x", results=[], command="", exit_code=-1).args == ("x",)
    assert CancelledException().args == ()
    assert SessionStateError("closed").args == ("closed",)


class Theirs(CommandFailedError):
    def __init__(self, task: str) -> None:
        super().__init__(f"{task} failed", {"task": task}, command=task, exit_code=4)
        self.task = task


def test_subclasses_of_users_pickle_and_copy() -> None:
    error = Theirs("build")
    for again in duplicates(error):
        assert_the_same(again, error)
        assert (again.task, again.exit_code) == ("build", 4)


def test_the_list_of_errors_is_complete() -> None:
    assert {type(error) for error in ERRORS} == set(_public_errors())


def test_the_tree_of_errors_matches_the_drawing() -> None:
    parents: List[str] = []
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        stripped = line.lstrip(" │├└─")
        if stripped[:1].isupper() and (line.startswith("    ")):
            depth = (len(line) - len(stripped) - 4) // 4
            name = stripped.split()[0]
            parents = [*parents[:depth], name]
            drawn[name] = (parents[depth - 1] if depth else None, stripped)
    assert set(drawn) == {type(error).__name__ for error in ERRORS}
    for name, (parent, text) in drawn.items():
        kind = getattr(errors, name)
        assert kind.__bases__[0].__name__ == (parent or "Exception")
        for also in ("TimeoutError", "ConnectionError", "AgentRuntimeError"):
            if f"also a {also}" in text or f"also an {also}" in text:
                assert issubclass(kind, {**vars(errors), **__builtins_of()}[also])


def __builtins_of() -> Dict[str, Any]:
    return {"TimeoutError": TimeoutError, "ConnectionError": ConnectionError}


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (RunTimeoutError("x"), (RuntimeUseError, TimeoutError)),
        (RuntimeConnectionError("x"), (RuntimeUseError, ConnectionError)),
        (ConnectionLostError("x"), (RuntimeConnectionError, AgentRuntimeError, ConnectionError)),
        (CommandFailedError("x"), (AgentRuntimeError,)),
        (OutputValidationError("x"), (AgentRuntimeError,)),
        (ProtocolError("x"), (AgentRuntimeError,)),
        (SessionStateError("x"), (RuntimeUseError, RuntimeError)),
    ],
)
def test_what_errors_can_be_caught_as(error: Exception, bases: Any) -> None:
    for base in bases:
        assert isinstance(error, base)
    assert not isinstance(CancelledException("x"), AgentRuntimeError)
    assert not isinstance(RunTimeoutError("x"), AgentRuntimeError)


def test_texts_of_errors() -> None:
    assert str(AgentRuntimeError("it failed")) == "it failed"
    assert str(AgentRuntimeError("it failed", {})) == "it failed"
    assert str(ConnectionLostError("lost", {"in_flight": "query"})) == "lost"
    assert str(RuntimeConnectionError("refused", status=403)) == "refused"
    assert str(RunTimeoutError("late", result=1)) == "late"
    assert str(ArtifactUploadError("not uploaded", ["/out/a"])) == "not uploaded"


def test_problems_of_an_answer() -> None:
    problem = OutputProblem("a[1].b", "no number")
    assert (problem.path, problem.reason) == (problem["path"], problem["reason"]) == ("a[1].b", "no number")
    assert json.loads(json.dumps([problem])) == [problem]
    for again in duplicates(problem):
        assert type(again) is OutputProblem
        assert again == problem


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, []),
        (1, ["  p0: r0"]),
        (3, ["  p0: r0", "  p1: r1", "  p2: r2"]),
        (5, ["  p0: r0", "  p1: r1", "  p2: r2", "  … and 2 more"]),
    ],
)
def test_the_text_for_an_answer_that_does_not_fit(count: int, shown: List[str]) -> None:
    error = OutputValidationError("it does not fit", errors=[OutputProblem(f"p{n}", f"r{n}") for n in range(count)])
    assert str(error).split("\n") == ["it does not fit", *shown]
    assert repr(error) == "OutputValidationError('it does not fit')"


def test_long_problems_are_cut_in_the_text() -> None:
    problems = [{"path": "", "reason": "first\n  second " + "x" * 300}, {"path": "k" * 300, "reason": "r"}]
    lines = str(OutputValidationError("no", errors=problems)).split("\n")
    assert lines[1].startswith("  first second xxx")
    assert [len(line) < 210 and "…" in line for line in lines[1:]] == [True, True]


def test_a_deep_answer_can_be_pickled() -> None:
    nested: Any = "x"
    for _ in range(5000):
        nested = {"a": nested}
    error = OutputValidationError("no", structured_output=nested)
    for again in (*duplicates(error), OutputValidationError(*json.loads(json.dumps(error.args)))):
        assert list(again.structured_output) == ["a"]


@pytest.mark.parametrize("metadata", [{1: "a", "b": 2}, {"o": object()}, {"s": {1, 2}}, {(1, 2): 3}])
def test_any_metadata_can_be_shown_and_sent(metadata: Any) -> None:
    # As in the async client. Users may also raise such errors themselves.
    error = AgentRuntimeError("it failed", metadata)
    assert str(error) == "it failed"
    assert vars(error)["metadata"] is metadata
    again: Any = AgentRuntimeError(*json.loads(json.dumps(error.args)))
    assert again.metadata == {
        str(name): value if value in (2, 3, "a") else str(value) for name, value in metadata.items()
    }


class _Odd:
    def __str__(self) -> str:
        raise KeyError("odd")


def test_values_without_text_or_end_can_be_sent() -> None:
    metadata: Dict[str, Any] = {"odd": _Odd(), "number": float("inf")}
    metadata["itself"] = metadata
    again = AgentRuntimeError(*json.loads(json.dumps(AgentRuntimeError("it failed", metadata).args, allow_nan=False)))
    assert again.metadata == {"odd": "<_Odd>", "number": "inf", "itself": "(nested too deeply)"}


@pytest.mark.parametrize("depth", [400, 900, 5000])
def test_deep_metadata_can_be_shown(depth: int) -> None:
    nested: Any = "x"
    for _ in range(depth):
        nested = {"a": nested}
    error = AgentRuntimeError("it failed", nested)
    assert str(error) == "it failed"
    assert error.metadata is nested
    for again in (*duplicates(error), AgentRuntimeError(*json.loads(json.dumps(error.args)))):
        assert again.args == error.args
        assert list(again.metadata) == ["a"]


def test_a_copy_without_frames() -> None:
    with pytest.raises(CommandFailedError) as caught:
        raise CommandFailedError("it failed", {"a": 1}, results=RESULTS) from OSError("why")
    error, copied = caught.value, without_traceback(caught.value)
    assert copied is not error
    assert copied is not None
    assert copied.__traceback__ is None
    assert copied.__cause__ is error.__cause__
    assert copied.__suppress_context__
    assert (copied.args, vars(copied)) == (error.args, vars(error))
    ours = OSError("no error of ours")
    assert without_traceback(ours) is ours
    assert without_traceback(None) is None


@needs("tblib")
def test_a_copy_without_frames_where_tblib_copies_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has imported dask's `distributed`."""
    monkeypatch.setattr(copyreg, "dispatch_table", dict(copyreg.dispatch_table))
    monkeypatch.setattr(copy, "dispatch_table", copyreg.dispatch_table)
    pickling: Any = importlib.import_module("tblib.pickling_support")
    pickling.install(CommandFailedError)
    test_a_copy_without_frames()


def test_the_stack_in_the_details_is_not_shown() -> None:
    details = {"message": "no disk", "stack": "Error\n    at run (/app/x.js:1)"}
    error = AgentRuntimeError("it failed", {"error_details": details})
    assert str(error) == 'it failed\n{"message": "no disk"}'
    assert str(AgentRuntimeError("it failed", {"error_details": {"stack": "s"}})) == "it failed"
    assert error.metadata == {"error_details": details}
