"""The wire falls silent at each message boundary: for ever, or for longer than somebody is willing to wait."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple, Union

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ConnectionLostError,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
)

from ..support.builders import Stopwatch
from ..support.servers import PATIENCE
from ..support.tally import Tally, seeded, tries
from .conversation import Bench
from .proxy import DOWN, UP, Fault, Passage
from .recording import boundaries, head_size

#: How long what is to notice the silence waits, in seconds.
SOON = 0.5

#: How silence is noticed: the client's settings, the calls' options, and whether the error is the right one.
NOTICED: Dict[str, Tuple[Dict[str, Any], Dict[str, Any], Callable[[Any], bool]]] = {
    "timeout": ({}, {"timeout": SOON}, lambda error: type(error) is RunTimeoutError),
    "keepalive": (
        {"ping_interval": SOON / 2, "ping_timeout": SOON / 2},
        {},
        lambda error: type(error) is ConnectionLostError and "ping" in str(error),
    ),
    "idle_timeout": (
        {},
        {"idle_timeout": SOON},
        lambda error: type(error) is AgentRuntimeError and (error.metadata or {})["timeout_type"] == "idle_timeout",
    ),
}


def silence(*directions: str) -> Callable[[Passage], None]:
    return lambda passage: passage.stall(*directions)


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("notices", NOTICED)
@pytest.mark.timeout(300)
def test_for_ever(bench: Bench, tally: Tally, direction: str, notices: str) -> None:
    """In both directions at once, as behind a NAT that has forgotten the connection, and in one alone."""
    fault = f"wire: silent for ever, noticed by {notices}"
    settings, options, is_right = NOTICED[notices]
    whole = bytes(bench.record().forwarded[direction])
    places = [(at, silent) for at in boundaries(whole) for silent in ([UP, DOWN], [direction])]
    for at, silent in seeded(fault + direction).sample(places, tries(1, len(places))):
        tally.tried(fault)
        bench.proxy.harm(Fault(direction, at, silence(*silent)))
        watch = Stopwatch()
        conversation = bench.converse({"connect_timeout": SOON, **settings}, end=SOON, **options)
        assert watch.seconds < PATIENCE - 2
        arrived = bytes(bench.proxy.passage().forwarded[DOWN])
        error = conversation.error
        # On a machine that is busy enough, patience may be over before the silence has even begun.
        conversation.check(arrived, left_early=True)
        if error is None:
            # It was in what comes after the end of the session.
            assert at >= boundaries(whole)[-2]
        elif not head_size(arrived):
            assert type(error) is RuntimeConnectionError
            assert f"within {SOON:g} s" in str(error)
        elif "command_execution_result_message" in conversation.results:
            # In the end of the session, which has a limit of its own.
            assert type(error) is RunTimeoutError or is_right(error), error
        else:
            assert is_right(error), (at, silent, error)
        bench.check_next()
        tally.survived(fault)


LATE = {name: (options, is_right) for name, (settings, options, is_right) in NOTICED.items() if not settings}


@pytest.mark.parametrize("deadline", LATE)
@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.timeout(300)
def test_each_message_later_than_each_deadline(bench: Bench, tally: Tally, direction: str, deadline: str) -> None:
    """What then still comes for the call that was given up is never taken for the next one's."""
    options, is_right = LATE[deadline]
    fault = f"wire: a message later than {deadline}"

    def talk(patience: Dict[str, Any], prompts: List[str]) -> List[Union[str, RuntimeUseError]]:
        came: List[Union[str, RuntimeUseError]] = []
        with RuntimeUseClient(bench.proxy.url, model="m").session(end_session_timeout=PATIENCE) as session:
            for prompt in prompts:
                try:
                    came.append(session.query(prompt, **(patience if not came else {"timeout": PATIENCE})).text)
                except RuntimeUseError as error:
                    came.append(error)
                if patience and len(came) == 1:
                    # It may have got its result just before the silence begins, which nobody would then let go of.
                    assert bench.proxy.passages[0].harmed.wait(PATIENCE)
                bench.proxy.passages[0].let_go()
        return came

    whole = bytes(bench.record(lambda: talk({}, ["first"])).forwarded[direction])
    # Of the first call alone: not the handshake, nor the end of the session.
    places = boundaries(whole)[1:-2]
    for at in seeded(fault + direction).sample(places, tries(1, len(places))):
        tally.tried(fault)
        bench.proxy.harm(Fault(direction, at, silence(direction)))
        first, second, third = talk(options, ["first", "second", "third"])
        assert first == "re: first" or is_right(first), (at, first)
        assert (second, third) == ("re: second", "re: third"), (at, second, third)
        bench.check_next()
        tally.survived(fault)
