"""Secrets in unexpected places: misplaced in a name, or in an exception of a custom transport."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any, Callable, Optional

import pytest

from runtimeuse_sync import CommandInterface, ConnectionLostError, QueryOptions, RuntimeUseClient
from runtimeuse_sync._connection.closed import ConnectionClosed, Ending, connection_error

from ...support.doubles import MemoryTransport
from ...support.servers import PATIENCE

SECRET = 'sk-live\n"TOPSECRET"'


def all_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error)


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: QueryOptions(agent_env={f"TOKEN={SECRET}": ""}), "agent_env: 'TOKEN…'"),
        (lambda: QueryOptions(agent_env={f"TOKEN\0{SECRET}": ""}), "agent_env: 'TOKEN…'"),
        (lambda: QueryOptions(agent_env={"": SECRET}), "agent_env: ''"),
        (
            lambda: RuntimeUseClient("ws://h").execute_commands([CommandInterface("x", env={f"K={SECRET}": ""})]),
            r"commands\[0\].env: 'K…'",
        ),
        (
            lambda: RuntimeUseClient("ws://h", headers={f"Authorization: Bearer {SECRET}": ""}),
            "headers: 'Authorization…'",
        ),
        (
            lambda: RuntimeUseClient("ws://h", headers={f"Authorization: {SECRET}": 5}),  # type: ignore[dict-item]
            "headers: 'Authorization…'",
        ),
        (lambda: RuntimeUseClient("TOPSECRET:pw@host/x"), "must begin with ws://, wss://, http:// or https://$"),
        (lambda: RuntimeUseClient("TOPSECRET://host"), "must begin with ws://, wss://, http:// or https://$"),
        (lambda: RuntimeUseClient("ftp://TOPSECRET@host"), "must begin with ws://, wss://, http:// or https://$"),
    ],
)
def test_a_misplaced_secret_is_not_quoted(make: Callable[[], Any], shown: str) -> None:
    with pytest.raises(ValueError, match=shown) as caught:
        make()
    assert "topsecret" not in str(caught.value).lower()


class Telling(MemoryTransport):
    """A transport whose exceptions contain the message that it should have sent."""

    def __init__(self, show: Callable[[Any], str]) -> None:
        super().__init__()
        self._show = show

    def connect(self) -> Telling:
        return self

    def send(self, message: Any) -> None:
        raise ValueError(f"cannot send {self._show(message)}")


@pytest.mark.parametrize("show", [str, json.dumps, lambda message: message["agent_env"]["KEY"]])
def test_a_transports_exception_with_a_secret_is_not_the_cause(show: Callable[[Any], str]) -> None:
    with pytest.raises(ConnectionLostError, match="ValueError: cannot send") as caught:
        RuntimeUseClient(transport=Telling(show), model="m").query("p", agent_env={"KEY": SECRET}, timeout=PATIENCE)
    assert "TOPSECRET" not in all_of(caught.value)
    assert caught.value.__cause__ is None
    # Another transport: this one is closed, and the next call may notice that first.
    with pytest.raises(ConnectionLostError) as caught:
        RuntimeUseClient(transport=Telling(show), model="m").query("p", agent_env={"KEY": "abc"}, timeout=PATIENCE)
    assert isinstance(caught.value.__cause__, ValueError)


def cause_of(error: Optional[BaseException]) -> Optional[BaseException]:
    """Returns the `__cause__` of the public error for a connection that ended with this exception."""
    public = connection_error(ConnectionClosed("lost", Ending.LOST, cause=error), "ws://h", "query", [SECRET])
    assert "TOPSECRET" not in all_of(public)
    return public.__cause__


def test_chained_exceptions_count() -> None:
    harmless = ValueError("harmless")
    harmless.__cause__ = KeyError("harmless, too")
    harmless.__cause__.__context__ = harmless
    assert cause_of(harmless) is harmless
    for name in ("__cause__", "__context__"):
        error = ValueError("harmless")
        setattr(error, name, KeyError(SECRET))
        assert cause_of(error) is None
    noted = ValueError("harmless")
    noted.__dict__["__notes__"] = [f"while sending {SECRET}"]
    assert cause_of(noted) is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups of exceptions before 3.11")
def test_exceptions_in_a_group_count() -> None:
    group: Any = ExceptionGroup  # noqa: F821  # not before 3.11
    assert cause_of(group("some", [ValueError("harmless"), KeyError(SECRET)])) is None


def test_an_exception_without_text_is_not_the_cause() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise LookupError(SECRET)

    assert cause_of(Unspeakable()) is None


@pytest.mark.parametrize("exceptions", [None, ["a text"], {"a": 1}, len, [OSError(SECRET)]])
def test_a_cause_with_exceptions_of_any_kind(exceptions: Any) -> None:
    cause = OSError("broken")
    cause.exceptions = exceptions  # type: ignore[attr-defined]  # as an exception group has them, and others may
    error = connection_error(ConnectionClosed("it broke", Ending.LOST, cause=cause), "ws://host", "query", [SECRET])
    assert isinstance(error, ConnectionLostError)
    assert SECRET not in all_of(error)
