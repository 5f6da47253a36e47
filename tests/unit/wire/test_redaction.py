"""Masking secrets in text and in JSON values."""

from __future__ import annotations

import json
from typing import Any, List

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync._wire.codec import MalformedMessage, parse
from runtimeuse_sync._wire.redaction import MASK, env_secrets, header_secrets, scrub, scrub_value

SECRET = "hunter2-hunter2"


def test_scrub() -> None:
    assert scrub("a secret, two secrets", ["secret"]) == f"a {MASK}, two {MASK}s"
    assert scrub("nothing", ["secret", ""]) == "nothing"
    assert scrub("", ["x"]) == ""


@pytest.mark.parametrize("colour", ["\x1b[01;31m\x1b[K", "\x1b[m", "\x1b]8;;\x07"])
def test_a_secret_interrupted_by_colours(colour: str) -> None:
    """As `grep --color` prints its matches. A viewer may strip the colours."""
    coloured = f"{colour}see {SECRET[:4]}{colour}{SECRET[4:]}"
    assert scrub(coloured, [SECRET]) == f"see {MASK}"
    assert scrub(f"{colour}see {SECRET}", [SECRET]) == f"{colour}see {MASK}"
    assert scrub(f"{colour}see", [SECRET]) == f"{colour}see"


def test_overlapping_secrets_are_masked_as_one() -> None:
    assert scrub("password123", ["password", "password123", "123"]) == MASK


@hypothesis.given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.lists(st.text(st.characters(min_codepoint=97, max_codepoint=101), min_size=1, max_size=4), max_size=3),
)
def test_no_secret_is_left(text: str, secrets: List[str]) -> None:
    masked = scrub(text, secrets)
    for secret in secrets:
        assert secret not in masked.replace(MASK, "\n")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(f"has {SECRET} in it"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", SECRET]), inner, max_size=2),
    max_leaves=8,
)


@hypothesis.given(_JSON)
def test_json_values_are_masked_everywhere(value: Any) -> None:
    before = json.dumps(value)
    masked = scrub_value(value, iter([SECRET]))
    assert SECRET not in json.dumps(masked)
    assert json.dumps(value) == before, "the value itself was changed"
    assert json.dumps(scrub_value(value, [])) == before


@pytest.mark.parametrize("depth", [100, 400, 900, 5000, 50_000])
def test_deeply_nested_values_are_masked(depth: int) -> None:
    # Masking must not fail for a value that the codec accepts: the call would raise a RecursionError.
    nested = '{"a":' * depth + json.dumps(SECRET) + "}" * depth
    try:
        value = parse('{"message_type": "error_message", "error": "e", "metadata": ' + nested + "}")["metadata"]
    except MalformedMessage:
        assert depth > 400
        return
    masked: Any = None
    try:
        masked = scrub_value(value, [SECRET])
    except RecursionError:
        pass  # Reported below: pytest cannot format this traceback, whose values are nested too deeply.
    assert masked is not None, "RecursionError"
    for _ in range(depth):
        masked = masked["a"]
    assert masked == MASK


def test_short_environment_values_are_words() -> None:
    assert env_secrets({"A": "1", "B": "dev", "C": SECRET}, None, {}, {"D": "prod"}) == [SECRET, "prod"]


def test_short_headers_are_words() -> None:
    headers = {"X-Retry": "7", "Authorization": "Bearer abcd", "Cookie": "a=1; sid=secret"}
    assert scrub("HTTP 407 Proxy", header_secrets(headers)) == "HTTP 407 Proxy"
    assert scrub("abcd secret", header_secrets(headers)) == f"{MASK} {MASK}"
