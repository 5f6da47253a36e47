"""The script of a fake runtime: what it expects, what it says of requests that are something else."""

from __future__ import annotations

import re
import textwrap
import time
from typing import Any, Dict
from unittest import mock

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    CommandFailedError,
    CommandInterface,
    ConnectionLostError,
    RuntimeUseClient,
)
from runtimeuse_sync.testing import (
    ANY,
    FakeRuntime,
    assistant_message,
    command_results,
    delay,
    lost_connection,
    structured_result,
    text_result,
)


def client_of(fake: FakeRuntime) -> RuntimeUseClient:
    return RuntimeUseClient(transport=fake, model="any")


def problems(fake: FakeRuntime) -> str:
    with pytest.raises(AssertionError) as caught:
        fake.verify()
    return str(caught.value)


def test_a_script_that_is_kept() -> None:
    with FakeRuntime() as fake:
        fake.expect_query("What is 2 + 2?", "4", model="gpt-4.1", system_prompt=re.compile("short"))
        fake.expect_commands(["make", re.compile("^pytest")], command_results(0, "3 passed"))
        fake.expect_commands("ls")
        fake.expect_query(lambda prompt: len(prompt) == 5, structured_result({"a": 1}), source_id=None)
        fake.expect(text_result("whatever"))
        fake.expect_query(reply="any query")
        fake.expect_commands()
        client = client_of(fake)
        assert client.query("What is 2 + 2?", model="gpt-4.1", system_prompt="Be short.").text == "4"
        assert client.execute_commands(["make", "pytest -q"]).results[1].stdout == "3 passed"
        assert client.execute_commands(["ls"]).results[0].exit_code == 0
        assert client.query("hello").structured_output == {"a": 1}
        assert client.query("x").text == "whatever"
        assert client.query("y").text == "any query"
        assert client.execute_commands(["a", "b"]).results[1].exit_code == 0
    assert len(fake.requests) == 7


@pytest.mark.parametrize(
    ("expected", "fields", "right", "wrong"),
    [
        ("a", {}, {}, {"prompt": "b"}),
        (re.compile("^a"), {}, {}, {"prompt": "ba"}),
        (ANY, {"model": "m"}, {"model": "m"}, {"model": "n"}),
        (mock.ANY, {"model": re.compile("gpt")}, {"model": "gpt-4.1"}, {"model": "n"}),
        ("a", {"agent_env": {"A": "b"}}, {"agent_env": {"A": "b"}}, {"agent_env": {"A": "c"}}),
        ("a", {"source_id": None}, {}, {"source_id": "s"}),
        ("a", {"model": lambda model: model != "n"}, {}, {"model": "n"}),
    ],
)
def test_what_a_query_must_be(expected: Any, fields: Dict[str, Any], right: Dict[str, Any], wrong: Any) -> None:
    for options, fits in ((right, True), (wrong, False)):
        fake = FakeRuntime()
        fake.expect_query(expected, "fine", **fields)
        options = {"prompt": "a", **options}
        if fits:
            assert client_of(fake).query(**options).text == "fine"
            fake.verify()
        else:
            with pytest.raises(AgentRuntimeError, match="did not expect query"):
                client_of(fake).query(**options)
            assert "1 not expected, 1 missing" in problems(fake)


@pytest.mark.parametrize(
    ("expected", "wrong"),
    [
        (["ls"], ["ls", "pwd"]),
        (["ls"], ["pwd"]),
        ([{"command": "ls", "cwd": "/b"}], [CommandInterface("ls", cwd="/a")]),
        ([{"command": re.compile("l"), "cwd": None}], [CommandInterface("ls", cwd="/a")]),
        ([lambda command: command == "ls"], ["pwd"]),
    ],
)
def test_what_commands_must_be(expected: Any, wrong: Any) -> None:
    fake = FakeRuntime()
    fake.expect_commands(expected)
    with pytest.raises(AgentRuntimeError, match="did not expect commands"):
        client_of(fake).execute_commands(wrong)
    with pytest.raises(AgentRuntimeError, match="did not expect query"):
        client_of(fake).query("ls")
    assert "2 not expected, 1 missing" in problems(fake)


