"""The shell agent by itself, with output in pieces that no shell prints at will."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, List, Sequence, Tuple, cast

import pytest

from runtimeuse_sync.runtime import AsyncSender, Invocation
from runtimeuse_sync.runtime.agents.builtin import ShellAgent
from runtimeuse_sync.runtime.agents.cancellation import Cancelled
from runtimeuse_sync.runtime.commands.processes import ProcessRunner


class Printed:
    """Runs nothing; its processes print what it is given."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = pieces

    async def run(self, *arguments: Any) -> int:
        on_output: Callable[[str, str], Awaitable[None]] = arguments[-1]
        for piece in self._pieces:
            await on_output("stdout", piece)
        return 0


class Sent:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: List[str] = []

    async def send_assistant_message(self, blocks: Sequence[str]) -> None:
        self.lines += blocks


def shell(pieces: Sequence[str], secrets: Sequence[str] = ()) -> Tuple[List[str], str]:
    """Returns what the agent sends, and its result."""
    sent = Sent()
    invocation = Invocation("", "", "m", None, {}, secrets, Cancelled(), cast("Any", None), "/")
    agent = ShellAgent(cast("ProcessRunner", Printed(pieces)))
    return sent.lines, asyncio.run(agent.run(invocation, cast("AsyncSender", sent)))


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([], []),
        (["one\ntwo"], ["one", "two"]),
        (["o", "n", "e\n", "two\n"], ["one", "two"]),
        (["one", "\n", "\n", "two", ""], ["one", "", "two"]),
        (["a\nb", "c\nd", "e"], ["a", "bc", "de"]),
    ],
)
def test_each_line_is_one_message_however_it_comes(pieces: List[str], lines: List[str]) -> None:
    assert shell(pieces) == (lines, "".join(pieces))


def test_a_line_that_does_not_end_takes_no_more_than_its_length() -> None:
    """Were each piece a reason to look at all before it again, this would not end within a test's time."""
    pieces = ["x" * 1000] * 50_000
    assert shell(pieces) == (["x" * 50_000_000], "x" * 50_000_000)
