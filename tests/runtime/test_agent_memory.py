"""An agent that runs for hours and says very much costs no memory, neither the runtime's nor the client's."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any, List

import psutil
import pytest

from runtimeuse_sync import AgentRuntimeError, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime, RequestFailedError

from ..support.fake_claude import FakeClaude, ends
from ..support.packages import needs

MEBIBYTE = 1024 * 1024
MESSAGES = 10_000
#: All messages together are three times as much as memory may grow.
LENGTH = 6_000
LIMIT = 20 * MEBIBYTE

pytestmark = pytest.mark.skipif(sys.version_info < (3, 13), reason="many messages: on the newest interpreter only")


class Plain:
    def run(self, invocation: Any, sender: Any) -> str:
        for number in range(MESSAGES):
            sender.send_assistant_message(f"{number} ".ljust(LENGTH, "x"))
        if invocation.user_prompt == "fail":
            raise RequestFailedError("that was too much")
        return "done"


class Async:
    async def run(self, _: Any, sender: Any) -> str:
        for number in range(MESSAGES):
            await sender.send_assistant_message(f"{number} ".ljust(LENGTH, "x"))
        return "done"


class Memory:
    """The growth of this process, which has both the runtime and the client."""

    def __init__(self) -> None:
        gc.collect()
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self.seen = 0

    def see(self, _: object) -> None:
        self.seen += 1
        if self.seen % 500 == 0:
            self.check()

    def check(self) -> None:
        grown = self._process.memory_info().rss - self._before
        assert grown < LIMIT, f"after {self.seen} messages"


def warm(client: RuntimeUseClient) -> Memory:
    client.execute_commands("true")
    return Memory()


@pytest.mark.parametrize("keep", [0, MEBIBYTE])
def test_callbacks(keep: int) -> None:
    with LocalRuntime(Plain()) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m", max_buffered=MEBIBYTE, keep_output=keep)
        memory = warm(client)
        with client.session() as session:
            assert session.query("x", on_assistant_message=memory.see).text == "done"
            memory.check()
            with pytest.raises(AgentRuntimeError) as raised:
                session.query("fail", on_assistant_message=memory.see)
        memory.check()
        assert memory.seen == 2 * MESSAGES
        texts: List[str] = raised.value.assistant_texts
        assert len("".join(texts)) <= keep
        assert not keep or texts[-1] == f"{MESSAGES - 1} ".ljust(LENGTH, "x")


def test_a_stream() -> None:
    with LocalRuntime(Async()) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m", max_buffered=MEBIBYTE)
        memory = warm(client)
        with client.stream("x") as run:
            for message in run:
                memory.see(message)
            assert run.result.text == "done"
        memory.check()
        assert memory.seen == MESSAGES


def test_messages_that_nobody_looks_at() -> None:
    with LocalRuntime(Plain()) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m", max_buffered=MEBIBYTE)
        memory = warm(client)
        assert client.query("x").text == "done"
        memory.check()


@needs("claude_agent_sdk")
def test_claude(tmp_path: Path) -> None:
    claude = FakeClaude(tmp_path / "bin")
    claude.plays(ends())
    with LocalRuntime("claude", root=str(tmp_path)) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="m", max_buffered=MEBIBYTE, agent_env={"PATH": claude.path})
        # Once, for all that the SDK imports and makes only once.
        client.query("x")
        claude.plays({"says_often": [MESSAGES, LENGTH // 2]}, ends())
        memory = Memory()
        assert client.query("x", on_assistant_message=memory.see).text == "Done."
        memory.check()
        assert memory.seen == MESSAGES
