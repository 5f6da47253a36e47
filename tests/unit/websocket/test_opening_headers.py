"""Headers that HTTP cannot carry are refused before anything is tried."""

from __future__ import annotations

import pytest

from runtimeuse_sync import RuntimeUseClient

SECRET = "hunter2"


def make(name: str, value: str) -> RuntimeUseClient:
    return RuntimeUseClient("ws://host.test", headers={name: value})


@pytest.mark.parametrize(
    "name", ["é", "X-Größe", "X Y", "X:", "X\r\nY", "X\x01", "X\x7f", "(X)", "X@", '"X"', "", "\ud800"]
)
def test_a_name_is_a_token(name: str) -> None:
    with pytest.raises(ValueError, match="not a valid name for an HTTP header") as caught:
        make(name, SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("character", ["\x00", "\x01", "\x0b", "\x1b", "\x1f", "\x7f", "\r", "\n", "\r\nX: "])
def test_a_value_holds_no_control_character(character: str) -> None:
    with pytest.raises(ValueError, match=r"headers\['X-Key'\] contains a control character") as caught:
        make("X-Key", f"{SECRET}{character}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["X-Key", "x_key", "X.Key", "!#$%&'*+-.^_`|~09azAZ"])
@pytest.mark.parametrize("value", ["", " ", "a b", "a\tb", "größe", "日本", '"a"; b=(c)'])
def test_all_others_are_taken(name: str, value: str) -> None:
    make(name, value)
