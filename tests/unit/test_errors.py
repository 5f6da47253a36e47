"""The errors: their tree, their texts, pickled and copied."""

from __future__ import annotations

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
    ProtocolError,
    QueryResult,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseError,
    SessionStateError,
    TextResult,
    errors,
)
from runtimeuse_sync.errors import without_traceback

from .duplicates import duplicates

RESULTS = [CommandResultItem("false", 3, "x")]

ERRORS: List[Any] = [
    RuntimeUseError("x"),
    AgentRuntimeError("it failed", {"stack": "s"}),
    AgentRuntimeError("it failed"),
    CommandFailedError("failed", {"exit_code": 3}, results=RESULTS, command="false", exit_code=3),
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


def test_the_list_of_errors_is_complete() -> None:
    public = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, RuntimeUseError)}
    assert {type(error) for error in ERRORS} == public


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
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
    assert str(AgentRuntimeError("it failed", {"b": 1, "a": [None]})) == 'it failed\nmetadata: {"a": [null], "b": 1}'
    assert str(ConnectionLostError("lost", {"in_flight": "query"})) == "lost"
    assert str(RuntimeConnectionError("refused", status=403)) == "refused"
    assert str(RunTimeoutError("late", result=1)) == "late"
    assert str(ArtifactUploadError("not uploaded", ["/out/a"])) == "not uploaded"


@pytest.mark.parametrize("metadata", [{1: "a", "b": 2}, {"o": object()}, {"s": {1, 2}}, {(1, 2): 3}])
def test_any_metadata_can_be_shown(metadata: Any) -> None:
    # As in the async client, whose users may raise such errors themselves.
    assert str(AgentRuntimeError("it failed", metadata)).startswith("it failed\nmetadata: ")


@pytest.mark.parametrize("depth", [400, 900, 5000])
def test_deep_metadata_can_be_shown(depth: int) -> None:
    nested: Any = "x"
    for _ in range(depth):
        nested = {"a": nested}
    assert str(AgentRuntimeError("it failed", nested)).startswith("it failed")


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
