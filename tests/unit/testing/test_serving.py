"""A fake runtime that is served by a WebSocket, and the environment variable that leads to a runtime."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import unittest
from typing import Any

import pytest

from runtimeuse_sync import RuntimeConnectionError, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime
from runtimeuse_sync.testing import FakeRuntime, assistant_message, text_result, use_runtime, wait_for

from ...support.servers import PATIENCE

URL = "RUNTIMEUSE_WS_URL"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3_000_001])
def test_messages_of_any_size_both_ways(size: int) -> None:
    with FakeRuntime(lambda request: text_result(request["user_prompt"])) as fake, fake.serve() as url:
        prompt = "é" + "a" * size
        assert RuntimeUseClient(url, model="m").query(prompt, timeout=60).text == prompt


def test_many_clients_at_once() -> None:
    with FakeRuntime(lambda request: text_result(request["user_prompt"])) as fake, fake.serve() as url:
        client = RuntimeUseClient(url, model="m")
        calls = [client.submit(str(number), timeout=60) for number in range(20)]
        assert [call.result().text for call in calls] == [str(number) for number in range(20)]


def test_leaving_ends_the_connections_and_the_port() -> None:
    event = threading.Event()
    fake = FakeRuntime([[assistant_message("x"), wait_for(event)]])
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fake.serve())
        idle = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), PATIENCE)
        with idle, RuntimeUseClient(url, model="m").stream("p") as run:
            assert run.next(timeout=60) is not None
            stack.close()
            assert idle.recv(1) == b""
            with pytest.raises(RuntimeConnectionError):
                run.next(timeout=60)
    with pytest.raises(RuntimeConnectionError):
        RuntimeUseClient(url, model="m", connect_timeout=0.1).query("p")


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"x" * 70000, b""])
def test_what_is_no_handshake_is_refused(said: bytes) -> None:
    with FakeRuntime() as fake, fake.serve() as url:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), PATIENCE) as sock:
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while True:
                    received = sock.recv(4096)
                    answer += received
                    if not received:
                        break
            except ConnectionResetError:
                pass  # the server closed without reading all of it
            assert answer == b"" or answer.startswith(b"HTTP/1.1 426 ")
        # It goes on.
        fake.expect("fine")
        assert RuntimeUseClient(url, model="m").query("p", timeout=60).text == "fine"


def test_the_environment_variable_leads_to_a_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "ws://before")
    with FakeRuntime([text_result("fine")]) as fake, use_runtime(fake) as url:
        assert os.environ[URL] == url
        assert RuntimeUseClient(model="m").query("p", timeout=60).text == "fine"
    assert os.environ[URL] == "ws://before"


def test_the_environment_variable_leads_to_a_local_runtime_or_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL, raising=False)
    with LocalRuntime(agent="echo") as runtime, use_runtime(runtime) as url:
        assert url == runtime.ws_url
        assert RuntimeUseClient(model="m").query("p", timeout=60).text == "p"
    assert URL not in os.environ
    context = use_runtime("ws://h:1")
    context.__enter__()
    assert os.environ[URL] == "ws://h:1"
    # As if its body had raised.
    assert not context.__exit__(LookupError, LookupError(), None)
    assert URL not in os.environ


def test_it_cannot_lead_to_what_is_no_runtime() -> None:
    with pytest.raises(TypeError, match=r"runtime must be a LocalRuntime, a FakeRuntime or a URL \(str\), not int"):
        use_runtime(3).__enter__()
    with pytest.raises(RuntimeError, match="the runtime is not running"):
        use_runtime(LocalRuntime()).__enter__()


def test_in_unittest() -> None:
    seen = []

    class Case(unittest.TestCase):
        def setUp(self) -> None:
            self.fake = FakeRuntime()
            for context in (use_runtime(self.fake), self.fake):
                context.__enter__()
                self.addCleanup(context.__exit__, None, None, None)

        def test_as_expected(self) -> None:
            self.fake.expect_query("p", "fine")
            seen.append(RuntimeUseClient(model="m").query("p", timeout=60).text)

        def test_not_as_expected(self) -> None:
            self.fake.expect_query("p", "fine")

    result: Any = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert (result.testsRun, seen, len(result.failures), result.errors) == (2, ["fine"], 1, [])
    assert "- query 'p'" in result.failures[0][1]
