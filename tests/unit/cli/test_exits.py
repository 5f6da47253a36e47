"""Which exit code and which line an exception becomes."""

from __future__ import annotations

from typing import Any, Optional

import click
import pytest

from runtimeuse_sync import AgentRuntimeError, CancelledException, RuntimeConnectionError, RunTimeoutError
from runtimeuse_sync.cli._exits import Failed, exit_code_of_command, exit_of, one_line_of
from runtimeuse_sync.cli._screen import OutputClosed, OutputFailed


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (AgentRuntimeError("failed", {"error_details": "one\n\ntwo"}), 1, "failed: one; two"),
        (RuntimeConnectionError("gone"), 1, "gone"),
        (CancelledException("Query was cancelled"), 1, "Query was cancelled"),
        (RunTimeoutError("late"), 124, "late"),
        (KeyboardInterrupt(), 130, None),
        (click.Abort(), 130, None),
        (OutputClosed("stdout"), 141, None),
        (OutputFailed("the disk is full"), 1, "the disk is full"),
        (click.exceptions.Exit(7), 7, None),
        (click.UsageError("Bad thing."), 2, "Bad thing"),
        (click.ClickException("No file"), 2, "No file"),
        (Failed(9, "said"), 9, "said"),
        (OSError(28, "No space"), 1, "[Errno 28] No space"),
        (AgentRuntimeError(""), 1, "AgentRuntimeError"),
        (LookupError("a fault"), 1, "LookupError: a fault (--verbose shows where)"),
    ],
)
def test_an_exception(error: BaseException, code: int, line: Optional[str]) -> None:
    assert exit_of(error) == (code, line)


@pytest.mark.parametrize(("code", "shown"), [(0, 0), (3, 3), (255, 255), (-1, 255), (256, 1), (None, 1)])
def test_the_exit_code_of_a_command(code: Any, shown: int) -> None:
    assert exit_code_of_command(code) == shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("one", "one"),
        ("one:\n  two\n\nthree ", "one: two; three"),
        ("a\x1b[31mred", "a[31mred"),
        ("x" * 3000, "x" * 1999 + "…"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line_of(text) == line