def test_the_difference_is_shown_line_by_line() -> None:
    fake = FakeRuntime()
    fake.expect_query("first", "1")
    fake.expect_query("What is 2 + 2?", "4", model="gpt-4.1")
    fake.expect_commands(["make", re.compile("test")])
    client = client_of(fake)
    client.query("first")
    with pytest.raises(AgentRuntimeError):
        client.query("What is 2+2?", model="gpt-4o")
    expected = """
        the requests are not those that FakeRuntime expected (1 not expected, 2 missing):
          - expected
          + received

          query 'first'
        - query 'What is 2 + 2?' (model='gpt-4.1')
        + query 'What is 2+2?' (model='gpt-4o')
        - commands ['make', matching 'test']
        """
    shown = problems(fake).split("\n")
    # Below a line that differs, there are marks where it does.
    assert any(line.startswith("? ") and "^" in line for line in shown)
    assert [line for line in shown if not line.startswith("?")] == textwrap.dedent(expected).strip("\n").split("\n")


def test_a_request_that_was_not_expected_fails_the_test_although_the_code_hides_it() -> None:
    with pytest.raises(AssertionError, match="1 not expected"), FakeRuntime() as fake:
        with pytest.raises(AgentRuntimeError, match="no reply left for request number 1"):
            client_of(fake).query("x")


def test_what_the_body_raises_comes_first() -> None:
    with pytest.raises(LookupError), FakeRuntime([text_result("unused")]):
        raise LookupError


def test_secrets_are_not_shown() -> None:
    fake = FakeRuntime()
    fake.expect_query("x", "y", agent_env={"KEY": "s3cret-1"})
    with pytest.raises(AgentRuntimeError) as caught:
        client_of(fake).query("say s3cret-2 s3cret-1", agent_env={"KEY": "s3cret-1"}, secrets_to_redact=["s3cret-2"])
    for text in (str(caught.value), problems(fake)):
        assert "s3cret" not in text
        assert "[REDACTED]" in text


def test_secrets_of_what_is_missing_are_not_shown_either() -> None:
    fake = FakeRuntime()
    fake.expect_query("x", agent_env={"KEY": "s3cret-1"}, secrets_to_redact=["s3cret-2"])
    fake.expect_commands([{"command": "make", "env": {"KEY": "s3cret-3"}}])
    # Cut in the middle, it would not be recognized.
    prompt = "x" * 190 + "s3cret-4-is-long" + "y" * 400
    with pytest.raises(AgentRuntimeError):
        client_of(fake).query(prompt, secrets_to_redact=["s3cret-4-is-long"])
    assert "s3cre" not in problems(fake)


def test_the_difference_of_many_requests_takes_no_time() -> None:
    fake = FakeRuntime()
    for number in range(300):
        fake.expect_query(f"Summarise the file number {number} in a sentence", "s", model="right")
    client = client_of(fake)
    for number in range(40):
        with pytest.raises(AgentRuntimeError):
            client.query(f"Summarise the file number {number} in a sentence", model="wrong")
    begun = time.process_time()
    shown = problems(fake).split("\n")
    assert time.process_time() - begun < 5
    assert sum(line.startswith("- ") for line in shown) == 300
    assert sum(line.startswith("+ ") for line in shown) == 40


def test_secrets_are_not_shown_when_a_reply_raises() -> None:
    def reply(request: Any) -> Any:
        raise LookupError(request["user_prompt"])

    fake = FakeRuntime(reply)
    with pytest.raises(AgentRuntimeError):
        client_of(fake).query("say s3cret", secrets_to_redact=["s3cret"])
    assert problems(fake) == "the reply to query 'say [REDACTED]' raised LookupError: say [REDACTED]"


def test_long_texts_are_cut() -> None:
    fake = FakeRuntime()
    with pytest.raises(AgentRuntimeError):
        client_of(fake).query("a" * 100_000)
    assert len(problems(fake)) < 1000


def test_a_function_for_all_requests() -> None:
    def answer(request: Any) -> Any:
        if "commands" in request:
            return command_results(3)(request)
        return request["user_prompt"].upper()

    other = FakeRuntime()
    other.answer_all(answer)
    for fake in (FakeRuntime(answer), other):
        with fake:
            assert client_of(fake).query("a").text == "A"
            with pytest.raises(CommandFailedError):
                client_of(fake).execute_commands(["a"])
            assert client_of(fake).query("b").text == "B"
        assert len(fake.requests) == 3


