"""What is sent is JSON that says what was printed, whichever way it was encoded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimeuse_sync._wire.json_text import encode_string
from runtimeuse_sync.runtime.outbox import encode

from .conftest import Connect
from .wire import Wire, output

AWKWARD = st.text(st.sampled_from('\\"\n\r\t\b\f\v\0\x1b\x1f\x7f\u2028aé€😀\ud800'), max_size=12)


@given(text=AWKWARD, times=st.integers(1, 3000))
def test_a_string_of_any_length_comes_back(text: str, times: int) -> None:
    whole = text * times
    assert json.loads(encode_string(whole)) == whole
    assert json.loads(encode({"text": whole})) == {"text": whole}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 5000,
        '\\"\n\r\té' * 1000,
        "é" * 1023,
        "\x1b[31mred\x1b[0m\b" * 1000,
        # So many kinds of control characters, and so long, that it goes another way; no piece begins with a whole one.
        "€" + "".join(map(chr, range(0x20))) * 9000 + "é" * 200_000,
    ],
    ids=len,
)
def test_nothing_is_escaped_that_need_not_be(text: str) -> None:
    assert encode_string(text) == json.dumps(text, ensure_ascii=False).encode()


def test_output_in_tiny_and_in_large_pieces(wire: Wire) -> None:
    script = (
        'for i in 1 2 3; do printf "$i"; sleep 0.02; done; yes \'a "b" \\ é\' | head -c 300000; '
        "printf '\\0\\001'; sleep 0.02; printf '\\t.'"
    )
    messages = wire.commands(script)
    printed = "123" + ('a "b" \\ é\n' * 30_000).encode()[:300_000].decode(errors="replace") + "\0\1\t."
    assert output(messages) == messages[-1]["results"][0]["stdout"] == printed


@pytest.mark.parametrize("size", [1, 70, 125, 126, 1000, 65_535, 65_536, 300_000])
def test_messages_of_any_size_arrive_whole(talk: Connect, size: int) -> None:
    wire = talk("echo")
    empty = len(encode(wire.query("")[0]))
    # So that it is the message that has the size, where it can be that small.
    prompt = "x" * max(0, size - empty)
    assert wire.query(prompt)[0]["data"]["text"] == prompt
    # Several in one round, after each other and in order.
    messages = wire.commands(*[f"head -c {size} /dev/zero | tr '\\0' {letter}" for letter in "abc"])
    assert output(messages) == "".join(letter * size for letter in "abc")
    wire.assert_idle()
