"""Agents of every form: what they are given, what they may return, what they send, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from pathlib import Path
from typing import Any, List, Optional

import pytest

from runtimeuse_sync.results import StructuredOutputResult, TextResult
from runtimeuse_sync.runtime import AsyncSender, Invocation, LocalRuntime, RequestFailedError, Sender

from .conftest import Connect
from .wire import FORMAT


class PlainAgent:
    def run(self, invocation: Invocation, sender: Sender) -> str:
        return "plain"


class Unmakable:
    def __init__(self) -> None:
        raise RuntimeError("not today")


class AsyncAgent:
    async def run(self, invocation: Invocation, sender: AsyncSender) -> str:
        return "async"


class AsyncCallable:
    async def __call__(self, invocation: Invocation, sender: AsyncSender) -> str:
        return "async callable"


def plain_function(invocation: Invocation, sender: Sender) -> str:
    return "plain function"


async def async_function(invocation: Invocation, sender: AsyncSender, *, suffix: str = "") -> str:
    return "async function" + suffix


@pytest.mark.parametrize(
    ("agent", "answer"),
    [
        (PlainAgent(), "plain"),
        (PlainAgent, "plain"),
        (AsyncAgent(), "async"),
        (AsyncCallable(), "async callable"),
        (plain_function, "plain function"),
        (async_function, "async function"),
        (functools.partial(async_function, suffix="!"), "async function!"),
        (lambda invocation, sender: "lambda", "lambda"),
        (f"{__name__}:PlainAgent", "plain"),
        (f"{__name__}:async_function", "async function"),
    ],
)
def test_what_can_be_an_agent(talk: Connect, agent: Any, answer: str) -> None:
    assert talk(agent).query()[0]["data"] == {"type": "text", "text": answer}


@pytest.mark.parametrize(
    ("agent", "error", "said"),
    [
        ("no_such", ValueError, "echo, openai, shell or module:attribute"),
        ("no_such_module_at_all:run", ImportError, "no_such_module_at_all"),
        (f"{__name__}:no_such", ImportError, "no_such"),
        (f"{__name__}:FORMAT", TypeError, "not an agent"),
        (3, TypeError, "not an agent"),
        (Unmakable, TypeError, "cannot be created: RuntimeError: not today"),
    ],
)
def test_what_is_no_agent_is_said_at_the_start(agent: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        LocalRuntime(agent).start()


@pytest.mark.parametrize(
    ("result", "data", "metadata"),
    [
        ("x", {"type": "text", "text": "x"}, {}),
        ("", {"type": "text", "text": ""}, {}),
        ({"n": 1}, {"type": "structured_output", "structured_output": {"n": 1}}, {}),
        (TextResult("x"), {"type": "text", "text": "x"}, {}),
        (StructuredOutputResult({"n": 1}), {"type": "structured_output", "structured_output": {"n": 1}}, {}),
        (("x", {"usage": 3}), {"type": "text", "text": "x"}, {"usage": 3}),
        ("\ud800", {"type": "text", "text": "\ud800"}, {}),
    ],
)
def test_what_an_agent_may_return(talk: Connect, result: Any, data: Any, metadata: Any) -> None:
    answer = talk(lambda invocation, sender: result).query()
    assert answer == [{"message_type": "result_message", "data": data, "metadata": metadata}]


@pytest.mark.parametrize(
    "result", [None, 3, ["x"], ("x", "y"), ("x", {}, {}), {"n": object()}, {"n": float("nan")}, asyncio.sleep]
)
def test_anything_else_is_an_error(talk: Connect, result: Any) -> None:
    wire = talk(lambda invocation, sender: result)
    [answer] = wire.query()
    assert answer["message_type"] == "error_message"
    assert answer["metadata"]["error_name"] in ("TypeError", "ValueError")
    wire.assert_idle()


def test_a_plain_agent_that_returns_a_coroutine_is_told_so(talk: Connect) -> None:
    assert "async def" in talk(lambda invocation, sender: async_function(invocation, sender)).query()[0]["error"]


def test_an_agent_gets_what_the_client_sent(talk: Connect, tmp_path: Path) -> None:
    seen: List[Invocation] = []

    def agent(invocation: Invocation, sender: Sender) -> str:
        seen.append(invocation)
        return threading.current_thread().name

    fields = {"secrets_to_redact": ["hush"], "agent_env": {"A": "b"}, "output_format_json_schema_str": FORMAT}
    wire = talk(agent)
    assert wire.query("p", system_prompt="sp", model="gpt", **fields)[0]["data"]["text"] == "runtimeuse-agent"
    wire.query()
    first, second = seen
    assert (first.user_prompt, first.system_prompt, first.model) == ("p", "sp", "gpt")
    assert (first.env, first.secrets, first.root) == ({"A": "b"}, ["hush"], str(tmp_path))
    assert first.output_format is not None
    assert first.output_format["schema"] == first.output_schema
    assert not first.cancelled.is_set()
    assert (second.output_format, second.output_schema, second.env) == (None, None, {})
    assert "hush" not in repr(first)


def test_messages_of_plain_and_async_agents_come_in_order(talk: Connect) -> None:
    def plain(invocation: Invocation, sender: Sender) -> str:
        sender.send_assistant_message(["a", "b"])
        sender.send_assistant_message("c")
        return "done"

    async def asynchronous(invocation: Invocation, sender: AsyncSender) -> str:
        await sender.send_assistant_message(["a", "b"])
        await sender.send_assistant_message("c")
        return "done"

    for agent in (plain, asynchronous):
        messages = talk(agent).query()
        assert [message.get("text_blocks") for message in messages] == [["a", "b"], ["c"], None]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("it broke"), "ValueError"),
        (SystemExit("it broke"), "SystemExit"),
        (KeyboardInterrupt("it broke"), "KeyboardInterrupt"),
        (StopIteration("it broke"), None),
        (RequestFailedError("it broke"), "Error"),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_agents_exception_is_its_answer(talk: Connect, error: BaseException, name: Optional[str], kind: str) -> None:
    def plain(invocation: Invocation, sender: Sender) -> str:
        raise error from KeyError("the cause")

    async def asynchronous(invocation: Invocation, sender: AsyncSender) -> str:
        raise error from KeyError("the cause")

    wire = talk(plain if kind == "plain" else asynchronous)
    [answer] = wire.query()
    assert answer["message_type"] == "error_message"
    if name is not None:  # Python itself makes another exception of a StopIteration
        assert answer["error"] == "it broke"
        assert answer["metadata"]["error_name"] == name
        assert "it broke" in answer["metadata"]["stack"]
        assert answer["metadata"]["cause"] == "KeyError: 'the cause'"
    wire.assert_idle()


def test_the_error_for_a_missing_key_says_what_it_is(talk: Connect) -> None:
    def agent(invocation: Invocation, sender: Sender) -> str:
        raise KeyError("user")

    [answer] = talk(agent).query()
    assert (answer["error"], answer["metadata"]["error_name"]) == ("KeyError: 'user'", "KeyError")


def test_an_exceptions_metadata_is_cut(talk: Connect) -> None:
    def agent(invocation: Invocation, sender: Sender) -> str:
        raise ValueError("x" * 5000) from ValueError("y" * 5000)

    [answer] = talk(agent).query()
    assert answer["error"] == "x" * 5000
    assert len(answer["metadata"]["stack"]) == len(answer["metadata"]["cause"]) == 4000


def test_agents_log_without_secrets(talk: Connect, caplog: pytest.LogCaptureFixture) -> None:
    def agent(invocation: Invocation, sender: Sender) -> str:
        invocation.logger.warning("using %s and %s", "hunter2", invocation.env["KEY"])
        return ""

    with caplog.at_level(logging.DEBUG):
        talk(agent).query(secrets_to_redact=["hunter2"], agent_env={"KEY": "key-value"})
    [record] = [record for record in caplog.records if record.name == "runtimeuse_sync.runtime"]
    assert record.getMessage() == "using [REDACTED] and [REDACTED]"
    assert record.filename == "test_agents.py"


def test_the_agents_module_is_imported_from_the_path(
    talk: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_agent_module.py").write_text("class Holder:\n    run = staticmethod(lambda i, s: 'mine')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert talk("my_agent_module:Holder").query()[0]["data"]["text"] == "mine"
    finally:
        sys.modules.pop("my_agent_module", None)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def run(:", r"SyntaxError: .*\(my_broken_agent.py, line 1\)"),
        ("import sys; sys.exit(7)", "SystemExit: 7"),
    ],
)
def test_a_module_that_fails_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    (tmp_path / "my_broken_agent.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=f"the agent's module 'my_broken_agent' cannot be imported: {said}"):
        LocalRuntime("my_broken_agent:run", root=str(tmp_path)).start()


def test_threads_of_a_plain_agent_may_all_send(talk: Connect) -> None:
    def agent(invocation: Invocation, sender: Sender) -> str:
        def send(name: str) -> None:
            for number in range(500):
                sender.send_assistant_message([name, str(number)])

        threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sender.send_assistant_message("last")
        return "done"

    messages = talk(agent).query()
    for name in "abcd":
        numbers = [message["text_blocks"][1] for message in messages[:-2] if message["text_blocks"][0] == name]
        assert numbers == [str(number) for number in range(500)]
    assert [message.get("text_blocks") for message in messages[-2:]] == [["last"], None]


def test_what_cannot_be_sent_is_the_senders_error(talk: Connect) -> None:
    def plain(invocation: Invocation, sender: Sender) -> str:
        with pytest.raises(TypeError, match="list of strings"):
            sender.send_assistant_message([3])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            sender.send_error_message("x", {"k": object()})
        return "done"

    async def asynchronous(invocation: Invocation, sender: AsyncSender) -> str:
        with pytest.raises(TypeError, match="list of strings"):
            await sender.send_assistant_message([3])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            await sender.send_error_message("x", {"k": object()})
        return "done"

    for agent in (plain, asynchronous):
        [answer] = talk(agent).query()
        assert answer["data"]["text"] == "done"


@pytest.mark.parametrize(
    ("text", "asked", "schema"),
    [
        ('{"type": "json_schema", "schema": {"x": 1}}', {"type": "json_schema", "schema": {"x": 1}}, {"x": 1}),
        ('{"type": "object"}', {"type": "object"}, {"type": "object"}),
        ("{}", {}, {}),
        ('{"schema": {"x": 1}}', {"schema": {"x": 1}}, {"schema": {"x": 1}}),
        ('{"type": "json_schema"}', {"type": "json_schema"}, None),
        ('["any", 1]', ["any", 1], None),
        ("true", True, None),
        ("null", None, None),
        ("", None, None),
    ],
)
def test_any_json_may_be_the_output_format(talk: Connect, text: str, asked: Any, schema: Any) -> None:
    seen: List[Any] = []

    def agent(invocation: Invocation, _: Sender) -> str:
        seen.append((invocation.output_format, invocation.output_schema))
        return "done"

    assert talk(agent).query("x", output_format_json_schema_str=text)[-1]["data"]["text"] == "done"
    assert seen == [(asked, schema)]