@pytest.mark.parametrize("made", [None, 3, assistant_message("a dict")])
def test_a_function_that_returns_no_reply(made: Any) -> None:
    fake = FakeRuntime(lambda _: made)
    with pytest.raises(AgentRuntimeError, match=f"the reply's function returned a {type(made).__name__}"):
        client_of(fake).query("a")
    assert "the reply to query 'a' raised TypeError" in problems(fake)


@pytest.mark.parametrize("how", ["function", "generator"])
def test_a_function_that_raises_fails_the_test_although_the_code_hides_it(how: str) -> None:
    def function(_: Any) -> Any:
        raise LookupError("nope")

    def generator(_: Any) -> Any:
        yield assistant_message("x")
        raise LookupError("nope")

    fake = FakeRuntime([function if how == "function" else generator])
    with pytest.raises(AgentRuntimeError, match="LookupError: nope") as caught:
        client_of(fake).query("a")
    assert isinstance(caught.value.__cause__, LookupError)
    assert problems(fake) == "the reply to query 'a' raised LookupError: nope"


@pytest.mark.parametrize(
    "fake",
    [
        FakeRuntime([lost_connection(), text_result("next")]),
        FakeRuntime(lambda request: lost_connection() if request["user_prompt"] == "a" else "next"),
    ],
    ids=["a script", "a function"],
)
def test_a_single_step_is_a_reply(fake: FakeRuntime) -> None:
    client = client_of(fake)
    with pytest.raises(ConnectionLostError, match="the fake runtime broke the connection"):
        client.query("a")
    assert client.query("b").text == "next"


def test_each_way_to_expect_takes_a_single_step() -> None:
    with FakeRuntime() as fake:
        fake.expect(lost_connection())
        fake.expect_query("b", lost_connection())
        fake.expect_commands("c", lost_connection())
        client = client_of(fake)
        for call in (lambda: client.query("a"), lambda: client.query("b"), lambda: client.execute_commands(["c"])):
            with pytest.raises(ConnectionLostError):
                call()


@pytest.mark.parametrize("item", [None, "text", {"text": "no type"}, [assistant_message("nested")]])
@pytest.mark.parametrize("in_time", [False, True])
def test_an_item_that_is_none(item: Any, in_time: bool) -> None:
    fake = FakeRuntime([[delay(0), item] if in_time else [item]])
    with pytest.raises(AgentRuntimeError, match="a reply must be a list of messages"):
        client_of(fake).query("a")
    assert "the reply to query 'a' raised TypeError: a reply must be a list of messages" in problems(fake)


def test_bad_input() -> None:
    fake = FakeRuntime()
    with pytest.raises(TypeError, match=r"modell: a request has no such field; did you mean model\?"):
        fake.expect_query("x", "y", modell="m")
    with pytest.raises(TypeError, match="user_prompt: a request has no such field; there are source_id"):
        fake.expect_commands("x", user_prompt="m")
    with pytest.raises(TypeError, match="prompt must be a str, a pattern or a function, not list"):
        fake.expect_query(["x"], "y")
    with pytest.raises(TypeError, match="commands must be strs, patterns, dicts or functions, not int"):
        fake.expect_commands(["x", 3])
    for reply in (3, None, assistant_message("a dict")):
        with pytest.raises(TypeError, match=f"reply must be a list of messages.*not {type(reply).__name__}"):
            fake.expect(reply)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="reply must be a function of the request, not list"):
        fake.answer_all([])  # type: ignore[arg-type]  # that is the point
    for replies in ("4", text_result("4"), text_result("4")[0], delay(1)):
        with pytest.raises(TypeError, match="replies must be a list of replies"):
            FakeRuntime(replies)  # type: ignore[arg-type]  # that is the point
    fake.answer_all(lambda _: text_result("x"))
    with pytest.raises(ValueError, match="either expect requests or answer all"):
        fake.expect("x")
    with pytest.raises(ValueError, match="either expect requests or answer all"):
        FakeRuntime([text_result("4")]).answer_all(lambda _: [])
