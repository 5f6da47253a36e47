"""REPL-short: calls that are short enough for a REPL."""

from __future__ import annotations

from typing import Any

import pytest

from runtimeuse_sync import CommandInterface, ExecuteCommandsOptions, QueryOptions, RuntimeUseClient

from ..support.builders import Serve, echo


def test_a_client_that_knows_a_model(serve: Serve) -> None:
    server = serve(echo)
    client = RuntimeUseClient(server.url, model="gpt-4.1", system_prompt="be brief")
    assert client.query("What is 2+2").text == "What is 2+2"
    assert [item.command for item in client.execute_commands(["ls", CommandInterface("pwd")]).results] == ["ls", "pwd"]
    said = server.said("invocation_message")[0]
    assert (said["model"], said["system_prompt"]) == ("gpt-4.1", "be brief")


def test_options_keywords_and_defaults(serve: Serve) -> None:
    server = serve(echo)
    client = RuntimeUseClient(server.url, model="default", system_prompt="default")
    options = QueryOptions(model="option", source_id="option")
    client.query("1", model="keyword")
    client.query("2", options)
    client.query("3", options, model="keyword", timeout=60)
    client.query("4", options=options, system_prompt="")
    assert options == QueryOptions(model="option", source_id="option")
    shown = [
        (said["model"], said["system_prompt"], said.get("source_id")) for said in server.said("invocation_message")
    ]
    assert shown == [
        ("keyword", "default", None),
        ("option", "default", "option"),
        ("keyword", "default", "option"),
        ("option", "", "option"),
    ]


def test_sessions_and_streams_know_the_defaults_too(serve: Serve) -> None:
    server = serve(echo)
    client = RuntimeUseClient(server.url, model="default")
    with client.session() as session, session.stream("1") as run:
        assert run.result.text == "1"
    with client.stream("2", source_id="me") as run:
        assert run.result.text == "2"
    with client.stream_commands(["ls"]) as commands:
        assert commands.result.results[0].command == "ls"
    assert [said["model"] for said in server.said("invocation_message")] == ["default", "default"]


def test_the_url_of_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIMEUSE_WS_URL", serve(echo).url)
    assert RuntimeUseClient(model="m").query("hi").text == "hi"
    other = serve(echo)
    assert RuntimeUseClient(other.url, model="m").query("hi").text == "hi"
    assert len(other.peers) == 1


#: For arguments of types that type checkers would refuse.
make: Any = RuntimeUseClient


@pytest.mark.parametrize("value", [None, ""])
def test_no_url_at_all(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    monkeypatch.delenv("RUNTIMEUSE_WS_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("RUNTIMEUSE_WS_URL", value)
    with pytest.raises(ValueError, match="RUNTIMEUSE_WS_URL"):
        RuntimeUseClient()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://x",
        "ws://",
        "localhost:8080",
        "ws://a b",
        "ws://x:y",
        "ws://x\n",
        "ws://host/#token",
        "ws://host:0",
        "ws://host/\ud800",
        "ws://us\ud800er@host",
    ],
)
def test_an_invalid_url(url: str) -> None:
    with pytest.raises(ValueError, match="ws_url"):
        RuntimeUseClient(url)


def test_no_model() -> None:
    with pytest.raises(ValueError, match="model"):
        RuntimeUseClient("ws://127.0.0.1:1").query("hi")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda c: c.query("hi", tmieout=1), "tmieout"),
        (lambda c: c.query(""), "prompt"),
        (lambda c: c.query(1), "prompt"),
        (lambda c: c.query("hi", ExecuteCommandsOptions()), "options"),
        (lambda c: c.query("hi", {"model": "m"}), "options"),
        (lambda c: c.query("hi", timeout="1"), "timeout"),
        (lambda c: c.query("hi", timeout=True), "timeout"),
        (lambda c: c.query("hi", output_format_json_schema_str="{"), "output_format_json_schema_str"),
        (lambda c: c.execute_commands(""), "commands"),
        (lambda c: c.execute_commands(1), "commands"),
        (lambda c: c.execute_commands([]), "commands"),
        (lambda c: c.execute_commands([1]), "commands"),
        (lambda c: c.execute_commands([""]), "commands"),
        (lambda c: c.execute_commands(["ls"], model="m"), "model"),
        (lambda c: make("ws://x", modle="m"), "modle"),
        (lambda c: make(transport=lambda send_queue: iter(()), modle="m"), "modle"),
        (lambda c: make("ws://x", connect_timeout="1"), "connect_timeout"),
        (lambda c: make("ws://x", max_message_size=0), "max_message_size"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_sent(call: Any, named: str) -> None:
    with pytest.raises((TypeError, ValueError), match=named):
        call(RuntimeUseClient("ws://127.0.0.1:1", model="m"))


def test_a_scheme_in_capitals(serve: Serve) -> None:
    server = serve(echo)
    assert RuntimeUseClient(f"WS://127.0.0.1:{server.port}", model="m").query("hi").text == "hi"
