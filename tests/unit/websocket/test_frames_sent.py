"""The frames that a client sends."""

from __future__ import annotations

import struct

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync._websocket.frames import close_frame, frame, ping_payload

from ...support.frames import ALLOWED_CODES, BINARY, CLOSE, PING, PONG, TEXT, unmasked


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG])
@pytest.mark.parametrize("length", [0, 1, 125])
def test_frames_that_are_sent(opcode: int, length: int) -> None:
    assert unmasked(frame(opcode, b"y" * length)) == [(opcode, b"y" * length)]


@pytest.mark.parametrize("length", [126, 127, 65535, 65536, 65537, 131072, 1_000_003])
def test_long_frames_that_are_sent(length: int) -> None:
    payload = bytes(index % 251 for index in range(length))
    assert unmasked(frame(TEXT, payload)) == [(TEXT, payload)]


def test_masks_differ() -> None:
    assert len({frame(TEXT, b"\0\0\0\0")[2:6] for _ in range(20)}) > 1


@hypothesis.given(st.sampled_from(sorted(ALLOWED_CODES)), st.text(st.characters(exclude_categories=["Cs"])))
@hypothesis.example(1000, "x" * 200)
@hypothesis.example(1000, "a" + "€" * 60)
def test_close_frames_that_are_sent(code: int, reason: str) -> None:
    [(opcode, payload)] = unmasked(close_frame(code, reason))
    assert opcode == CLOSE
    assert len(payload) <= 125
    assert struct.unpack_from("!H", payload) == (code,)
    # Cut, if at all, between characters.
    assert reason.startswith(payload[2:].decode())
    assert len(payload) > 115 or payload[2:].decode() == reason


def test_pings_differ() -> None:
    payloads = {ping_payload() for _ in range(50)}
    assert len(payloads) == 50
    assert all(len(payload) <= 125 for payload in payloads)
