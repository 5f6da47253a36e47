from __future__ import annotations

import io
import logging
import tracemalloc
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimeuse_sync._wire.stream_redaction import StreamRedactor
from runtimeuse_sync.runtime import Invocation, Sender
from runtimeuse_sync.runtime.masking import _PIECE, RedactingLogger, Redactor

from .conftest import Connect
from .wire import Wire, output

MASK = "[REDACTED]"


def in_pieces(secrets: List[str], pieces: List[str]) -> str:
    stream = StreamRedactor(secrets)
    return "".join([stream.feed(piece) for piece in pieces]) + stream.flush()


@pytest.mark.parametrize(
    ("secrets", "text", "masked"),
    [
        ([], "nothing", "nothing"),
        ([""], "nothing", "nothing"),
        (["key"], "a key, a key", f"a {MASK}, a {MASK}"),
        (["key", "keyring"], "keyring", MASK),
        (["abc", "cde"], "xabcdex", f"x{MASK}x"),
        (["ab"], "abab", MASK + MASK),
        (["RED"], "RED", MASK),
        (["line 1\nline 2"], "line 1\nline 2\n", MASK + "\n"),
    ],
)
def test_every_secret_is_masked(secrets: List[str], text: str, masked: str) -> None:
    assert Redactor(secrets).text(text) == masked


@given(
    secrets=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    pieces=st.lists(st.text("abc", max_size=6), max_size=8),
)
def test_a_text_in_pieces_is_masked_as_a_whole_one(secrets: List[str], pieces: List[str]) -> None:
    whole = Redactor(secrets).text("".join(pieces))
    assert in_pieces(secrets, pieces) == whole
    assert not any(secret in whole.replace(MASK, "\0") for secret in secrets)


def test_only_what_may_become_a_secret_is_held_back() -> None:
    stream = StreamRedactor(["SECRETVALUE"])
    assert stream.feed("go SECRET") == "go "
    assert stream.feed("ARY\nSECRET") == "SECRETARY\n"
    assert stream.feed("VALUE!") == MASK + "!"
    assert stream.feed("S") == ""
    assert stream.flush() == "S"


def test_a_run_of_overlapping_secrets_is_not_kept_in_memory() -> None:
    stream = StreamRedactor(["aa"])
    assert "".join(stream.feed("a" * 1000) for _ in range(20)) == MASK
    assert len(stream._held) < 2
    assert stream.flush() == ""


def test_a_long_text_with_a_short_secret_takes_no_more_memory_than_it_must() -> None:
    text = "x" * 300_000
    tracemalloc.start()
    try:
        assert Redactor(["x"]).text(text + "y") == MASK * len(text) + "y"
        assert tracemalloc.get_traced_memory()[1] < 100 * len(text)
    finally:
        tracemalloc.stop()


def test_a_secret_at_the_edge_of_a_piece_is_masked() -> None:
    for before in (_PIECE - 3, _PIECE, _PIECE - 6):
        assert Redactor(["secret"]).text("x" * before + "secret" + "y") == "x" * before + MASK + "y"


def test_messages_keep_the_protocols_own_words() -> None:
    message = {
        "message_type": "result_message",
        "data": {"type": "structured_output", "structured_output": {"type": "text", "text": ["text", {"text!": 1}]}},
        "metadata": {"stack": "the text", "n": 1, "none": None},
    }
    assert Redactor(["text", "result", "stack"]).message(message) == {
        "message_type": "result_message",
        "data": {"type": "structured_output", "structured_output": {"type": MASK, MASK: [MASK, {f"{MASK}!": 1}]}},
        "metadata": {"stack": f"the {MASK}", "n": 1, "none": None},
    }


def test_logs_are_masked_with_arguments_and_tracebacks() -> None:
    stream = io.StringIO()
    logger = logging.Logger("test")  # noqa: LOG001 (of its own, so that nobody else hears it)
    logger.addHandler(logging.StreamHandler(stream))
    log = RedactingLogger(logger, Redactor(["hunter2"]))
    log.info("password %s", "hunter2")
    try:
        raise ValueError("wrong: hunter2")
    except ValueError as error:
        log.error("failed", exc_info=error)
        log.exception("failed again")
    written = stream.getvalue()
    assert "hunter2" not in written
    assert written.count(f"ValueError: wrong: {MASK}") == 2
    assert f"password {MASK}" in written


