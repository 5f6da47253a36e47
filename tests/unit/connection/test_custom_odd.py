"""Custom transports that receive something else than dicts, or take their queue by its name only."""

from __future__ import annotations

import functools
import json
import queue
from typing import Any, Callable, Dict, Iterator, Optional

import pytest

from runtimeuse_sync import ProtocolError, RuntimeUseClient

from ...support.servers import PATIENCE
from ...support.transports import RESULT, answering, make_client

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


def by_name(*, send_queue: queue.Queue[Any]) -> Iterator[Any]:
    send_queue.get()
    yield RESULT


def by_any_name(**arguments: Any) -> Iterator[Any]:
    return by_name(**arguments)


class CallableByName:
    def __call__(self, *, send_queue: queue.Queue[Any], model: str = "") -> Iterator[Any]:
        return by_name(send_queue=send_queue)


def two_names(host: str, *, send_queue: queue.Queue[Any]) -> Iterator[Any]:
    assert host == "here"
    return by_name(send_queue=send_queue)


def by_position(messages: queue.Queue[Any], /) -> Iterator[Any]:
    return by_name(send_queue=messages)


def by_either(send_queue: queue.Queue[Any], timeout: float = 1.0) -> Iterator[Any]:
    return by_name(send_queue=send_queue)


def second_by_name(url: str = "ws://host", send_queue: Optional[queue.Queue[Any]] = None) -> Iterator[Any]:
    assert url == "ws://host"
    assert send_queue is not None
    return by_name(send_queue=send_queue)


@functools.wraps(by_name)
def decorated(*arguments: Any) -> Iterator[Any]:
    return by_position(*arguments)


@functools.wraps(two_names)
def with_one_more(*arguments: Any) -> Iterator[Any]:
    return two_names("here", send_queue=arguments[0])


class WithoutSignature:
    __signature__ = "none"

    def __call__(self, *arguments: Any) -> Iterator[Any]:
        return by_position(*arguments)


@pytest.mark.parametrize(
    "transport",
    [
        by_name,
        by_any_name,
        CallableByName(),
        functools.partial(two_names, "here"),
        by_position,
        by_either,
        second_by_name,
        decorated,
        with_one_more,
        WithoutSignature(),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_the_queue_may_be_taken_by_its_name(transport: Callable[..., Any]) -> None:
    assert make_client(transport).query("p", timeout=PATIENCE).text == "4"


def test_a_type_error_of_the_transport_itself_is_the_cause() -> None:
    def broken(send_queue: Any) -> Iterator[Dict[str, Any]]:
        raise TypeError("it is broken")

    with pytest.raises(ConnectionError, match="it is broken"):
        RuntimeUseClient(transport=broken, model="m").query("p", timeout=PATIENCE)
