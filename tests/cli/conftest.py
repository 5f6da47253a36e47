"""The command in this process, scripted servers, and embedded runtimes for it to talk to."""

from __future__ import annotations

import io
import sys
from typing import Any, Callable, NamedTuple

import pytest

from runtimeuse_sync.cli import main

from ..support.fixtures import no_proxy_settings, runtime, serve, start

__all__ = ["no_proxy_settings", "no_runtime_in_the_environment", "runtime", "serve", "start"]


class Outcome(NamedTuple):
    """How the command has ended, and what it has written."""

    code: int
    out: str
    err: str


#: Runs the command with arguments; `stdin` is what standard input has.
Command = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def no_runtime_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNTIMEUSE_WS_URL", "RUNTIMEUSE_MODEL", "_RUNTIMEUSE_SYNC_COMPLETE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: Any, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run
