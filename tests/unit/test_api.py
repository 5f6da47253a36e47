"""The async client's names, fields, defaults and calls are all there; what importing costs."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import textwrap
from typing import Any, Dict, List, Tuple

import pytest

import runtimeuse_sync
from runtimeuse_sync import errors


@pytest.fixture(scope="module")
def reference() -> Any:
    return pytest.importorskip("runtimeuse_client", reason="the async client needs Python 3.11")


def _reference_names() -> List[str]:
    try:
        import runtimeuse_client
    except ImportError:
        return []
    return list(runtimeuse_client.__all__)


_NAMES = _reference_names()

_MISSING = object()


def _fields(kind: Any) -> List[Tuple[str, Any]]:
    """Lists the fields of a pydantic model or a dataclass with their defaults."""
    if hasattr(kind, "model_fields"):
        return [
            (name, _MISSING if field.is_required() else field.get_default(call_default_factory=True))
            for name, field in kind.model_fields.items()
        ]
    found = []
    for field in dataclasses.fields(kind):
        default: Any = _MISSING
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append((field.name, default))
    return found


def test_every_name_is_there(reference: Any) -> None:
    assert set(reference.__all__) <= set(runtimeuse_sync.__all__)
    assert len(reference.__all__) > 30


def test_every_public_name_exists() -> None:
    for name in runtimeuse_sync.__all__:
        assert hasattr(runtimeuse_sync, name), name
    assert sorted(set(runtimeuse_sync.__all__)) == sorted(runtimeuse_sync.__all__)


@pytest.mark.parametrize("name", _NAMES)
def test_fields_and_defaults(name: str) -> None:
    import runtimeuse_client

    theirs, ours = getattr(runtimeuse_client, name), getattr(runtimeuse_sync, name)
    is_model = hasattr(theirs, "model_fields")
    if not is_model and not dataclasses.is_dataclass(theirs):
        assert not dataclasses.is_dataclass(ours)
        return
    our_fields = dict(_fields(ours))
    for field, default in _fields(theirs):
        assert field in our_fields
        if default is not _MISSING:
            assert our_fields[field] == default, field
    # What they need, nothing else is needed: code for theirs runs with ours.
    needed = {field for field, default in our_fields.items() if default is _MISSING}
    assert needed <= {field for field, default in _fields(theirs)}


@pytest.mark.parametrize("name", ["QueryOptions", "ExecuteCommandsOptions"])
def test_options_may_be_given_by_position(reference: Any, name: str) -> None:
    theirs = [field for field, _ in _fields(getattr(reference, name))]
    ours = [field for field, _ in _fields(getattr(runtimeuse_sync, name))]
    assert ours[: len(theirs)] == theirs


@pytest.mark.parametrize("name", _NAMES)
def test_what_the_reference_makes_can_be_made(name: str) -> None:
    import runtimeuse_client

    theirs, ours = getattr(runtimeuse_client, name), getattr(runtimeuse_sync, name)
    if not hasattr(theirs, "model_fields"):
        return
    values = _examples(theirs)
    made = ours(**values)
    for field in values:
        assert getattr(made, field) == values[field]


def _examples(kind: Any) -> Dict[str, Any]:
    """Makes up a value for each of a model's fields that are needed."""
    values: Dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if not field.is_required():
            continue
        text = str(field.annotation)
        if name == "message_type":
            values[name] = "x"
        elif name == "data":
            values[name] = runtimeuse_sync.TextResult(text="x")
        elif "list" in text:
            values[name] = []
        elif "dict" in text:
            values[name] = {}
        else:
            values[name] = 1 if "int" in text else "x"
    return values


_CALLS = [
    ("RuntimeUseClient", "query"),
    ("RuntimeUseClient", "execute_commands"),
    ("RuntimeUseClient", "session"),
    ("RuntimeUseClient", "abort"),
    ("RuntimeUseSession", "query"),
    ("RuntimeUseSession", "execute_commands"),
    ("RuntimeUseSession", "abort"),
]


