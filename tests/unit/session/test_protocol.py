"""The state machine of requests on one connection: its table, and what each message means (no mixed answers)."""

from __future__ import annotations

import re
from typing import Dict, List, Tuple

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync._session import protocol
from runtimeuse_sync._session.protocol import Event, Protocol, State
from runtimeuse_sync._wire.codec import encode_barrier
from runtimeuse_sync._wire.fixed_texts import BUSY_ERROR
from runtimeuse_sync.runtime.masking import Redactor

_DELIVERED = {"!": True, "": False}


def _table() -> Dict[Tuple[State, Event], Tuple[State, bool]]:
    """Reads the table in the module's docstring."""
    lines = (protocol.__doc__ or "").splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:2] == ["STREAM", "ARTIFACT"])
    columns = [(match.start(), Event[match.group()]) for match in re.finditer(r"\w+", lines[start])]
    cells = {}
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        before = State[line.split()[0]]
        for (begin, event), end in zip(columns, [begin for begin, _ in columns[1:]] + [None]):
            after, _, mark = line[begin:end].strip().partition(" ")
            cells[before, event] = (State[after], _DELIVERED[mark])
    return cells


_TABLE = _table()


def _in_state(state: State) -> Protocol:
    protocol = Protocol()
    protocol.state = state
    return protocol


def test_the_table_has_every_cell() -> None:
    assert set(_TABLE) == {(state, event) for state in State for event in Event}


@pytest.mark.parametrize("before", State)
def test_each_cell_of_the_table(before: State) -> None:
    for event in Event:
        protocol = _in_state(before)
        delivered = protocol.receive(event)
        assert (protocol.state, delivered) == _TABLE[before, event], event


def _documented(name: str) -> str:
    """Returns what the module's docstring says about a transition that is not in the table."""
    text = (protocol.__doc__ or "").split("Besides messages:")[1].split("\n\n")[0]
    found = re.search(rf"^ +{name} +((?:.*\n?)(?: {{10,}}.*\n?)*)", text, re.MULTILINE)
    assert found is not None, name
    return " ".join(found.group(1).split())


@pytest.mark.parametrize("state", State)
def test_begin_needs_a_free_connection(state: State) -> None:
    assert _documented("begin") == "FREE → ACTIVE"
    protocol = _in_state(state)
    if state is State.FREE:
        protocol.begin("result_message", [])
        assert protocol.state is State.ACTIVE
    else:
        with pytest.raises(AssertionError):
            protocol.begin("result_message", [])


@pytest.mark.parametrize("state", State)
def test_abandon(state: State) -> None:
    assert _documented("abandon").startswith("ACTIVE → ABANDONED, every other state stays")
    protocol = _in_state(state)
    protocol.abandon()
    assert protocol.state is (State.ABANDONED if state is State.ACTIVE else state)


@pytest.mark.parametrize("state", State)
def test_probe(state: State) -> None:
    assert _documented("probe").startswith("UNSURE, ABANDONED, REFUSED → PROBING;")
    protocol = _in_state(state)
    may = state in (State.UNSURE, State.ABANDONED, State.REFUSED)
    protocol.probe()
    assert protocol.state is (State.PROBING if may else state)


@pytest.mark.parametrize("state", State)
def test_end(state: State) -> None:
    protocol = _in_state(state)
    protocol.end()
    assert protocol.state is (State.ENDED if state is State.ENDED else State.ENDING)


@pytest.mark.parametrize("state", State)
def test_stale_says_whether_the_runtime_may_owe_something(state: State) -> None:
    free_of_debt = (State.FREE, State.ACTIVE, State.ENDING, State.ENDED)
    assert _in_state(state).stale is (state not in free_of_debt)


# What a message means.

_RESULTS = ("result_message", "command_execution_result_message")


@pytest.mark.parametrize("own", _RESULTS)
@pytest.mark.parametrize("came", _RESULTS)
@pytest.mark.parametrize("empty", [False, True])
def test_results_by_kind_and_state(own: str, came: str, empty: bool) -> None:
    for state in State:
        protocol = Protocol()
        protocol.begin(own, [])
        protocol.state = state
        barrier_asked = state in (State.PROBING, State.DOUBTFUL, State.REFUSED)
        # An empty command result only answers the barrier; so does any command result if the request was a query.
        if came == "command_execution_result_message" and (empty or own != came) and barrier_asked:
            wanted = Event.EMPTY
        else:
            wanted = Event.RESULT if own == came else Event.FOREIGN
        assert protocol.classify(came, empty=empty) is wanted, state


@pytest.mark.parametrize(
    ("message_type", "event"),
    [
        ("assistant_message", Event.STREAM),
        ("command_output_message", Event.STREAM),
        ("heartbeat_message", Event.STREAM),
        ("artifact_upload_request_message", Event.ARTIFACT),
        ("end_session_confirm_message", Event.CONFIRM),
    ],
)
def test_other_messages_mean_the_same_in_every_state(message_type: str, event: Event) -> None:
    for state in State:
        assert _in_state(state).classify(message_type) is event


def test_errors_are_refusals_only_by_the_busy_runtimes_words() -> None:
    protocol = Protocol()
    protocol.begin("result_message", ["hunter2"])
    assert protocol.classify("error_message", error=BUSY_ERROR) is Event.REFUSAL
    assert protocol.classify("error_message", error=BUSY_ERROR + " ") is Event.ERROR
    assert protocol.classify("error_message", error="Request cancelled") is Event.ERROR


def _by_the_reference(secrets: List[str]) -> str:
    text = BUSY_ERROR
    for secret in secrets:
        text = text.replace(secret, "[REDACTED]")
    return text


_PARTS_OF_THE_BUSY_TEXT = st.tuples(st.integers(0, len(BUSY_ERROR) - 1), st.integers(1, 12)).map(
    lambda part: BUSY_ERROR[part[0] : part[0] + part[1]]
)


@hypothesis.given(st.lists(_PARTS_OF_THE_BUSY_TEXT, max_size=3))
def test_refusals_are_known_however_the_reference_runtime_has_redacted_them(secrets: List[str]) -> None:
    protocol = Protocol()
    protocol.begin("result_message", secrets)
    assert protocol.classify("error_message", error=_by_the_reference(secrets)) is Event.REFUSAL


@hypothesis.given(st.lists(_PARTS_OF_THE_BUSY_TEXT, max_size=3))
@hypothesis.example(["Received request", "request while"])
@hypothesis.example(["request", "RED"])
def test_refusals_are_known_however_the_embedded_runtime_has_redacted_them(secrets: List[str]) -> None:
    protocol = Protocol()
    protocol.begin("result_message", secrets)
    assert protocol.classify("error_message", error=Redactor(secrets).text(BUSY_ERROR)) is Event.REFUSAL


def test_the_barrier_repeats_the_secrets_of_the_request_it_follows() -> None:
    protocol = Protocol()
    protocol.begin("result_message", ["one", "two"])
    assert encode_barrier(protocol.secrets) == {
        "message_type": "command_execution_message",
        "commands": [],
        "secrets_to_redact": ["one", "two"],
    }
