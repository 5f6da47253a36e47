"""Custom transports that hand over something else than dicts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtimeuse_sync import ProtocolError

from .doubles import PATIENCE
from .test_blocking_connection import RESULT, answering, make_client

BYTES = json.dumps(RESULT).encode()


@pytest.mark.parametrize("message", [BYTES, bytearray(BYTES), memoryview(BYTES), b"\n " + BYTES, BYTES.decode()])
def test_json_texts_and_bytes_are_messages(message: Any) -> None:
    assert make_client(answering(message)).query("p", timeout=PATIENCE).text == "4"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ([RESULT], "list"),
        (RESULT.items(), "dict_items"),
        (5, "int"),
        (b"\xff" + BYTES, "bytes"),
        (BYTES.decode().encode("utf-16"), "bytes"),
        (b"[]", "bytes"),
        (b"", "bytes"),
    ],
    ids=repr,
)
def test_anything_else_ends_the_call(message: Any, kind: str) -> None:
    with pytest.raises(ProtocolError, match=f"of the type {kind}") as caught:
        make_client(answering(message)).query("p", timeout=PATIENCE)
    assert "text" not in str(caught.value).replace("JSON text", ""), "the payload is shown"