@pytest.mark.parametrize(("kind", "method"), _CALLS)
def test_calls_take_what_they_take_there(reference: Any, kind: str, method: str) -> None:
    theirs = inspect.signature(getattr(getattr(reference, kind), method)).parameters
    ours = inspect.signature(getattr(getattr(runtimeuse_sync, kind), method)).parameters
    positional = [name for name, parameter in ours.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    assert positional[: len(theirs)] == list(theirs)
    for name in positional[len(theirs) :]:
        assert ours[name].default is not inspect.Parameter.empty
    assert not inspect.iscoroutinefunction(getattr(getattr(runtimeuse_sync, kind), method))


def test_the_client_is_made_alike(reference: Any) -> None:
    theirs = list(inspect.signature(reference.RuntimeUseClient).parameters)
    ours = list(inspect.signature(runtimeuse_sync.RuntimeUseClient).parameters)
    assert ours[: len(theirs)] == theirs


def test_errors_are_made_alike(reference: Any) -> None:
    for arguments in (("x",), ("x", None), ("x", {}), ("x", {"b": 1, "a": None})):
        theirs, ours = reference.AgentRuntimeError(*arguments), errors.AgentRuntimeError(*arguments)
        # Ours leaves out the metadata: a stack of the runtime is nothing for people.
        assert str(ours) == str(theirs).split("\n")[0]
        assert (ours.error, ours.metadata, ours.args[0]) == (theirs.error, theirs.metadata, theirs.args[0])


def _modules_after(statement: str) -> List[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.split()


def test_importing_the_client_imports_little() -> None:
    before = set(_modules_after("pass"))
    loaded = set(_modules_after("from runtimeuse_sync import RuntimeUseClient")) - before
    assert "runtimeuse_sync.client" in loaded
    unwanted = {"asyncio", "tenacity", "dataclasses_json", "marshmallow", "runtimeuse_sync.runtime", "websockets"}
    unwanted |= {"runtimeuse_sync.testing", "runtimeuse_sync._wire.output_type", "requests", "pydantic"}
    assert unwanted & loaded == set()


def test_importing_the_package_alone_imports_nothing_more() -> None:
    """The pytest plugin is a module of it, and is loaded wherever pytest runs."""
    before = set(_modules_after("import importlib, typing"))
    assert set(_modules_after("import runtimeuse_sync")) - before == {"runtimeuse_sync"}


@pytest.mark.parametrize(
    "module",
    [
        "client",
        "errors",
        "messages",
        "options",
        "results",
        "run",
        "session",
        "transports",
        "artifacts",
        "batch",
        "files",
        "futures",
        "keywords",
        "testing",
    ],
)
def test_the_modules_are_there_without_an_import_of_their_own(module: str) -> None:
    statement = f"import runtimeuse_sync; runtimeuse_sync.{module}.__name__"
    assert f"runtimeuse_sync.{module}" in _modules_after(statement)


def test_the_packages_names_are_all_there_when_first_asked_for() -> None:
    script = """
        import runtimeuse_sync

        shown, names = dir(runtimeuse_sync), {}
        assert set(runtimeuse_sync.__all__) < set(shown), shown
        exec("from runtimeuse_sync import *", names)
        assert set(runtimeuse_sync.__all__) < set(names), names
        assert runtimeuse_sync.RuntimeUseClient is runtimeuse_sync.client.RuntimeUseClient
        assert not hasattr(runtimeuse_sync, "RuntimeUseClints")
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_a_name_that_a_program_has_replaced_stays_replaced() -> None:
    script = """
        import runtimeuse_sync

        runtimeuse_sync.RuntimeUseClient = "another"
        assert runtimeuse_sync.QueryOptions is runtimeuse_sync.options.QueryOptions
        assert runtimeuse_sync.RuntimeUseClient == "another"
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_making_calls_ready_imports_little() -> None:
    statement = "import runtimeuse_sync as r; r.QueryOptions(); r.RuntimeUseClient('ws://h', model='m').stream('p')"
    assert {"asyncio", "tenacity", "dataclasses_json"} & set(_modules_after(statement)) == set()
