"""Messages: what they offer besides their fields."""

from __future__ import annotations

import dataclasses
from typing import List

import pytest

from runtimeuse_sync import AssistantMessageInterface


@pytest.mark.parametrize(
    ("blocks", "text"), [([], ""), ([""], ""), (["a"], "a"), (["a", "b"], "a\nb"), (["a\n", "", "b"], "a\n\n\nb")]
)
def test_the_text_of_the_agents_blocks(blocks: List[str], text: str) -> None:
    message = AssistantMessageInterface("assistant_message", blocks)
    assert message.text == text


def test_the_text_is_no_field() -> None:
    message = AssistantMessageInterface("assistant_message", ["a", "b"])
    assert [field.name for field in dataclasses.fields(message)] == ["message_type", "text_blocks"]
    assert message.to_dict() == {"message_type": "assistant_message", "text_blocks": ["a", "b"]}
    assert AssistantMessageInterface.from_json(message.to_json()) == message
    assert repr(message) == "AssistantMessageInterface(message_type='assistant_message', text_blocks=['a', 'b'])"
    with pytest.raises(AttributeError):
        message.text = "c"  # type: ignore[misc]
