"""Secrets in a text that comes in pieces."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimeuse_sync._wire.redaction import MASK, mask_secrets
from runtimeuse_sync._wire.stream_redaction import StreamRedactor


def shown(pieces: List[str], *secrets: str) -> List[str]:
    masking = StreamRedactor(secrets)
    parts = [masking.feed(piece) for piece in pieces]
    return [*parts, masking.flush()]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a hunter2 b"], [f"a {MASK} b", ""]),
        (["a hun", "ter2 b"], ["a ", f"{MASK} b", ""]),
        (list("hunter2"), ["", "", "", "", "", "", MASK, ""]),
        (["a hun", "gry"], ["a ", "hungry", ""]),
        (["the hun"], ["the ", "hun"]),
        (["huhunter2"], [f"hu{MASK}", ""]),
    ],
)
def test_a_secret_is_masked_wherever_it_is_cut(pieces: List[str], expected: List[str]) -> None:
    assert shown(pieces, "hunter2") == expected


def test_without_secrets_nothing_is_held_back() -> None:
    assert shown(["a", "b"]) == shown(["a", "b"], "") == ["a", "b", ""]


@given(st.lists(st.text("abc", max_size=5), max_size=8), st.sets(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_no_secret_is_shown_and_nothing_is_lost(pieces: List[str], secrets: List[str]) -> None:
    text = "".join(pieces)
    joined = "".join(shown(pieces, *secrets))
    assert not any(secret in part for secret in secrets for part in joined.split(MASK))
    if not any(secret in text for secret in secrets):
        assert joined == text
    whole, _ = mask_secrets(text, secrets)
    assert [part for part in joined.split(MASK) if part] == [part for part in whole.split(MASK) if part]
