"""What the status line says."""

from __future__ import annotations

from typing import List

import pytest

from runtimeuse_sync import AssistantMessageInterface, CommandOutputMessageInterface, HeartbeatMessageInterface
from runtimeuse_sync.cli._status import Status, duration, one_line


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def said(status: Status) -> List[str]:
    return [text for text, _ in status.pieces()]


def test_time_heartbeat_and_what_goes_on() -> None:
    clock = Clock()
    status = Status("connecting", clock)
    assert said(status) == ["0s", "no heartbeat yet", "connecting"]
    clock.now += 15
    status.message(HeartbeatMessageInterface("heartbeat_message", "request_in_flight", 15000))
    clock.now += 2
    status.message(CommandOutputMessageInterface("command_output_message", "stdout", "x\n", "make\ttest"))
    assert said(status) == ["17s", "heartbeat 2s ago", "make test"]
    status.message(AssistantMessageInterface("assistant_message", ["first", "last"]))
    status.message(AssistantMessageInterface("assistant_message", []))
    status.note = "cancelling"
    assert said(status) == ["17s", "heartbeat 2s ago", "cancelling", "last"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.9, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3723, "1h02m")]
)
def test_a_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_text_that_would_break_the_line() -> None:
    assert one_line("a\n\x1b[2Kb \t c") == "a [2Kb c"
    assert len(one_line("x" * 10_000)) == 500
