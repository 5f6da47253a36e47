"""Cleaning up in spite of an interrupt at any step."""

from __future__ import annotations

from typing import List

import pytest

from runtimeuse_sync._interrupts import cleaned_up, surely, undone_on_failure

from ..support.doubles import Interrupt, at_every_step, interrupt


@pytest.mark.parametrize("fails", [False, True])
def test_cleaned_up_interrupted_at_any_step(fails: bool) -> None:
    done: List[str] = []

    def body() -> str:
        done.append("body")
        if fails:
            raise LookupError
        return "result"

    def call() -> None:
        assert cleaned_up(body, lambda: done.append("clean")) == "result"

    for run in at_every_step(cleaned_up, interrupt):
        done.clear()
        try:
            run(call)
        except (Interrupt, LookupError):
            pass
        assert "body" not in done or done[-1] == "clean"


def test_a_clean_up_interrupted_at_any_step_is_repeated() -> None:
    done: List[str] = []

    def clean_up() -> None:
        done.append("first")
        done.append("last")

    for run in at_every_step(clean_up, interrupt):
        done.clear()
        try:
            run(lambda: surely(clean_up))
        except Interrupt:
            pass
        assert done[-2:] == ["first", "last"]


@pytest.mark.parametrize("once", ["body", "clean up"])
def test_two_interrupts_in_a_row(once: str) -> None:
    """The first in the body, or in what cleans up after it; the second at any step after that."""
    interrupted: List[str] = []
    cleaned: List[bool] = []

    def may_be_interrupted(where: str) -> None:
        if where == once and not interrupted:
            interrupted.append(where)
            raise Interrupt

    def clean_up() -> None:
        may_be_interrupted("clean up")
        cleaned.append(True)

    for run in at_every_step(cleaned_up, interrupt):
        interrupted.clear()
        cleaned.clear()
        with pytest.raises(Interrupt):
            run(lambda: cleaned_up(lambda: may_be_interrupted("body"), clean_up))
        assert cleaned or not interrupted


def test_undone_on_failure_interrupted_at_any_step() -> None:
    done: List[str] = []

    def body() -> None:
        done.append("body")
        raise LookupError

    for run in at_every_step(undone_on_failure, interrupt):
        done.clear()
        with pytest.raises((Interrupt, LookupError)):
            run(lambda: undone_on_failure(body, lambda: done.append("undo")))
        assert not done or done[-1] == "undo"
    done.clear()
    assert undone_on_failure(lambda: "result", lambda: done.append("undo")) == "result"
    assert not done


def test_what_goes_wrong_is_raised() -> None:
    def fail() -> None:
        raise LookupError("clean up")

    with pytest.raises(LookupError, match="clean up"):
        surely(fail)
    with pytest.raises(LookupError, match="clean up"):
        cleaned_up(lambda: 1, fail)
    with pytest.raises(ValueError, match="invalid literal"):
        cleaned_up(lambda: int("x"), lambda: None)
