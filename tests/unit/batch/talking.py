"""A runtime in memory for many runs, and the ways to run them."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any, Dict, Iterator, List

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.testing import HANG, FakeRuntime, command_results, error, text_result

from ...support.builders import wait
from ...support.servers import PATIENCE
from ...support.threads import when

Message = Dict[str, Any]


class Talking(FakeRuntime):
    """Answers any number of requests, each by its prompt: "fail…" by an error, "hang…" not at all.

    Attributes:
        let: "wait…" prompts are answered once this is set.
        most: How many requests were in flight at once.
    """

    def __init__(self) -> None:
        super().__init__([])
        self.let = threading.Event()
        self.arrived = threading.Semaphore(0)

    def _reply_to(self, request: Message) -> List[Message]:
        with self._lock:
            self.requests.append(request)
        self.arrived.release()
        if "commands" in request:
            return list(command_results(3)(request))
        prompt = request["user_prompt"]
        if prompt.startswith("fail"):
            return error(prompt)
        if prompt.startswith("hang"):
            return list(HANG)
        if prompt.startswith("wait"):
            wait(self.let)
        return text_result(prompt)

    def until_arrived(self, count: int) -> None:
        for _ in range(count):
            assert self.arrived.acquire(timeout=PATIENCE)


def wait_for_cancels(runtime: Talking, count: int) -> None:
    """Asserts that so many requests are cancelled: the client's thread may tell the runtime after the call."""
    when(lambda: runtime.cancelled >= count)
    assert runtime.cancelled == count


@pytest.fixture
def runtime() -> Talking:
    return Talking()


@pytest.fixture
def client(runtime: Talking) -> RuntimeUseClient:
    return RuntimeUseClient(transport=runtime, model="m")


@pytest.fixture(params=["own threads", "thread pool"])
def how(request: pytest.FixtureRequest) -> Iterator[Dict[str, Any]]:
    if request.param == "own threads":
        yield {}
        return
    with concurrent.futures.ThreadPoolExecutor(8, thread_name_prefix="runtimeuse-test") as executor:
        yield {"executor": executor}
