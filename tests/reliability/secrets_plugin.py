"""A pytest plugin that puts marked secrets into all that a test does, and fails a test that shows one.

`test_secrets_everywhere.py` loads it (`pytest -p tests.reliability.secrets_plugin`) to run this whole suite again.
Every client gets a marked header and URL, every request a marked environment. DEBUG logging is on, and every exception
that a method of a client, a session or a run raises is searched.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable, Iterator, List

import pytest

from runtimeuse_sync import CommandInterface, QueryOptions, RuntimeUseClient, RuntimeUseError, RuntimeUseSession
from runtimeuse_sync.run import Run
from runtimeuse_sync.transports.websocket import WebSocketTransport

from ..support.marked_secrets import FORBIDDEN, Watch, mark

_leaks: List[str] = []

_WAYS_OUT = {
    RuntimeUseClient: ("query", "execute_commands", "wait_until_ready"),
    RuntimeUseSession: ("open", "close", "query", "execute_commands", "__exit__"),
    Run: ("__enter__", "__exit__", "__next__"),
}


class _Collector(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _look(f"{record.name}: {record.getMessage()} {record.args!r} {record.exc_info!r}")


def _look(text: str) -> None:
    if any(form in text for form in FORBIDDEN):
        _leaks.append(text)


def _looked_at(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        try:
            return method(*arguments, **keywords)
        except RuntimeUseError as error:
            # What a callback raises, or a test's own doing, is not looked at: it may hold what it likes.
            watch = Watch()
            watch.raised(error)
            _leaks.extend(watch.leaks())
            raise

    return wrapper


def _mark_connections() -> None:
    holder: Any = WebSocketTransport
    make: Callable[..., None] = holder.__init__

    @functools.wraps(make)
    def marked(self: Any, ws_url: str, **settings: Any) -> None:
        if ws_url.lower().startswith("ws") and "#" not in ws_url:
            ws_url += f"{'&' if '?' in ws_url else '?'}marked={mark('token')}"
        headers = settings.pop("headers", None)
        if headers is None or isinstance(headers, dict):
            headers = {**(headers or {}), "X-Marked": mark("header")}
        make(self, ws_url, headers=headers, **settings)

    holder.__init__ = marked


def _mark_environment(holder: Any, name: str) -> None:
    make: Callable[..., None] = holder.__init__

    @functools.wraps(make)
    def marked(self: Any, *arguments: Any, **keywords: Any) -> None:
        make(self, *arguments, **keywords)
        if getattr(self, name) is None:
            setattr(self, name, {"MARKED": mark("environment")})

    holder.__init__ = marked


def pytest_configure() -> None:
    _mark_connections()
    _mark_environment(QueryOptions, "agent_env")
    _mark_environment(CommandInterface, "env")
    for holder, names in _WAYS_OUT.items():
        for name in names:
            setattr(holder, name, _looked_at(getattr(holder, name)))
    logging.getLogger().addHandler(_Collector(logging.DEBUG))
    logging.getLogger().setLevel(logging.DEBUG)


@pytest.fixture(autouse=True)
def no_mark_comes_out() -> Iterator[None]:
    yield
    leaks, _leaks[:] = list(_leaks), []
    assert not leaks, leaks
