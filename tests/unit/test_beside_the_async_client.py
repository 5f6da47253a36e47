"""Both clients over the same scripted transport: where docs/migration.md says so, they differ, and nowhere else."""

from __future__ import annotations

import asyncio
import queue
from typing import Any, AsyncIterator, Dict, Iterator, List, Optional

import pytest

import runtimeuse_sync
from runtimeuse_sync import AgentRuntimeError, ConnectionLostError, ProtocolError

from ..support.doubles import Message
from ..support.servers import PATIENCE
from ..support.transports import RESULT, make_client

reference = pytest.importorskip("runtimeuse_client", reason="needs runtimeuse-client, Python 3.11 or later")

SCHEMA = '{"type": "object"}'


class Both:
    """Asks by both clients; each gets the same messages once its request has come.

    Attributes:
        theirs, ours: What the clients return or raise.
        sent_by_them, sent_by_us: Their requests.
    """

    def __init__(self, *messages: Message, **options: Any) -> None:
        self._messages = messages
        self.sent_by_them: Dict[str, Any] = {}
        self.sent_by_us: Dict[str, Any] = {}
        self.theirs = self._outcome(lambda: asyncio.run(asyncio.wait_for(self._ask_theirs(options), PATIENCE)))
        self.ours = self._outcome(lambda: make_client(self._transport).query("p", system_prompt="s", **options))

    @staticmethod
    def _outcome(ask: Any) -> Any:
        try:
            return ask()
        except Exception as error:
            return error

    async def _ask_theirs(self, options: Dict[str, Any]) -> Any:
        wanted = reference.QueryOptions(system_prompt="s", model="m", **options)
        return await reference.RuntimeUseClient(transport=self._their_transport).query(prompt="p", options=wanted)

    async def _their_transport(self, send_queue: Any) -> AsyncIterator[Message]:
        self.sent_by_them = await send_queue.get()
        for message in self._messages:
            yield message

    def _transport(self, send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
        self.sent_by_us = send_queue.get(timeout=PATIENCE) or {}
        yield from self._messages


def without_unset(message: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in message.items() if value is not None}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output_format_json_schema_str": SCHEMA},
        {"agent_env": {"A": "b"}, "secrets_to_redact": ["s"], "source_id": "mine"},
    ],
    ids=["least", "a bare schema", "more"],
)
def test_requests_differ_by_unset_fields_only(options: Dict[str, Any]) -> None:
    both = Both(RESULT, **options)
    assert None in both.sent_by_them.values()
    assert both.sent_by_us == without_unset(both.sent_by_them)


@pytest.mark.parametrize(
    "before",
    [
        [],
        [{"message_type": "of_the_future"}],
        [{"message_type": "assistant_message", "text_blocks": ["x"]}],
        [{"message_type": "command_output_message", "stream": "stdout", "text": "x", "command": "c"}],
    ],
    ids=["nothing", "unknown", "assistant", "output"],
)
def test_the_same_result(before: List[Message]) -> None:
    both = Both(*before, RESULT)
    assert both.theirs.data.text == both.ours.text == "4"


def test_the_same_error_but_for_its_text() -> None:
    both = Both({"message_type": "error_message", "error": "e", "metadata": {"a": 1}})
    assert isinstance(both.ours, AgentRuntimeError)
    assert (both.ours.error, both.ours.metadata) == (both.theirs.error, both.theirs.metadata) == ("e", {"a": 1})
    assert '"a"' in str(both.theirs)
    assert '"a"' not in str(both.ours)


def test_a_missing_result() -> None:
    both = Both()
    assert str(both.theirs) == "No result message received"
    assert isinstance(both.ours, ConnectionLostError)
    assert both.ours.error == "the connection to method was lost (query): the runtime closed it"


def test_a_result_that_makes_no_sense() -> None:
    both = Both({"message_type": "result_message", "data": 5})
    assert not isinstance(both.theirs, reference.AgentRuntimeError)
    assert isinstance(both.ours, ProtocolError)


def test_one_shots_are_called_by_both() -> None:
    class Either:
        def connect(self) -> Any:
            raise AssertionError("it was to be called")

    class Theirs(Either):
        async def __call__(self, send_queue: Any) -> AsyncIterator[Message]:
            await send_queue.get()
            yield RESULT

    class Ours(Either):
        def __call__(self, send_queue: queue.Queue[Optional[Message]]) -> Iterator[Message]:
            send_queue.get(timeout=PATIENCE)
            yield RESULT

    options = reference.QueryOptions(system_prompt="s", model="m")
    asked = reference.RuntimeUseClient(transport=Theirs()).query(prompt="p", options=options)
    assert asyncio.run(asked).data.text == "4"
    assert runtimeuse_sync.RuntimeUseClient(transport=Ours(), model="m").query("p").text == "4"