def test_a_secret_split_over_two_chunks_of_output_does_not_leak(wire: Wire) -> None:
    command = "echo SECRETVALUE; sleep 0.1; printf SECRET; sleep 0.1; printf 'VALUE\\n'; printf SECRET"
    messages = wire.commands(command, secrets_to_redact=["SECRETVALUE"])
    assert output(messages) == f"{MASK}\n{MASK}\nSECRET"
    shown = command.replace("SECRETVALUE", MASK)
    assert {message["command"] for message in messages[:-1]} == {shown}
    assert messages[-1]["results"] == [{"command": shown, "exit_code": 0, "stdout": f"{MASK}\n{MASK}\nSECRET"}]


def test_results_errors_and_assistant_messages_are_masked(talk: Connect) -> None:
    def agent(invocation: Invocation, sender: Sender) -> str:
        sender.send_assistant_message(["my SECRET", "none"])
        sender.send_error_message("SECRET!", {"k": ["SECRET"]})
        raise ValueError("SECRET " + "x" * 3990 + " SECRET")

    wire = talk(agent)
    wire.send_query(secrets_to_redact=["SECRET"])
    assert wire.receive()["text_blocks"] == [f"my {MASK}", "none"]
    assert wire.receive() == {"message_type": "error_message", "error": f"{MASK}!", "metadata": {"k": [MASK]}}
    terminal = wire.receive()
    assert terminal["error"] == f"{MASK} {'x' * 3990} {MASK}"
    # Cut after it was masked: no part of a secret is left at the cut.
    assert "SECRET" not in str(terminal)
    assert len(terminal["metadata"]["stack"]) <= 4000


def test_secrets_are_those_of_the_request_at_hand(wire: Wire) -> None:
    assert output(wire.commands("echo one two", secrets_to_redact=["one"])) == f"{MASK} two\n"
    assert output(wire.commands("echo one two", secrets_to_redact=["two"])) == f"one {MASK}\n"


@pytest.mark.parametrize(
    ("secret", "value", "masked"),
    [
        ("12345", 12345, MASK),
        ("12345", 912345.5, MASK),
        ("12345", 1234, 1234),
        ("12345", -12345, MASK),
        ("0012345", 12345, MASK),
        ("1.50", 1.5, MASK),
        ("5", [15, {"n": 4}], [MASK, {"n": 4}]),
        ("12345", {12345: 1, 1.5: 2, True: 3, None: 4}, {MASK: 1, 1.5: 2, True: 3, None: 4}),
        ("true", {"a": True, "b": None, "c": False}, {"a": True, "b": None, "c": False}),
        ("null", [None, True], [None, True]),
        ("1", [True, False, None], [True, False, None]),
    ],
)
def test_numbers_are_masked_where_agents_choose_them(secret: str, value: Any, masked: Any) -> None:
    redactor = Redactor([secret])
    data = {"message_type": "result_message", "data": {"structured_output": {"x": value}}, "metadata": {"x": value}}
    assert redactor.message(data) == {
        "message_type": "result_message",
        "data": {"structured_output": {"x": masked}},
        "metadata": {"x": masked},
    }


def test_the_protocols_own_numbers_stay(talk: Connect) -> None:
    message = {"message_type": "heartbeat_message", "phase": "p", "elapsed_ms": 12345}
    assert Redactor(["12345"]).message(message) == message
    assert talk().commands("exit 3", secrets_to_redact=["3"])[-1]["results"][0]["exit_code"] == 3


def test_a_number_that_is_a_secret_does_not_leave(talk: Connect) -> None:
    def agent(invocation: Invocation, sender: Sender) -> Any:
        sender.send_error_message("e", {"pin": 86420})
        return {"pin": 86420, 86420: "pin"}, {"pins": [86420.0]}

    wire = talk(agent)
    wire.send_query("x", secrets_to_redact=["86420"])
    messages = wire.receive_until("result_message")
    assert "86420" not in str(messages)
    assert messages[-1]["data"]["structured_output"]["pin"] == MASK
