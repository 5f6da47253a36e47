"""Telling what a signal handler has raised."""

from __future__ import annotations

import functools
import signal
from typing import Any, Callable

import pytest

from runtimeuse_sync._interrupts import raised_by_a_signal_handler


def interrupt(*_: object) -> None:
    raise LookupError("by a signal handler")


def raised_by(function: Callable[..., Any]) -> BaseException:
    with pytest.raises(LookupError) as caught:
        function()
    return caught.value


@pytest.mark.parametrize("wrap", [lambda handler: handler, functools.partial])
def test_a_signal_handlers(wrap: Callable[..., Any]) -> None:
    before = signal.signal(signal.SIGUSR1, wrap(interrupt))
    try:
        assert raised_by_a_signal_handler(raised_by(interrupt))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not raised_by_a_signal_handler(raised_by(interrupt))


def test_a_handler_that_has_a_func_is_no_partial() -> None:
    """A `mock.Mock` has one, and that has another, without end."""

    class Handler:
        def __call__(self, *_: object) -> None: ...

        @property
        def func(self) -> None:
            raise AssertionError("not a partial")

    before = signal.signal(signal.SIGUSR1, Handler())
    try:
        assert not raised_by_a_signal_handler(raised_by(interrupt))
    finally:
        signal.signal(signal.SIGUSR1, before)
